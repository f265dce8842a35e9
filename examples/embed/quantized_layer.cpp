#include "quantized_layer.hpp"

#include <stdexcept>

namespace {

void need(aq::status s) {
    if (s != aq::status::ok) throw std::runtime_error(aq::message(s));
}

}  // namespace

quantized_layer::quantized_layer(const engine::matrix& weights) {
    need(aq::choose_kernels(kernels_));  // the best instruction set of this processor
    need(weights_.assign({weights.values.data(), weights.rows, weights.cols}));
}

engine::matrix quantized_layer::multiply(const engine::matrix& x) const {
    const aq::matrix_view<const float> input(x.values.data(), x.rows, x.cols);
    const auto weights = weights_.view();
    aq::quantized_rows codes;  // owns the memory that they take; a real engine keeps it from call to call
    need(codes.assign(*kernels_, input, weights.weights.layout, aq::activation_format{}));

    engine::matrix y(x.rows, weights.weights.n);
    need(aq::gemm(*kernels_, weights, codes.view(), {y.values.data(), y.rows, y.cols}));
    return y;
}
