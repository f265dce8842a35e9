/// \file
/// Sums and multiples of rows: residuals, biases, 1 / sqrt(head_dim).
#pragma once

#include <cstddef>

#include "agilequant/elementwise/loops.hpp"

namespace aq {

/// y[i] = a[i] + b[i]. All [count]; y may be a or b. Exact but for the one rounding.
template <class Lane = lanes::native>
void add(const float* a, const float* b, std::size_t count, float* y) noexcept {
    const auto f = [](auto u, auto v) { return u + v; };
    lanes::map<Lane>(count, y, f, a, b);
}

/// y[i] = x[i] * factor. Both [count]; y may be x. Exact but for the one rounding.
template <class Lane = lanes::native>
void scale(const float* x, float factor, std::size_t count, float* y) noexcept {
    const auto f = [=](auto v) { return v * decltype(v)(factor); };
    lanes::map<Lane>(count, y, f, x);
}

}  // namespace aq
