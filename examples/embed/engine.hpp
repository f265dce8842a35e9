// A little inference engine that was there before: its own matrix, its own loops, all in float. It knows nothing of quantization.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace engine {

struct matrix {
    std::size_t rows = 0, cols = 0;
    std::vector<float> values;  // row-major

    matrix(std::size_t r, std::size_t c) : rows(r), cols(c), values(r * c) {}
    float* row(std::size_t r) { return values.data() + r * cols; }
    const float* row(std::size_t r) const { return values.data() + r * cols; }
};

// y[m,n] = x[m,k] w[n,k]^T
inline matrix multiply(const matrix& x, const matrix& w) {
    matrix y(x.rows, w.rows);
    for (std::size_t i = 0; i < x.rows; ++i) {
        for (std::size_t j = 0; j < w.rows; ++j) {
            for (std::size_t k = 0; k < x.cols; ++k) y.row(i)[j] += x.row(i)[k] * w.row(j)[k];
        }
    }
    return y;
}

// A perceptron with two hidden layers; `middle` multiplies by the weights between them, which hold nine tenths of the parameters.
template <class Middle>
matrix forward(const matrix& x, const matrix& first, Middle middle, const matrix& last) {
    const auto activate = [](matrix m) {
        for (float& v : m.values) v = std::tanh(v);
        return m;
    };
    return multiply(activate(middle(activate(multiply(x, first)))), last);
}

}  // namespace engine
