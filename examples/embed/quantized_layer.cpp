#include "quantized_layer.hpp"

#include <agilequant/dispatch/dispatch.hpp>
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
    const aq::k_layout_view layout = weights.weights.layout;
    const aq::activation_format eight_bits;

    // The memory for quantized activations is the caller's; a real engine keeps it from call to call.
    aq::aligned_buffer<std::byte> storage;
    need(storage.reset(aq::activation_bytes(x.rows, layout)));
    aq::activations_view codes;
    need(aq::place_activations(x.rows, layout, eight_bits, storage.data(), storage.size(), codes));
    need(aq::quantize_rows(*kernels_, input, layout, eight_bits, {0, x.rows}, nullptr, 0, codes));

    engine::matrix y(x.rows, weights.weights.n);
    need(aq::gemm(*kernels_, weights, codes, {y.values.data(), y.rows, y.cols}));
    return y;
}
