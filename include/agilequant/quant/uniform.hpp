/// \file
/// The uniform quantizer, 2 to 8 bits, symmetric or asymmetric: the scalar definition that every kernel equals.
///
///     asymmetric   s = (max - min) / (high - low),  z = clip(round(low - min / s), low, high)
///     symmetric    s = max|x| / high,               z = 0
///     code         q = clip(round(x * (1 / s)) + z, low, high)         round: half to even
///     value        x^ = s (q - z)
///
/// Agile-Quant section 3 (asymmetric, low = 0). Ours: the reciprocal instead of a division, so that a vector unit does not
/// wait for its divider; and three rules that keep every input legal. The range always includes zero, which is therefore
/// exact. A slice whose scale would be below 2^-124 counts as all zero: scale 1, every code the zero point. NaN counts as 0
/// and magnitudes above 2^126 as 2^126, so that neither scale nor code is ever NaN or infinite.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agilequant/core/bits.hpp"
#include "agilequant/core/exact_float.hpp"
#include "agilequant/quant/granularity.hpp"

namespace aq {

/// Scale and zero point of a slice.
struct affine {
    float scale = 1.0F;
    std::int32_t zero = 0;
};

/// The smallest and the largest value of a slice; always includes zero.
struct value_range {
    float low = 0.0F, high = 0.0F;

    [[nodiscard]] AQ_INLINE float magnitude() const noexcept { return -low > high ? -low : high; }
};

inline constexpr float largest_value = 0x1p126F;
inline constexpr float smallest_scale = 0x1p-124F;

/// NaN becomes 0, and what is beyond +-2^126 that bound.
[[nodiscard]] AQ_INLINE float made_finite(float x) noexcept {
    x = x == x ? x : 0.0F;
    x = x < largest_value ? x : largest_value;
    return x > -largest_value ? x : -largest_value;
}

/// `range` widened to hold x.
[[nodiscard]] AQ_INLINE value_range including(value_range range, float x) noexcept {
    x = made_finite(x);
    return {x < range.low ? x : range.low, x > range.high ? x : range.high};
}

[[nodiscard]] inline value_range range_of(const float* x, std::size_t count, std::size_t stride = 1) noexcept {
    value_range range;
    for (std::size_t i = 0; i < count; ++i) range = including(range, x[i * stride]);
    return range;
}

/// `share` of a range, 0 < share <= 1. Rounded, so that no compiler takes the products into the difference of the two ends.
[[nodiscard]] AQ_INLINE value_range clipped(value_range range, float share) noexcept {
    return {rounded(range.low * share), rounded(range.high * share)};
}

/// x * (1/s), rounded half to even and clipped to +-2^20 so that the zero point can be added to it.
[[nodiscard]] AQ_INLINE int nearest_step(float x, float inverse_scale) noexcept {
    constexpr float limit = 1048576.0F;
    float v = rounded(made_finite(x) * inverse_scale);
    v = v < limit ? v : limit;
    v = v > -limit ? v : -limit;
    return static_cast<int>(round_half_even(v));
}

[[nodiscard]] AQ_INLINE int clip(int v, code_range r) noexcept { return v < r.low ? r.low : v > r.high ? r.high : v; }

/// Scale for codes symmetric about zero.
[[nodiscard]] AQ_INLINE affine fit_symmetric(value_range range, code_range codes) noexcept {
    const float scale = range.magnitude() / static_cast<float>(codes.high);
    return scale < smallest_scale ? affine{} : affine{scale, 0};
}

/// Scale and zero point for codes that spread over the whole range.
[[nodiscard]] AQ_INLINE affine fit_asymmetric(value_range range, code_range codes) noexcept {
    const float scale = (range.high - range.low) / static_cast<float>(codes.steps());
    if (scale < smallest_scale) return affine{1.0F, codes.low};
    return affine{scale, clip(codes.low - nearest_step(range.low, 1.0F / scale), codes)};
}

[[nodiscard]] AQ_INLINE int encode(float x, float inverse_scale, std::int32_t zero, code_range codes) noexcept {
    return clip(nearest_step(x, inverse_scale) + zero, codes);
}

[[nodiscard]] AQ_INLINE float decode(int code, affine a) noexcept { return a.scale * static_cast<float>(code - a.zero); }

struct symmetric {};
struct asymmetric {};

/// The uniform quantizer as a type: width, symmetry and granularity. What packed matrices carry.
template <int Bits, class Symmetry = asymmetric, class Granularity = per_channel>
struct uniform {
    static_assert(is_granularity_v<Granularity>, "aq: the third argument is per_tensor, per_token, per_channel or group<N>.");
    static constexpr int width = bits<Bits>::value;
    static constexpr bool is_asymmetric = std::is_same_v<Symmetry, asymmetric>;
    static_assert(is_asymmetric || std::is_same_v<Symmetry, symmetric>, "aq: the second argument is symmetric or asymmetric.");
    static constexpr code_range codes = is_asymmetric ? unsigned_codes(Bits) : signed_codes(Bits);
    using granularity = Granularity;

    [[nodiscard]] static affine fit(value_range range) noexcept {
        if constexpr (is_asymmetric) return fit_asymmetric(range, codes);
        else return fit_symmetric(range, codes);
    }
    [[nodiscard]] static int encode(float x, affine a) noexcept { return aq::encode(x, 1.0F / a.scale, a.zero, codes); }
    [[nodiscard]] static float decode(int code, affine a) noexcept { return aq::decode(code, a); }
};

}  // namespace aq
