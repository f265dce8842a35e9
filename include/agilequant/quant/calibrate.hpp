/// \file
/// Ranges of a slice, from which scale and zero point follow: extremes, a percentile, or the clip with the least mean square error.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/quant/uniform.hpp"

namespace aq {

enum class range_search {
    min_max,      ///< the extremes: nothing is clipped
    mean_square,  ///< of 20 clips of the extremes, 1.00 down to 0.43 of them in steps of 0.03, the one with the least squared error
};

/// Scale and zero point of a range.
[[nodiscard]] inline affine fit(value_range range, code_range codes, bool is_asymmetric) noexcept {
    return is_asymmetric ? fit_asymmetric(range, codes) : fit_symmetric(range, codes);
}

/// Sum of (x - x^)^2 in double.
[[nodiscard]] inline double squared_error(const float* x, std::size_t count, affine a, code_range codes) noexcept {
    double sum = 0.0;
    for (std::size_t i = 0; i < count; ++i) {
        const double e =
            static_cast<double>(made_finite(x[i])) - static_cast<double>(decode(encode(x[i], 1.0F / a.scale, a.zero, codes), a));
        sum += rounded(e * e);
    }
    return sum;
}

/// The clip of the extremes with the least squared error, the widest of equal ones.
[[nodiscard]] inline value_range least_error_range(const float* x, std::size_t count, code_range codes,
                                                   bool is_asymmetric) noexcept {
    const value_range whole = range_of(x, count);
    value_range best = whole;
    double least = squared_error(x, count, fit(whole, codes, is_asymmetric), codes);
    for (int i = 1; i < 20; ++i) {
        const float clip = 1.0F - rounded(0.03F * static_cast<float>(i));
        const value_range r = clipped(whole, clip);
        const double e = squared_error(x, count, fit(r, codes, is_asymmetric), codes);
        if (e < least) {
            least = e;
            best = r;
        }
    }
    return best;
}

/// Scale and zero point of x [count].
[[nodiscard]] inline affine fit(const float* x, std::size_t count, code_range codes, bool is_asymmetric,
                                range_search search) noexcept {
    return fit(search == range_search::mean_square ? least_error_range(x, count, codes, is_asymmetric) : range_of(x, count),
               codes, is_asymmetric);
}

/// The range without the outermost values: of the sorted x [count], high is the one at rank ceil(percent / 100 * (count - 1)),
/// low the one at the mirrored rank, count - 1 minus that; zero is included. 50 <= percent <= 100, and 100 is the extremes.
/// `scratch` [count] is overwritten.
[[nodiscard]] inline value_range percentile_range(const float* x, std::size_t count, double percent, float* scratch) noexcept {
    if (count == 0) return {};
    for (std::size_t i = 0; i < count; ++i) scratch[i] = made_finite(x[i]);
    const double share = std::min(100.0, std::max(50.0, percent)) / 100.0;  // in this order NaN becomes 50
    const std::size_t high = static_cast<std::size_t>(std::ceil(share * static_cast<double>(count - 1)));
    const std::size_t low = count - 1 - high;
    std::nth_element(scratch, scratch + high, scratch + count);
    const float top = scratch[high];
    std::nth_element(scratch, scratch + low, scratch + count);
    return including(including(value_range{}, top), scratch[low]);
}

}  // namespace aq
