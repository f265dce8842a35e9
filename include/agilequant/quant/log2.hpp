/// \file
/// The log2 quantizer: a probability becomes the exponent of its nearest power of two (or of sqrt 2). The scalar definition;
/// attention codes whole rows of scores by it, without their exponentials (kernels/attention.hpp). Not uniform codes.
///
///     code     r = round(-log2 p), clipped to 0..15;  15 means zero
///     value    p^ = 2^-code, 0 for code 15
///
/// Agile-Quant section 3; the nearest power is the nearest in the logarithm, so that p^ / p lies in [2^-1/2, 2^1/2] wherever p^ is not
/// zero. Ours: the paper has p^ = 0 where p < 2^-15.5, and 16 powers beside, which are 17 states for 4 bits. Here code 15 is
/// zero, so p^ = 0 where p < 2^-14.5; the paper's states stay below as `log2_state`. In steps of half an octave, p^ = 2^(-code/2).
/// Of a float the codes are exact: its exponent, and a comparison of its fraction with that of sqrt 2. Ties do not exist, sqrt 2
/// being irrational. p <= 0 and NaN become zero; p > 1 becomes code 0.
#pragma once

#include <cstdint>

#include "agilequant/core/bits.hpp"
#include "agilequant/core/exact_float.hpp"

namespace aq {

/// How attention treats its probabilities. Perplexity of a small model, its float figure 3.6923, and more: docs/attention.md.
enum class probability_coding {
    softmax,            ///< float, not coded
    log2_paper,         ///< the code of the probability
    log2_normalized,    ///< the same code; the result is divided by the sum of what was coded, as in all that follow
    log2_maximum,       ///< the code of the probability over the row's largest: needs neither sum nor logarithm
    log2_ceiling,       ///< over the power of two above the row's largest: a new maximum is a shift
    log2_half_maximum,  ///< steps of half an octave, over the row's largest
    log2_half_ceiling,  ///< steps of half an octave, over the power of two above the row's largest
};

/// What a coding is made of. Kernels ask these, never the name.
struct log2_form {
    enum class reference { sum, maximum, ceiling };
    bool is_coded = false;            ///< false: softmax
    bool is_divided = true;           ///< by the sum of what was coded
    reference over = reference::sum;  ///< what has exponent 0
    int steps = 1;                    ///< in an octave: 1 or 2

