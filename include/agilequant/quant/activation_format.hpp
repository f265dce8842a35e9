/// \file
/// How the activations that enter a linear layer become codes: width, symmetry, and where scale and zero point come from. The scalar
/// definition of what kernels/quantize.hpp computes; TRIP's exponents (quant/trip.hpp) go beside it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agilequant/quant/trip.hpp"
#include "agilequant/quant/uniform.hpp"

namespace aq {

/// How activations are quantized: dynamically, one scale (and zero point) a token, or with `fixed` for all tokens.
struct activation_format {
    int bits = 8;  ///< 2..8
    bool is_asymmetric = false;
    bool is_static = false;
    affine fixed;  ///< calibrated scale and zero point where is_static; scale is that of exponent 0
    float clip =
        1.0F;  ///< share of a token's range that its codes span, where not static: in (0,1]; what is beyond takes the end codes
};

/// Whether a format's width is one there is, and its calibrated scale and zero point, or its clip, are such as there are.
[[nodiscard]] inline bool is_valid(const activation_format& f) noexcept {
    if (f.bits < 2 || f.bits > 8) return false;
    if (!f.is_static) return f.clip > 0.0F && f.clip <= 1.0F;  // not for NaN
    const code_range codes = activation_codes(f.bits, f.is_asymmetric);
    return f.fixed.scale >= smallest_scale && f.fixed.scale <= largest_value && f.fixed.zero >= codes.low &&
           f.fixed.zero <= codes.high;
}

/// Whether no code of a format is negative.
[[nodiscard]] inline bool is_unsigned(const activation_format& f) noexcept {
    return activation_codes(f.bits, f.is_asymmetric).low >= 0;
}

/// Scale and zero point of a token whose values, divided by their channels' powers of two, have this range. A clip of 1 changes no bit.
[[nodiscard]] AQ_INLINE affine fit_token(value_range range, const activation_format& f, code_range codes) noexcept {
    if (f.is_static) return f.fixed;
    range = clipped(range, f.clip);
    return f.is_asymmetric ? fit_asymmetric(range, codes) : fit_symmetric(range, codes);
}

/// A row x [k] quantized and back -> out [k], which may be x: bit for bit what the codes, scale and zero point of quantize_rows stand
/// for, as floats. `exponents` [k], or null for none. The format is valid.
inline void decode_as_coded(const float* x, std::size_t k, const std::uint8_t* exponents, const activation_format& f,
                            float* out) noexcept {
    const code_range codes = activation_codes(f.bits, f.is_asymmetric);
    const auto exponent = [exponents](std::size_t c) { return exponents == nullptr ? 0 : static_cast<int>(exponents[c]); };
    value_range range;
    if (!f.is_static) {
        for (std::size_t c = 0; c < k; ++c) range = including(range, made_finite(x[c]) * power_of_two(-exponent(c)));
    }
    const affine a = fit_token(range, f, codes);
    const float inverse = 1.0F / a.scale;
    for (std::size_t c = 0; c < k; ++c)
        out[c] = decode_trip(encode_trip(x[c], inverse, a.zero, exponent(c), codes), a, exponent(c));
}

}  // namespace aq
