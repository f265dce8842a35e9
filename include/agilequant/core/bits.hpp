/// \file
/// Widths of codes, and the bounds that follow from them: which codes there are, and how many products fit an accumulator.
/// These few constants decide every loop depth in the library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace aq {

/// The inclusive range of a code.
struct code_range {
    int low = 0, high = 0;

    [[nodiscard]] constexpr int steps() const noexcept { return high - low; }
    /// The largest |code|.
    [[nodiscard]] constexpr int magnitude() const noexcept { return -low > high ? -low : high; }
    friend constexpr bool operator==(code_range a, code_range b) noexcept { return a.low == b.low && a.high == b.high; }
};

/// Width of a code, 2 to 8 bits.
template <int N>
struct bits {
    static_assert(N >= 2 && N <= 8, "aq: a code has 2 to 8 bits.");
    static constexpr int value = N;
    static constexpr code_range unsigned_range{0, (1 << N) - 1};
    static constexpr code_range signed_range{-((1 << (N - 1)) - 1), (1 << (N - 1)) - 1};
};

/// Signed, without the most negative code, so that the range is symmetric: -(2^(b-1) - 1) .. 2^(b-1) - 1.
[[nodiscard]] constexpr code_range signed_codes(int width) noexcept {
    return {-((1 << (width - 1)) - 1), (1 << (width - 1)) - 1};
}

/// Unsigned: 0 .. 2^b - 1.
[[nodiscard]] constexpr code_range unsigned_codes(int width) noexcept { return {0, (1 << width) - 1}; }

/// The codes that weights are stored as: always unsigned, with a zero point (2^(b-1) where the quantizer is symmetric).
[[nodiscard]] constexpr code_range weight_codes(int width) noexcept { return unsigned_codes(width); }

/// The codes that activations are stored as, one int8 each. Below 8 bits an asymmetric code is unsigned; at 8 bits it keeps
/// to -127..127 (255 levels instead of 256), since -128 times -128 is what overflows 16-bit pair sums on every CPU.
[[nodiscard]] constexpr code_range activation_codes(int width, bool asymmetric) noexcept {
    return asymmetric && width < 8 ? unsigned_codes(width) : signed_codes(width);
}

/// The largest |activation code| of a width, symmetric or not.
[[nodiscard]] constexpr int activation_magnitude(int width) noexcept {
    return width < 8 ? unsigned_codes(width).high : signed_codes(width).high;
}

/// The largest |code - center|.
[[nodiscard]] constexpr int largest_distance(code_range codes, int center) noexcept {
    return code_range{codes.low - center, codes.high - center}.magnitude();
}

/// How many products of codes up to `first` and `second` in magnitude an accumulator up to `limit` holds for certain.
[[nodiscard]] constexpr std::int64_t products_within(std::int64_t limit, std::int64_t first, std::int64_t second) noexcept {
    return limit / (first * second);
}

/// The largest depth (k, weighted by TRIP's powers of two) of one exact 32-bit sum of w-bit weights by a-bit activations.
[[nodiscard]] constexpr std::int64_t max_k(int weight_bits, int activation_bits) noexcept {
    return products_within(std::numeric_limits<std::int32_t>::max(), weight_codes(weight_bits).high,
                           activation_magnitude(activation_bits));
}

/// The largest |m (w - zero)| of weights with integer group scales m (quant/two_level.hpp): what an int8 holds either way.
inline constexpr int largest_scaled_code = 127;

/// The largest depth of one exact 32-bit sum over all groups of such weights.
[[nodiscard]] constexpr std::int64_t max_two_level_k(int activation_bits) noexcept {
    return products_within(std::numeric_limits<std::int32_t>::max(), largest_scaled_code, activation_magnitude(activation_bits));
}

/// How many products of weights up to `weight_magnitude` by a-bit activations may be added in 16 bits.
[[nodiscard]] constexpr std::int64_t products_in_16_bits(int weight_magnitude, int activation_bits) noexcept {
    return products_within(std::numeric_limits<std::int16_t>::max(), weight_magnitude, activation_magnitude(activation_bits));
}

/// How often pairs of products (as `maddubs` makes them) may be added in 16 bits. Zero: not even once.
[[nodiscard]] constexpr std::int64_t pair_sums_in_16_bits(int weight_bits, int activation_bits) noexcept {
    return products_in_16_bits(weight_codes(weight_bits).high, activation_bits) / 2;
}

static_assert(max_k(8, 8) == 66311 && max_k(4, 8) == 1127288 && max_k(4, 4) == 9544371);
static_assert(max_two_level_k(8) == 133144 && max_two_level_k(4) == 1127288);
static_assert(pair_sums_in_16_bits(4, 8) == 8 && pair_sums_in_16_bits(4, 4) == 72 && pair_sums_in_16_bits(8, 8) == 0);
static_assert(products_in_16_bits(15, 8) == 17 && products_in_16_bits(8, 8) == 32 && products_in_16_bits(15, 4) == 145);
static_assert(products_within(65535, 15, 15) == 291, "the paper's multiplier adds up to 291 unsigned W4A4 products in 16 bits");

}  // namespace aq