    /// What has exponent 0 may rise from one block of keys to the next: it is an integer, so what was summed is shifted, exactly.
    [[nodiscard]] constexpr bool is_one_pass() const noexcept { return !is_coded || over == reference::ceiling; }
};

[[nodiscard]] constexpr log2_form form_of(probability_coding coding) noexcept {
    using reference = log2_form::reference;
    switch (coding) {
        case probability_coding::softmax: break;
        case probability_coding::log2_paper: return {true, false, reference::sum, 1};
        case probability_coding::log2_normalized: return {true, true, reference::sum, 1};
        case probability_coding::log2_maximum: return {true, true, reference::maximum, 1};
        case probability_coding::log2_ceiling: return {true, true, reference::ceiling, 1};
        case probability_coding::log2_half_maximum: return {true, true, reference::maximum, 2};
        case probability_coding::log2_half_ceiling: return {true, true, reference::ceiling, 2};
    }
    return {};
}

inline constexpr int log2_zero = 15;  ///< the code of zero
inline constexpr float inverse_sqrt2 = 0.707106769F;

/// round(-log2 p), exact; 255 for p <= 0 and NaN. Below 2^-126 it is 126 or 127, which no code tells from zero.
[[nodiscard]] AQ_INLINE int nearest_exponent(float p) noexcept {
    constexpr std::uint32_t sqrt2 = 0x3504F3U;  // the fraction of the largest float below sqrt 2
    if (!(p > 0.0F)) return 255;
    return 127 - static_cast<int>((bits_of(p) + (0x7FFFFFU - sqrt2)) >> 23);
}

/// round(-2 log2 p), exact; 510 for p <= 0 and NaN.
[[nodiscard]] AQ_INLINE int nearest_half_exponent(float p) noexcept {
    constexpr std::uint32_t first_quarter = 0x1837F0U, third_quarter = 0x5744FCU;  // the largest floats below 2^1/4 and 2^3/4
    if (!(p > 0.0F)) return 510;
    const std::uint32_t bits = bits_of(p), fraction = bits & 0x7FFFFFU;
    return 2 * (127 - static_cast<int>(bits >> 23)) - (fraction > third_quarter ? 2 : fraction > first_quarter ? 1 : 0);
}

/// The code of a probability in `steps` an octave (1 or 2): 0..15.
[[nodiscard]] AQ_INLINE int log2_code(float p, int steps = 1) noexcept {
    const int r = steps == 1 ? nearest_exponent(p) : nearest_half_exponent(p);
    return r < 0 ? 0 : r > log2_zero ? log2_zero : r;
}

/// The code of 2^-x for an x in steps, rounded half to even; NaN counts as infinity. What attention does to a score.
[[nodiscard]] AQ_INLINE int log2_code_of_exponent(float x) noexcept {
    x = x < 15.0F ? x : 15.0F;
    x = x > 0.0F ? x : 0.0F;
    return static_cast<int>(round_half_even(x));
}

/// p^ of a code: 2^(-code / steps), or 0.
[[nodiscard]] AQ_INLINE float log2_value(int code, int steps = 1) noexcept {
    if (code == log2_zero) return 0.0F;
    if (steps == 1) return power_of_two(-code);
    return code % 2 == 0 ? power_of_two(-code / 2) : inverse_sqrt2 * power_of_two(-(code / 2));
}

/// The paper's released code in its 17 states, as the reference: exponents 0..15, and 16 for zero (p < 2^-15.5).
[[nodiscard]] inline int log2_state(float p) noexcept {
    const int r = nearest_exponent(p);
    return r < 0 ? 0 : r > 15 ? 16 : r;
}
[[nodiscard]] inline float log2_state_value(int state) noexcept { return state == 16 ? 0.0F : power_of_two(-state); }

/// A code of the general form: a sign and an exponent.
struct signed_log2 {
    bool is_negative = false;
    int exponent = 0;
};

/// sign(x) clip(round(-log2(|x| / magnitude)), 0, 2^(width-1) - 1), FQ-ViT equation 9, width 2..8. Ours: the sign is a bit of its own, since exponent
/// 0 has none, and the last exponent means zero. magnitude: the largest |x| of the slice; 0 makes every code zero.
[[nodiscard]] inline signed_log2 encode_signed_log2(float x, float magnitude, int width) noexcept {
    const int last = signed_codes(width).high;
    const float size = x < 0.0F ? -x : x;
    const int r = magnitude > 0.0F ? nearest_exponent(size / magnitude) : last;
    return {x < 0.0F, r < 0 ? 0 : r > last ? last : r};
}
[[nodiscard]] inline float decode_signed_log2(signed_log2 code, float magnitude, int width) noexcept {
    if (code.exponent == signed_codes(width).high) return 0.0F;
    const float size = magnitude * power_of_two(-code.exponent);
    return code.is_negative ? -size : size;
}

/// log2 x for a normal x > 0, within 1.1 of 2^-23 or of a unit in the last place, whichever is more; exact for powers of two. The
/// same bits everywhere. x = 2^e (1 + f), sqrt 1/2 <= 1 + f < sqrt 2, and log2(1 + f) = s Q(s^2) with s = f / (2 + f);
/// Q is our fit at Chebyshev nodes, 2^-27.
[[nodiscard]] AQ_INLINE float log2(float x) noexcept {
    const std::int32_t e = static_cast<std::int32_t>(bits_of(x) - 0x3F3504F4U) >> 23;
    const float f = float_of(bits_of(x) - (static_cast<std::uint32_t>(e) << 23)) - 1.0F;
    const float s = f / (2.0F + f), z = rounded(s * s);
    float q = multiply_add(z, 0.431717694F, 0.576715171F);
    q = multiply_add(z, q, 0.961798847F);
    q = multiply_add(z, q, 2.88539004F);
    return multiply_add(s, q, static_cast<float>(e));
}

/// The smallest integer that is not below x; x itself where |x| >= 2^23, which is one, or x is NaN.
[[nodiscard]] AQ_INLINE float ceiling(float x) noexcept {
    if (!(x > -8388608.0F && x < 8388608.0F)) return x;
    const auto truncated = static_cast<float>(static_cast<std::int32_t>(x));
    return truncated < x ? truncated + 1.0F : truncated;
}

}  // namespace aq
