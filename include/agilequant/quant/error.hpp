/// \file
/// How far a quantized tensor is from the original: mean square error and signal-to-noise ratio, in double.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>

#include "agilequant/core/exact_float.hpp"

namespace aq {

/// Sum of x^2 over x [count].
[[nodiscard]] inline double sum_of_squares(const float* x, std::size_t count) noexcept {
    double sum = 0.0;
    for (std::size_t i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    return sum;
}

/// Mean of (x - y)^2 over x, y [count]; 0 where there are none.
[[nodiscard]] inline double mean_square_error(const float* x, const float* y, std::size_t count) noexcept {
    double sum = 0.0;
    for (std::size_t i = 0; i < count; ++i) {
        const double e = static_cast<double>(x[i]) - static_cast<double>(y[i]);
        sum += rounded(e * e);
    }
    return count == 0 ? 0.0 : sum / static_cast<double>(count);
}

/// 10 log10(sum x^2 / sum (x - y)^2) in decibels, y [count] being the approximation of x [count]; infinity where they are equal.
[[nodiscard]] inline double signal_to_noise_db(const float* x, const float* y, std::size_t count) noexcept {
    const double noise = mean_square_error(x, y, count) * static_cast<double>(count);
    if (noise == 0.0) return std::numeric_limits<double>::infinity();
    return 10.0 * std::log10(sum_of_squares(x, count) / noise);
}

}  // namespace aq
