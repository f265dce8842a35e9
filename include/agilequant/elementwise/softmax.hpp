/// \file
/// Softmax of a row, and the two numbers that it needs, for those who make codes of probabilities without the probabilities.
#pragma once

#include <cstddef>

#include "agilequant/core/exact_float.hpp"
#include "agilequant/elementwise/exp.hpp"
#include "agilequant/elementwise/loops.hpp"

namespace aq {

/// The largest score, and the sum over all of e^(score - maximum), which is at least 1. {-infinity, 0} of a row that is empty
/// or masked (-infinity) everywhere.
struct softmax_statistics {
    float maximum, sum;
};

namespace detail {
/// e^(x - shift). The shift is the maximum, but 0 where all is masked, since -infinity minus itself is NaN.
[[nodiscard]] AQ_INLINE auto shifted_exp(float maximum) noexcept {
    const float shift = maximum == float_of(0xFF800000U) ? 0.0F : maximum;
    return [shift](auto v) { return lanes::exp(v - decltype(v)(shift)); };
}
}  // namespace detail

/// x: [count]. A NaN score is passed over by the maximum and makes the sum NaN; so does a score of +infinity.
template <class Lane = lanes::native>
[[nodiscard]] softmax_statistics statistics_of_softmax(const float* x, std::size_t count) noexcept {
    const float maximum = lanes::maximum<Lane>(count, x);
    return {maximum, lanes::sum<Lane>(count, detail::shifted_exp(maximum), x)};
}

/// y[i] = e^(x[i] - maximum) / sum, with the bits of statistics_of_softmax. x, y: [count]; y may be x. Masked scores
/// (-infinity), and all that are more than 87.3 below the maximum, give 0; a row masked everywhere gives zeros; a row with a
/// NaN or +infinity is NaN.
template <class Lane = lanes::native>
void softmax(const float* x, std::size_t count, float* y) noexcept {
    lanes::map<Lane>(count, y, detail::shifted_exp(lanes::maximum<Lane>(count, x)), x);
    const float sum = lanes::sum<Lane>(count, lanes::identity{}, y);
    const float inverse = sum == 0.0F ? 0.0F : 1.0F / sum;
    const auto normalise = [=](auto v) { return v * decltype(v)(inverse); };
    lanes::map<Lane>(count, y, normalise, y);
}

}  // namespace aq
