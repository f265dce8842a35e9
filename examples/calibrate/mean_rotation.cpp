#include "calibrate/mean_rotation.hpp"

#include <cmath>
#include <cstdint>

#include "agilequant/core/exact_float.hpp"
#include "agilequant/elementwise/hadamard.hpp"

namespace aq::example {

namespace {

/// x [order,width] = the Hadamard matrix of a power of two, with entries of +-1, times x.
void unscaled_hadamard(double* x, std::size_t order, std::size_t width) noexcept {
    for (std::size_t half = width; half < order * width; half *= 2) {
        for (double* p = x; p < x + order * width; p += 2 * half) {
            for (std::size_t i = 0; i < half; ++i) {
                const double a = p[i], b = p[half + i];
                p[i] = a + b;
                p[half + i] = a - b;
            }
        }
    }
}

void scale(double* x, std::size_t count, double factor) noexcept {
    for (std::size_t i = 0; i < count; ++i) x[i] *= factor;
}

/// Whether the bent sequence is negative at k, of a block of 2^bits: the parity of x . y.
bool is_negative(std::size_t k, unsigned bits) noexcept {
    const unsigned half = bits / 2;
    std::size_t both = k & (k >> half) & ((std::size_t{1} << half) - 1);
    bool odd = false;
    for (; both != 0; both &= both - 1) odd = !odd;
    return odd;
}

/// x [order,width] = H S H x, where the order is a power of two: the two roots make an exact power of two.
void spread(double* x, std::size_t order, std::size_t width) noexcept {
    unsigned bits = 0;
    while (std::size_t{1} << bits < order) ++bits;
    unscaled_hadamard(x, order, width);
    for (std::size_t k = 0; k < order; ++k) {
        if (is_negative(k, bits)) scale(x + k * width, width, -1.0);
    }
    unscaled_hadamard(x, order, width);
    scale(x, order * width, 1.0 / static_cast<double>(order));
}

/// x [p,inner] = (2/p J - 1) x.
void reflect(double* x, std::size_t p, std::size_t inner) noexcept {
    for (std::size_t c = 0; c < inner; ++c) {
        double sum = 0.0;
        for (std::size_t i = 0; i < p; ++i) sum += x[i * inner + c];
        const double twice_mean = 2.0 * sum / static_cast<double>(p);
        for (std::size_t i = 0; i < p; ++i) x[i * inner + c] = twice_mean - x[i * inner + c];
    }
}

std::size_t least_factor(std::size_t odd) noexcept {
    for (std::size_t p = 3; p * p <= odd; p += 2) {
        if (odd % p == 0) return p;
    }
    return odd;
}

}  // namespace

void hadamard_columns(double* x, std::size_t rows, std::size_t width) noexcept {
    if (rows == 0) return;
    const std::size_t block = hadamard_block(rows);
    for (std::size_t r = 0; r < rows; r += block) unscaled_hadamard(x + r * width, block, width);
    scale(x, rows * width, 1.0 / std::sqrt(static_cast<double>(block)));
}

void mean_rotation::apply(double* x, std::size_t width) const noexcept {
    if (channels_ == 0) return;
    const std::size_t block = hadamard_block(channels_);
    for (std::size_t r = 0; r < channels_; r += block) spread(x + r * width, block, width);
    std::size_t inner = block;
    for (std::size_t left = channels_ / block; left > 1;) {
        const std::size_t p = least_factor(left);
        for (std::size_t r = 0; r < channels_; r += p * inner) reflect(x + r * width, p, inner * width);
        inner *= p;
        left /= p;
    }
}

}  // namespace aq::example
