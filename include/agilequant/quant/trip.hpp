/// \file
/// TRIP, the quantizer of activations whose channels differ by orders of magnitude: the uniform quantizer with one more power
/// of two for each channel. Not here: finding the exponents (quant/trip_calibrator.hpp), and the order of channels that makes
/// the exponents free in a product (pack/k_layout.hpp).
///
///     scale     s = s_K / 2^K with s_K = (max - min) / (high - low), z = clip(round(low - min / s_K), low, high)
///     code      q = clip(round((x / 2^alpha_c) * (1 / s)) + z, low, high)      round: half to even
///     value     x^ = 2^alpha_c s (q - z)
///
/// A channel of exponent K has the whole tensor's range, one of exponent alpha a range 2^(K - alpha) times smaller, in steps
/// as much finer. K = 0 is the uniform quantizer. Agile-Quant's TRIP, after FQ-ViT's power-of-two factor (K = 3).
/// The form with a scale and a zero point for each token [ours] has the same equations: the token's row, divided by 2^alpha,
/// goes through the dynamic uniform quantizer (kernels/quantize.hpp), so only the exponents are calibrated.
///
/// NaN, infinities and slices of zeros: as in quant/uniform.hpp. Codes are activation_codes: at 8 bits 255 levels, not 256.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agilequant/core/matrix_view.hpp"
#include "agilequant/quant/calibrate.hpp"
#include "agilequant/quant/uniform.hpp"

namespace aq {

/// The largest K of TRIP: beyond 2^6 nothing is left of the small channels in 8 bits.
inline constexpr int max_trip_exponent = 6;

/// Scale (that of exponent 0) and zero point of a tensor's range for exponents 0..K: those of the range divided by 2^K, since
/// powers of two are exact. A range whose scale would be below smallest_scale counts as all zero.
[[nodiscard]] inline affine fit_trip(value_range range, code_range codes, bool is_asymmetric, int top_exponent) noexcept {
    const float factor = power_of_two(-top_exponent);
    return fit(value_range{range.low * factor, range.high * factor}, codes, is_asymmetric);
}

/// Exact division by 2^exponent comes first, as in the kernels.
[[nodiscard]] AQ_INLINE int encode_trip(float x, float inverse_scale, std::int32_t zero, int exponent,
                                        code_range codes) noexcept {
    return encode(made_finite(x) * power_of_two(-exponent), inverse_scale, zero, codes);
}

[[nodiscard]] AQ_INLINE float decode_trip(int code, affine a, int exponent) noexcept {
    return decode(code, a) * power_of_two(exponent);
}

/// The first exponent in 0..K with the least squared error of x [count], stride elements apart, clip and zero point included.
/// Where errors are equal, as in a channel of zeros, that is 0. Agile-Quant, after FQ-ViT.
[[nodiscard]] inline int least_error_exponent(const float* x, std::size_t count, std::size_t stride, affine a, code_range codes,
                                              int top_exponent) noexcept {
    const float inverse = 1.0F / a.scale;
    int best = 0;
    double least = 0.0;
    for (int exponent = 0; exponent <= top_exponent; ++exponent) {
        double sum = 0.0;
        for (std::size_t i = 0; i < count; ++i) {
            const float v = made_finite(x[i * stride]);
            const double e = static_cast<double>(v) -
                             static_cast<double>(decode_trip(encode_trip(v, inverse, a.zero, exponent, codes), a, exponent));
            sum += rounded(e * e);
        }
        if (exponent == 0 || sum < least) {
            least = sum;
            best = exponent;
        }
    }
    return best;
}

/// round(log2(b / (largest / 2^K))) clipped to 0..K, without a logarithm: how many of the K boundaries between two exponents,
/// sqrt(1/2) * largest / 2^j, the channel's statistic b reaches. 0 for b = 0 [ours].
[[nodiscard]] inline int statistic_exponent(double b, double largest, int top_exponent) noexcept {
    if (!(b > 0.0)) return 0;
    constexpr double square_root_of_half = 0.70710678118654752440;
    int exponent = 0;
    double boundary = largest * square_root_of_half;
    for (int j = 0; j < top_exponent; ++j, boundary *= 0.5) exponent += b >= boundary ? 1 : 0;
    return exponent;
}

/// TRIP as a type, static for a whole tensor: the form of the paper.
template <int Bits, int K = 3, class Symmetry = asymmetric>
struct trip {
    static_assert(K >= 0 && K <= max_trip_exponent, "aq: TRIP's exponents lie in 0..K with K from 0 to 6.");
    static constexpr int width = bits<Bits>::value;
    static constexpr int top_exponent = K;
    static constexpr bool is_asymmetric = std::is_same_v<Symmetry, asymmetric>;
    static_assert(is_asymmetric || std::is_same_v<Symmetry, symmetric>, "aq: the third argument is symmetric or asymmetric.");
    static constexpr code_range codes = activation_codes(Bits, is_asymmetric);
    using granularity = per_tensor;

    [[nodiscard]] static affine fit(value_range range) noexcept { return fit_trip(range, codes, is_asymmetric, K); }
    [[nodiscard]] static int encode(float x, affine a, int exponent = 0) noexcept {
        return encode_trip(x, 1.0F / a.scale, a.zero, exponent, codes);
    }
    [[nodiscard]] static float decode(int code, affine a, int exponent = 0) noexcept { return decode_trip(code, a, exponent); }
    /// The exponent of one channel; see least_error_exponent.
    [[nodiscard]] static int exponent(const float* x, std::size_t count, std::size_t stride, affine a) noexcept {
        return least_error_exponent(x, count, stride, a, codes, K);
    }
};

namespace detail {

[[nodiscard]] inline status scale_columns(matrix_view<float> x, const std::uint8_t* exponents, int sign) noexcept {
    AQ_TRY(check(x));
    if (exponents == nullptr && !x.empty()) return status::null_pointer;
    for (std::size_t c = 0; c < x.cols && x.rows != 0; ++c) {
        if (exponents[c] > max_trip_exponent) return status::bad_argument;
    }
    for (std::size_t r = 0; r < x.rows; ++r) {
        for (std::size_t c = 0; c < x.cols; ++c) x.row(r)[c] *= power_of_two(sign * static_cast<int>(exponents[c]));
    }
    return status::ok;
}

}  // namespace detail

/// The fold policy: multiplies column c of the weights w [n,k] by 2^exponents[c], in place, before they are quantized. The
/// product then needs no exponents at run time, at the price of coarser weights beside a grown column. Agile-Quant.
/// Exact but for overflow. bad_stride, null_pointer; bad_argument: an exponent above 6.
[[nodiscard]] inline status fold_into_weights(matrix_view<float> w, const std::uint8_t* exponents) noexcept {
    return detail::scale_columns(w, exponents, 1);
}

/// The other half of the fold: divides column c by 2^exponents[c], for whatever makes the activations: the gain of a norm
/// [1,k], or the activations themselves [m,k]. Exact but for underflow. Errors as above.
[[nodiscard]] inline status fold_into_activations(matrix_view<float> x, const std::uint8_t* exponents) noexcept {
    return detail::scale_columns(x, exponents, -1);
}

}  // namespace aq
