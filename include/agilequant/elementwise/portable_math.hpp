/// \file
/// Powers, sine and cosine in double, from + - * / alone. Those of a libm differ in their last bit between libraries and even
/// between CPUs (glibc picks fused versions at run time), so a table made of them is not the same everywhere.
/// Exact to a few units in the last place of double; slow (50 ns): for tables, not for inner loops. Internal.
#pragma once

#include <cmath>  // frexp, ldexp and floor only: they are exact

#include "agilequant/core/exact_float.hpp"

namespace aq::portable {

/// ln x for x > 0: x = m 2^e with m near 1, ln m = 2 atanh((m - 1) / (m + 1)) as its series.
[[nodiscard]] inline double log(double x) noexcept {
    int e = 0;
    double m = std::frexp(x, &e);
    if (m < 0.70710678) m *= 2, --e;
    const double s = (m - 1) / (m + 1), s2 = rounded(s * s);
    double sum = 0;
    for (int j = 25; j >= 1; j -= 2) sum = 1.0 / j + rounded(s2 * sum);
    return rounded(e * 0.69314718055994531) + rounded(2 * s * sum);
}

/// e^x for |x| < 700: 2^n e^r, e^r as its series.
[[nodiscard]] inline double exp(double x) noexcept {
    const double n = std::floor(rounded(x * 1.4426950408889634) + 0.5);
    const double r = x - rounded(n * 0.6931471804855391) - rounded(n * 7.440617110012397e-11);  // ln2 in two parts
    double sum = 1;
    for (int j = 20; j >= 1; --j) sum = 1 + rounded(r / j * sum);
    return std::ldexp(sum, static_cast<int>(n));
}

/// base^exponent for base > 0.
[[nodiscard]] inline double power(double base, double exponent) noexcept { return exp(rounded(exponent * log(base))); }

struct cosine_sine {
    double cosine, sine;
};

/// 1 - r2 / (first (first + 1)) (1 - r2 / ((first + 2) (first + 3)) (...)): cos r for first = 1, sin r / r for first = 2.
[[nodiscard]] inline double alternating_series(double r2, int first) noexcept {
    double sum = 1;
    for (int j = first + 18; j >= first; j -= 2) sum = 1 - rounded(r2 / (j * (j + 1)) * sum);
    return sum;
}

/// For 0 <= angle < 2^20; beyond, the error grows slowly.
[[nodiscard]] inline cosine_sine cosine_and_sine(double angle) noexcept {
    const double quarters = std::floor(rounded(angle * 0.63661977236758134) + 0.5);
    // pi / 2 in two parts
    const double r = angle - rounded(quarters * 1.5707963267341256) - rounded(quarters * 6.077100506506192e-11);
    const double r2 = rounded(r * r), c = alternating_series(r2, 1), s = rounded(r * alternating_series(r2, 2));
    switch (static_cast<long long>(quarters) & 3) {
        case 0: return {c, s};
        case 1: return {-s, c};
        case 2: return {-c, -s};
        default: return {s, -c};
    }
}

}  // namespace aq::portable
