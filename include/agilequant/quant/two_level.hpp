/// \file
/// Group scales as small integers over one float scale a row: s[n,g] = s[n] * m[n,g], after QServe's progressive quantization.
///
/// A product of two rows is then an exact integer, sum over g of m (sum (w - zero_w) a), times one float. |m (w - zero_w)| is at
/// most 127, so that a unit which wants 8-bit operands can be given m (w - zero_w) itself.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/quant/calibrate.hpp"

namespace aq {

/// How the scales of the groups of a row are held.
enum class group_scales {
    floats,    ///< one float a group
    integers,  ///< one float a row and an integer of 1..127 a group; for 7 bits and fewer
};

/// The largest multiplier that codes of this range around this zero point allow; at least 1 for 7 bits and fewer.
[[nodiscard]] constexpr int largest_multiplier(code_range codes, int zero) noexcept {
    const int below = zero - codes.low, above = codes.high - zero;
    const int farthest = below > above ? below : above;
    return farthest == 0 ? largest_scaled_code : largest_scaled_code / farthest;
}

namespace detail {

/// Whether a group has the scale 1 that slices of zeros get: a fitted scale of 1 needs a range of 0.4 and more.
[[nodiscard]] inline bool counts_as_zero(const float* x, std::size_t count, affine own) noexcept {
    const value_range range = range_of(x, count);
    return own.scale == 1.0F && range.high - range.low < 0.25F;
}

/// The group fitted with `multiplier` steps of the row's scale instead of its own; the multiplier falls until the codes allow it.
struct refitted {
    int multiplier;
    affine fit;
};

[[nodiscard]] inline refitted refit(affine own, float row_scale, int multiplier, code_range codes, bool is_asymmetric) noexcept {
    for (multiplier = std::max(multiplier, 1);; --multiplier) {
        const float scale = row_scale * static_cast<float>(multiplier);
        // the value at code `low` stays where it was
        const float low = own.scale * static_cast<float>(codes.low - own.zero);
        const int zero = is_asymmetric ? clip(codes.low - nearest_step(low, 1.0F / scale), codes) : own.zero;
        if (multiplier == 1 || multiplier <= largest_multiplier(codes, zero)) return {multiplier, {scale, zero}};
    }
}

}  // namespace detail

/// Fits one row of weights: x [k] in groups of `group`, with the scales and zero points that each group has by itself in
/// own[groups] -> multipliers [groups], zeros [groups], and the row's scale, which is the least with which no group needs more
/// than its largest multiplier. Of the two multipliers around a group's own scale the one with the smaller squared error is
/// taken. `codes` are the stored codes, of at most 7 bits. Ours.
[[nodiscard]] inline float fit_two_level(const float* x, std::size_t k, std::size_t group, const affine* own, code_range codes,
                                         bool is_asymmetric, std::uint8_t* multipliers, std::uint8_t* zeros) noexcept {
    const std::size_t groups = group_count(k, group);
    float row_scale = smallest_scale;
    for (std::size_t g = 0; g < groups; ++g) {
        if (detail::counts_as_zero(x + g * group, std::min(group, k - g * group), own[g])) continue;
        row_scale = std::max(row_scale, own[g].scale / static_cast<float>(largest_multiplier(codes, own[g].zero)));
    }
    for (std::size_t g = 0; g < groups; ++g) {
        const float* const values = x + g * group;
        const std::size_t count = std::min(group, k - g * group);
        // a group of zeros has the scale 1, which may be any multiple of the row's
        const int below = static_cast<int>(std::min(own[g].scale / row_scale, static_cast<float>(largest_scaled_code)));
        detail::refitted best = detail::refit(own[g], row_scale, below + 1, codes, is_asymmetric);
        const detail::refitted lower = detail::refit(own[g], row_scale, below, codes, is_asymmetric);
        if (squared_error(values, count, lower.fit, codes) <= squared_error(values, count, best.fit, codes)) best = lower;
        multipliers[g] = static_cast<std::uint8_t>(best.multiplier);
        zeros[g] = static_cast<std::uint8_t>(best.fit.zero);
    }
    return row_scale;
}

}  // namespace aq
