/// \file
/// What the tests of elementwise/ share: numbers, their bits, and the lane types to be compared.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <vector>

#include "agilequant/core/exact_float.hpp"
#include "agilequant/elementwise/lanes.hpp"

namespace aq_test {

using definition = float;  // the lane type that every other one has to equal
using aq::lanes::native;

using sizes = std::initializer_list<std::size_t>;

inline constexpr float infinity = std::numeric_limits<float>::infinity();
inline constexpr float quiet_nan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float denormal = 1e-40F;
inline constexpr double u = 1.0 / (1 << 24);  // half an ulp of 1: the relative error of one operation

/// The sign and the payload of a NaN are the CPU's; all else is promised.
inline std::uint32_t bits(float x) { return std::isnan(x) ? 0x7FC00000U : aq::bits_of(x); }

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i)
        if (bits(a[i]) != bits(b[i])) return false;
    return true;
}

/// Numbers between -range and range, from integers alone and so the same everywhere; a fixed seed each.
class numbers {
public:
    explicit numbers(std::uint32_t seed) : state_(seed * 2654435761U + 1U) {}

    float next(float range) {
        state_ = state_ * 1664525U + 1013904223U;
        return range * (static_cast<float>(state_ >> 8) * 0x1p-23F - 1.0F);
    }

    std::vector<float> take(std::size_t count, float range) {
        std::vector<float> x(count);
        for (float& v : x) v = next(range);
        return x;
    }

    /// Every eleventh or so is special: NaN only where `with_nan`.
    std::vector<float> take_mixed(std::size_t count, float range, bool with_nan) {
        const float special[] = {0.0F, -0.0F, denormal, -denormal, -infinity, 3e38F, -3e38F, 1e-30F, infinity, quiet_nan};
        std::vector<float> x = take(count, range);
        for (float& v : x)
            if (next(1.0F) > 0.8F)
                v = special[static_cast<std::size_t>((next(1.0F) + 1.0F) * (with_nan ? 5.0F : 4.0F)) % (with_nan ? 10 : 8)];
        return x;
    }

private:
    std::uint32_t state_;
};

/// Distance in units of the last place of the float nearest to `exact`.
inline double ulps(float x, double exact) {
    if (bits(x) == bits(static_cast<float>(exact))) return 0.0;
    int e = 0;
    std::frexp(exact, &e);
    return std::abs(static_cast<double>(x) - exact) / std::ldexp(1.0, (e < -125 ? -125 : e) - 24);
}

}  // namespace aq_test
