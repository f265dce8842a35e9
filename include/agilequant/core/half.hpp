/// \file
/// The two 16-bit floats that models are stored in: IEEE half (binary16) and bfloat16, to and from float. Integer code only,
/// so the bits are the same on every compiler and CPU, whatever its conversion instructions do. Not arithmetic: nothing is
/// computed in 16 bits.
#pragma once

#include <cstdint>

#include "agilequant/core/exact_float.hpp"

namespace aq {

/// The float that a half stands for. Exact for every number, both zeros, subnormals and infinities; a NaN keeps its sign and
/// payload and becomes quiet, as F16C and Arm's FCVT have it.
[[nodiscard]] inline float half_to_float(std::uint16_t half) noexcept {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16;
    std::uint32_t exponent = (half >> 10) & 0x1FU;
    std::uint32_t fraction = half & 0x3FFU;
    if (exponent == 0x1F) return float_of(sign | 0x7F800000U | (fraction != 0 ? 0x400000U | fraction << 13 : 0));
    if (exponent == 0) {
        if (fraction == 0) return float_of(sign);
        // A subnormal half is a normal float: shift until the leading one stands where it is implied.
        for (exponent = 1; (fraction & 0x400U) == 0; --exponent) fraction <<= 1;
        fraction &= 0x3FFU;
    }
    // The exponent may have wrapped below 0; the sum is right all the same.
    return float_of(sign | (exponent + (127 - 15)) << 23 | fraction << 13);
}

/// The nearest half, ties to even; from 65520 on infinity, up to 2^-25 zero. A NaN becomes quiet and keeps its sign and the
/// upper ten bits of its fraction.
[[nodiscard]] inline std::uint16_t float_to_half(float x) noexcept {
    const std::uint32_t bits = bits_of(x);
    const std::uint32_t sign = bits >> 16 & 0x8000U;
    const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) return static_cast<std::uint16_t>(sign | 0x7E00U | (magnitude >> 13 & 0x3FFU));
    if (magnitude >= 0x47800000U) return static_cast<std::uint16_t>(sign | 0x7C00U);  // 2^16 and infinity
    if (magnitude < 0x33000000U) return static_cast<std::uint16_t>(sign);             // below half of the smallest subnormal

    const std::uint32_t exponent = magnitude >> 23;
    // Below 2^-14 (exponent 113) the result is subnormal: its last bit is worth 2^-24, so that more bits are dropped.
    const std::uint32_t dropped = exponent < 113 ? 126 - exponent : 13;
    const std::uint32_t source = exponent < 113 ? (magnitude & 0x7FFFFFU) | 0x800000U : magnitude - (112U << 23);
    const std::uint32_t kept = source >> dropped;
    const std::uint32_t rest = source & ((1U << dropped) - 1);
    const std::uint32_t tie = 1U << (dropped - 1);
    const std::uint32_t up = rest > tie || (rest == tie && (kept & 1U) != 0) ? 1 : 0;
    return static_cast<std::uint16_t>(sign | (kept + up));  // a carry runs into the exponent, and at 65520 makes infinity
}

/// The float that a bfloat16 stands for: its upper half. Exact, NaN included.
[[nodiscard]] inline float bfloat16_to_float(std::uint16_t value) noexcept {
    return float_of(static_cast<std::uint32_t>(value) << 16);
}

/// The nearest bfloat16, ties to even; a NaN becomes quiet and keeps its sign and the upper bits of its payload.
[[nodiscard]] inline std::uint16_t float_to_bfloat16(float x) noexcept {
    const std::uint32_t bits = bits_of(x);
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>(bits >> 16 | 0x40U);
    return static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16);
}

}  // namespace aq
