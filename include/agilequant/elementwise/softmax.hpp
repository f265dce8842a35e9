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
template <class Lane>
[[nodiscard]] AQ_INLINE float maximum_of(const float* x, std::size_t count) noexcept {
    return lanes::reduce<Lane>(count, float_of(0xFF800000U), lanes::greater_of{}, [](auto v) { return v; }, x);
}

/// What is subtracted from the scores: the maximum, but nothing where all are masked, since -inf - -inf is NaN.
[[nodiscard]] AQ_INLINE float shift_of(float maximum) noexcept { return maximum == float_of(0xFF800000U) ? 0.0F : maximum; }
}  // namespace detail

/// x: [count]. A NaN score is passed over by the maximum and makes the sum NaN; so does a score of +infinity.
template <class Lane = lanes::native>
[[nodiscard]] softmax_statistics statistics_of_softmax(const float* x, std::size_t count) noexcept {
    const float maximum = detail::maximum_of<Lane>(x, count), shift = detail::shift_of(maximum);
    return {maximum, lanes::reduce<Lane>(count, 0.0F, lanes::plus{}, [=](auto v) { return lanes::exp(v - decltype(v)(shift)); }, x)};
}

/// y[i] = e^(x[i] - maximum) / sum, with the bits of statistics_of_softmax. x, y: [count]; y may be x. Masked scores (-infinity),
/// and all that are more than 87.3 below the maximum, give 0; a row masked everywhere gives zeros; a row with a NaN or
/// +infinity is NaN.
template <class Lane = lanes::native>
void softmax(const float* x, std::size_t count, float* y) noexcept {
    const float shift = detail::shift_of(detail::maximum_of<Lane>(x, count));
    lanes::map<Lane>(count, y, [=](auto v) { return lanes::exp(v - decltype(v)(shift)); }, x);
    const float sum = lanes::reduce<Lane>(count, 0.0F, lanes::plus{}, [](auto v) { return v; }, y);
    const float inverse = sum == 0.0F ? 0.0F : 1.0F / sum;
    lanes::map<Lane>(count, y, [=](auto v) { return v * decltype(v)(inverse); }, y);
}

}  // namespace aq
