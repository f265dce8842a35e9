/// \file
/// RMSNorm and LayerNorm over rows.
#pragma once

#include <cmath>
#include <cstddef>

#include "agilequant/core/matrix_view.hpp"
#include "agilequant/core/status.hpp"
#include "agilequant/elementwise/loops.hpp"

namespace aq {

namespace detail {
[[nodiscard]] inline status check_norm(matrix_view<const float> x, bool parameters, float eps, matrix_view<float> y) noexcept {
    if (x.shape() != y.shape()) return status::bad_shape;
    AQ_TRY(check(x));
    AQ_TRY(check(y));
    if (!x.empty() && !parameters) return status::null_pointer;
    return eps >= 0.0F ? status::ok : status::bad_argument;
}

template <class Lane>
[[nodiscard]] AQ_INLINE float mean_of_squares(const float* x, std::size_t k, float centre) noexcept {
    const auto square = [=](auto v) {
        const auto d = v - decltype(v)(centre);
        return lanes::rounded(d * d);
    };
    return lanes::sum<Lane>(k, square, x) / static_cast<float>(k);
}
}  // namespace detail

/// y[r,c] = x[r,c] / sqrt(mean of squares of row r + eps) * gain[c]  (Zhang and Sennrich 2019, eq. 4).
/// x, y: [m,k]; gain: [k]; y may be x. bad_argument: eps is negative or NaN. The relative error is at most
/// (k/32 + 9) 2^-24. A row of zeros gives zeros where eps > 0, else NaN; a NaN makes its row NaN, an infinity gives NaN in its
/// place and zeros elsewhere; squares whose sum overflows (|x| near 2^63) give zeros.
template <class Lane = lanes::native>
[[nodiscard]] status rms_norm(matrix_view<const float> x, const float* gain, float eps, matrix_view<float> y) noexcept {
    AQ_TRY(detail::check_norm(x, gain != nullptr, eps, y));
    for (std::size_t r = 0; r < x.rows; ++r) {
        const float inverse = 1.0F / std::sqrt(detail::mean_of_squares<Lane>(x.row(r), x.cols, 0.0F) + eps);
        const auto f = [=](auto v, auto g) { return v * decltype(v)(inverse) * g; };
        lanes::map<Lane>(x.cols, y.row(r), f, x.row(r), gain);
    }
    return status::ok;
}

/// y[r,c] = (x[r,c] - mean) / sqrt(variance + eps) * gain[c] + bias[c], mean and biased variance of row r  (Ba et al.
/// 2016, eq. 3).
/// x, y: [m,k]; gain, bias: [k]; y may be x. bad_argument: eps is negative or NaN. The variance is that of the differences
/// from the mean, in a second pass: sum(x^2) - sum(x)^2 would lose it where the mean is large.
template <class Lane = lanes::native>
[[nodiscard]] status layer_norm(matrix_view<const float> x, const float* gain, const float* bias, float eps,
                                matrix_view<float> y) noexcept {
    AQ_TRY(detail::check_norm(x, gain != nullptr && bias != nullptr, eps, y));
    for (std::size_t r = 0; r < x.rows; ++r) {
        const float mean = lanes::sum<Lane>(x.cols, lanes::identity{}, x.row(r)) / static_cast<float>(x.cols);
        const float inverse = 1.0F / std::sqrt(detail::mean_of_squares<Lane>(x.row(r), x.cols, mean) + eps);
        const auto f = [=](auto v, auto g, auto b) {
            using L = decltype(v);
            return lanes::rounded((v - L(mean)) * L(inverse) * g) + b;
        };
        lanes::map<Lane>(x.cols, y.row(r), f, x.row(r), gain, bias);
    }
    return status::ok;
}

}  // namespace aq
