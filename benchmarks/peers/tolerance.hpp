/// \file
/// The error that a peer's formats justify, for its adapter's peer::tolerance.
#pragma once

#include <cmath>

namespace aq_bench {

/// Relative root of mean squares of the error of rounding normally distributed values that share a scale in groups of `group` to
/// codes of -levels..levels. sqrt(2 ln(2 group)) is above the mean of the largest of so many, in standard deviations; rounding
/// to steps s leaves s / sqrt(12). Uniform values lie closer together and lose less.
[[nodiscard]] inline double rounding_error(double group, double levels) {
    return std::sqrt(2.0 * std::log(2.0 * group) / 12.0) / levels;
}

/// Of a product both of whose factors have such errors, independently.
[[nodiscard]] inline double product_error(double x, double w) { return std::sqrt(x * x + w * w); }

/// Of float sums in whatever order: a rounding of 2^-24 each time, as many as k at most, taken as a random walk with some room.
[[nodiscard]] inline double float_error(double k = 16384.0) { return std::sqrt(k) * std::ldexp(1.0, -24); }

}  // namespace aq_bench
