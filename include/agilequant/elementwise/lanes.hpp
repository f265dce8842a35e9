/// \file
/// The only header that includes xsimd. A *lane type* is float or a register of floats; every function of elementwise/ is
/// one template over it. For float it is the definition, and the tail of a vector loop; for `native` it is the fast one.
/// Not here: loops (loops.hpp), exp (exp.hpp).
///
/// A lane type has + - * and comparisons of its own; the rest is below, called as lanes::f everywhere, because argument lookup
/// would also find the f of xsimd. Left out on purpose is what does not give the same bits everywhere: xsimd's division,
/// which is a Newton step on NEON, its min and max, whose NaN differs between x86 and Arm, its horizontal sums, whose order is
/// the register's, and its exp, which is fused where the CPU can.
#pragma once

#include <xsimd/xsimd.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "agilequant/core/config.hpp"
#include "agilequant/core/exact_float.hpp"

namespace aq::lanes {

/// Floats in a lane type.
template <class Lane>
inline constexpr std::size_t width = Lane::size;
template <>
inline constexpr std::size_t width<float> = 1;

template <class Lane>
[[nodiscard]] AQ_INLINE Lane load(const float* from) noexcept {
    if constexpr (std::is_same_v<Lane, float>) return *from;
    else return Lane::load_unaligned(from);
}

/// A value that the compiler cannot fuse with the next operation.
using aq::rounded;

// Rounded, because a compiler that inlines two functions sees through memory and would fuse the product that the first
// one stores with the sum of the second.
AQ_INLINE void store(float* to, float x) noexcept { *to = rounded(x); }

[[nodiscard]] AQ_INLINE float divide(float a, float b) noexcept { return a / b; }

/// yes where the condition holds, no elsewhere. Rounded, because a compiler that sees the compared value chosen makes a maximum
/// of it: clang 14 does for Arm, where the maximum of -0 and 0 is 0.
[[nodiscard]] AQ_INLINE float select(bool condition, float yes, float no) noexcept {
    return condition ? rounded(yes) : rounded(no);
}

/// Adds the lowest nine bits of `exponent`, as an integer, to the exponent of x.
[[nodiscard]] AQ_INLINE float add_to_exponent(float x, float exponent) noexcept {
    return float_of(bits_of(x) + (bits_of(exponent) << 23));
}

#if defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
using native = float;
#else
/// The widest register that the flags of the build allow. It is a template argument of every public function, so that
/// units built with different flags have different symbols.
using native = xsimd::batch<float>;

template <class Arch>
[[nodiscard]] AQ_INLINE xsimd::batch<float, Arch> rounded(xsimd::batch<float, Arch> x) noexcept {
    return aq::rounded(x.data);
}

template <class Arch>
AQ_INLINE void store(float* to, xsimd::batch<float, Arch> x) noexcept {
    lanes::rounded(x).store_unaligned(to);
}

template <class Arch>
[[nodiscard]] AQ_INLINE xsimd::batch<float, Arch> divide(xsimd::batch<float, Arch> a, xsimd::batch<float, Arch> b) noexcept {
    return a.data / b.data;  // the compiler's
}

template <class Arch>
[[nodiscard]] AQ_INLINE xsimd::batch<float, Arch> select(xsimd::batch_bool<float, Arch> condition, xsimd::batch<float, Arch> yes,
                                                         xsimd::batch<float, Arch> no) noexcept {
    return xsimd::select(condition, lanes::rounded(yes), lanes::rounded(no));
}

template <class Arch>
[[nodiscard]] AQ_INLINE xsimd::batch<float, Arch> add_to_exponent(xsimd::batch<float, Arch> x,
                                                                  xsimd::batch<float, Arch> exponent) noexcept {
    // The compiler's own vectors: in xsimd the cast changed between 8 and 9, and gcc 12 warns of its shift on AVX-512.
    typedef std::uint32_t words __attribute__((vector_size(sizeof x.data)));
    words x_bits, exponent_bits;
    std::memcpy(&x_bits, &x.data, sizeof x.data);
    std::memcpy(&exponent_bits, &exponent.data, sizeof x.data);
    x_bits += exponent_bits << 23;
    std::memcpy(&x.data, &x_bits, sizeof x.data);
    return x;
}
#endif

}  // namespace aq::lanes
