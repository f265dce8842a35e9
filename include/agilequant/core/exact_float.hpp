/// \file
/// Float arithmetic with the same bits on every compiler and CPU: products are rounded before they are added, rounding
/// to integers is half to even. Not here: vector operations (simd/, elementwise/), which follow the same rules.
#pragma once

#include <cstdint>
#include <cstring>

#include "agilequant/core/config.hpp"

namespace aq {

/// Returns x, a float, double or vector register, in a way that keeps the compiler from fusing the operation that made it
/// with the one that takes it. gcc fuses a*b + c into one rounding wherever the CPU can, whatever C++17 says.
template <class T>
[[nodiscard]] AQ_INLINE T rounded(T x) noexcept {
#if AQ_X86
    asm("" : "+x"(x));
#elif AQ_ARM64
    asm("" : "+w"(x));
#else
    asm("" : "+m"(x));
#endif
    return x;
}

/// a * b + c with two roundings.
[[nodiscard]] AQ_INLINE float multiply_add(float a, float b, float c) noexcept { return rounded(a * b) + c; }

/// The integer nearest to x, ties to even, for |x| < 2^22: adding 1.5 * 2^23 leaves no room for a fraction.
/// Assumes the default rounding mode, as everything here does.
[[nodiscard]] AQ_INLINE float round_half_even(float x) noexcept {
    constexpr float magic = 12582912.0F;
    return rounded(x + magic) - magic;
}

[[nodiscard]] AQ_INLINE std::uint32_t bits_of(float x) noexcept {
    std::uint32_t u;
    std::memcpy(&u, &x, sizeof u);
    return u;
}

[[nodiscard]] AQ_INLINE float float_of(std::uint32_t u) noexcept {
    float x;
    std::memcpy(&x, &u, sizeof x);
    return x;
}

/// 2^e for -126 <= e <= 127, exact.
[[nodiscard]] AQ_INLINE float power_of_two(int e) noexcept { return float_of(static_cast<std::uint32_t>(e + 127) << 23); }

}  // namespace aq
