/// \file
/// The operations of kernels in plain C++: the definition that every instruction set's equal, lane by lane.
///
/// | operation | meaning for each lane l |
/// |---|---|
/// | add_dot4(s, w, a) | s plus the sum over j < 4 of w[4l+j] a[4l+j], u8 by s8 into i32, exact |
/// | unspecified() | any value; costs nothing |
/// | quad<S>(row) | codes 4 S .. 4 S + 3 of a k_step, for every lane |
/// | sub_product16(s, w, a) | s - w a, for narrow |w| < 256 and |a| < 2^15 |
/// | products(w, a), add_products(p, w, a) | as add_dot4, in 16-bit sums; widened(p) adds those up |
/// | add_two_steps(s, w, a) | two add_dot4, into halves of 32-bit sums; sum_of_halves(s) adds those up |
/// | add_packed_products(p, low, high, a) | two rows' products, added to two 16-bit sums of a 32-bit lane; add_split(s, t, p) adds those up |
/// | plane<B>(c, p) | bits B p .. B p + B of each byte |
/// | range_of, encode, sum_of | quant/uniform.hpp over a row whose length is a multiple of k_step; vectors do the first two in body/rows.hpp |
/// | store_clipped(out, v, clip) | 16 integers as int8, clipped; vectors only |
/// | store_negated(out, v) | the negated lowest bytes of 16 integers; 128 gives -128 |
/// | any_greater(x, y) | whether x > y in any lane |
/// | byte_of_lane<J>(c) | w[4l+j] of add_dot4 |
/// | shift_right(v, n) | v >> n for 0 <= v < 2^24 and 0 <= n < 32; shift_right<N>(v) for any v, as unsigned or signed |
/// | tree_across(v) | the float sum of the lanes of v[l], halves first: lane i takes i + lanes/2, then i + lanes/4, ... |
/// | greater(x, y), lesser(x, y) | x > y ? x : y and x < y ? x : y, so y where x is NaN |
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "agilequant/core/config.hpp"
#include "agilequant/quant/uniform.hpp"

namespace aq {

/// How many rows of activations a block keeps in registers, and how many panels of weights, or which part of one: one `parts`th.
struct block_size {
    int rows = 1, panels = 1, parts = 1;
};

/// Where 32-bit sums begin: at 0, or at the bits of 1.5 2^23. From there on, adding an integer v up to 2^22 in magnitude to the bits
/// gives the bits of 1.5 2^23 + v, so that one exact subtraction of floats is the conversion of the sum.
inline constexpr float float_start = 12582912.0F;
inline constexpr std::int32_t sum_starts[2][4] = {{0, 0, 0, 0}, {0x4B400000, 0x4B400000, 0x4B400000, 0x4B400000}};
inline constexpr std::uint64_t largest_started_sum = std::uint64_t{1} << 22;

/// What most instruction sets have in common; each says otherwise where it differs.
struct ops_defaults {
    static constexpr block_size block_of_bytes{0, 1};     ///< for weights of 8 bits; 0: the block of all widths serves them
    static constexpr int streams_of_other_widths = 0;     ///< panels by one row where codes do not have 4 bits; 0: as for those
    static constexpr block_size block_of_few_rows{0, 1};  ///< for as many rows or fewer; 0: the block of many serves them
    static constexpr std::size_t row_blocks_worth_unpacking = 0;  ///< from how many blocks of rows on; 0: never
    static constexpr bool unpacks_to_values = false;              ///< to m (code - zero), s8, instead of to codes
    static constexpr block_size unpacked_block{0, 1};             ///< for those; 0: the block of packed codes serves them
    static constexpr std::size_t unpacked_panels = 0;             ///< unpacked at a time; 0: those of a block
    static constexpr std::size_t prefetch_bytes = 0;              ///< how far ahead a block of rows fetches codes; 0: not at all
    static constexpr bool has_two_steps = false;
    static constexpr bool has_group_kinds =
        false;  ///< blocks are compiled for each group_kind: what the end of a group costs is felt
    static constexpr block_size attention_block{1, 1};  ///< rows of queries or weights by panels of keys or values
    static constexpr int attention_streams = 1;         ///< panels of values by one query
    static constexpr std::size_t streamed_panels =
        0;  ///< of a head whose sums for one query fit the registers, so that a step streams; 0: none
    /// A block for any kind of group multiplies by 16 bits where a group's sums of codes fit them. Not where gcc then keeps sums of
    /// products on the stack.
    static constexpr bool chooses_short_sums = true;
    static constexpr bool has_float_start = false;  ///< converts 32-bit sums by where they begin, see float_start

    /// How many steps of four products a row an i16_sums holds, of weights up to WeightMagnitude; 0: it has none.
    template <int WeightMagnitude, int ActivationBits>
    static constexpr std::int64_t steps_in_16_bits = 0;

    /// plane<Bits> gives code - center, and unpacked codes are code - unpacked_center.
    template <int Bits>
    static constexpr int center = 0;
    template <int Bits>
    static constexpr int unpacked_center = center<Bits>;

    using row_quads = const std::int8_t*;  ///< a k_step of activation codes of a row: here quads are read one by one
    static AQ_INLINE row_quads load_quads(const std::int8_t* p) { return p; }
};

namespace scalar {

struct ops : ops_defaults {
    static constexpr int lanes = 1;
    static constexpr block_size block{1, 1};             ///< of a GEMM, as large as registers allow
    static constexpr block_size block_of_one_row{1, 1};  ///< panels are streams from memory
    static constexpr std::size_t row_blocks_worth_unpacking = 4;

    using i32 = std::int32_t;
    using narrow = i32;  ///< an integer of at most 16 bits, as sub_product16 takes it
    using f32 = float;
    struct codes {
        std::uint8_t at[4];
    };
    struct quads {
        std::int8_t at[4];
    };

    static AQ_INLINE i32 start_sum(const std::int32_t*) { return zero_i32(); }
    static AQ_INLINE i32 zero_i32() { return 0; }
    static AQ_INLINE i32 unspecified() { return zero_i32(); }
    static AQ_INLINE i32 broadcast_i32(std::int32_t v) { return v; }
    static AQ_INLINE i32 load_u8_as_i32(const std::uint8_t* p) { return *p; }
    static AQ_INLINE i32 add(i32 a, i32 b) { return a + b; }
    static AQ_INLINE i32 sub(i32 a, i32 b) { return a - b; }
    static AQ_INLINE i32 mul(i32 a, i32 b) { return a * b; }
    static AQ_INLINE narrow load_u8_as_narrow(const std::uint8_t* p) { return load_u8_as_i32(p); }
    static AQ_INLINE narrow sub_narrow(narrow a, narrow b) { return sub(a, b); }
    static AQ_INLINE narrow broadcast_narrow(std::int32_t v) { return broadcast_i32(v); }
    static AQ_INLINE i32 sub_product16(i32 s, narrow w, narrow a) { return s - w * a; }
    static AQ_INLINE i32 shift_left(i32 a, int count) { return a * (i32{1} << count); }

    static AQ_INLINE f32 broadcast_f32(float v) { return v; }
    static AQ_INLINE f32 load_f32(const float* p) { return *p; }
    static AQ_INLINE void store_f32(float* p, f32 v) { *p = v; }
    static AQ_INLINE f32 to_float(i32 v) { return static_cast<float>(v); }
    static AQ_INLINE f32 add(f32 a, f32 b) { return a + b; }
    static AQ_INLINE f32 sub(f32 a, f32 b) { return a - b; }
    static AQ_INLINE f32 mul(f32 a, f32 b) { return rounded(a * b); }  ///< never fused with an addition

    static AQ_INLINE codes load_codes(const std::uint8_t* p) {
        codes c;
        std::memcpy(c.at, p, sizeof c.at);
        return c;
    }
    template <int Bits>
    static AQ_INLINE codes plane(codes c, int p) {
        for (std::uint8_t& byte : c.at) byte = static_cast<std::uint8_t>(byte >> (Bits * p) & ((1 << Bits) - 1));
        return c;
    }
    static AQ_INLINE void store_codes(std::uint8_t* p, codes c) { std::memcpy(p, c.at, sizeof c.at); }
    template <int Step>
    static AQ_INLINE quads quad(row_quads row) {
        quads q;
        std::memcpy(q.at, row + 4 * Step, sizeof q.at);
        return q;
    }
    static AQ_INLINE i32 add_dot4(i32 sum, codes w, quads a) {
        for (int j = 0; j < 4; ++j) sum += w.at[j] * a.at[j];
        return sum;
    }

    // The packed multiplier (body/packed_multiplier.hpp): the codes of two rows, a byte apart, share the multiplication by a code.
    using packed_quads = quads;
    /// For each place in four, the sum of the row in `high` in the upper 16 bits and of the one in `low` in the lower ones.
    struct packed_sums {
        std::uint32_t at[4];
    };
    static constexpr block_size packed_multiplier_block{1, 1, 8};
    template <int Step>
    static AQ_INLINE packed_quads packed_quad(const std::int8_t* row) {
        return quad<Step>(row);
    }
    static AQ_INLINE packed_sums zero_packed_sums() { return {}; }
    static AQ_INLINE packed_sums add_packed_products(packed_sums sum, codes low, codes high, packed_quads a) {
        for (int j = 0; j < 4; ++j) {
            const std::uint32_t pair = std::uint32_t{high.at[j]} << 8 | low.at[j];
            const std::uint32_t products = pair * static_cast<std::uint32_t>(a.at[j]);  // [high a | low a], 8 bits each
            sum.at[j] += (products | products << 8) & 0x00FF00FFU;                      // [0 | high a | 0 | low a]
        }
        return sum;
    }
    static AQ_INLINE void add_split(i32& low, i32& high, packed_sums sum) {
        for (const std::uint32_t both : sum.at) {
            low += static_cast<i32>(both & 0xFFFFU);
            high += static_cast<i32>(both >> 16);
        }
    }

    // What attention needs beside.
    static AQ_INLINE void store_i32(std::int32_t* p, i32 v) { *p = v; }
    static AQ_INLINE i32 first_lanes() { return 0; }  ///< 0, 1, 2, ...
    static AQ_INLINE i32 load_i32(const std::int32_t* p) { return *p; }
    static AQ_INLINE i32 bit_and(i32 a, i32 b) { return a & b; }
    static AQ_INLINE i32 shift_right(i32 v, i32 count) { return v >> count; }
    template <int Count>
    static AQ_INLINE i32 shift_right(i32 v) {
        return static_cast<i32>(static_cast<std::uint32_t>(v) >> Count);
    }
    template <int Count>
    static AQ_INLINE i32 shift_right_signed(i32 v) {
        return v >> Count;
    }
    template <int Byte>
    static AQ_INLINE i32 byte_of_lane(codes c) {
        return c.at[Byte];
    }
    static AQ_INLINE i32 nearest(f32 x) { return static_cast<i32>(round_half_even(x)); }
    static AQ_INLINE void store_negated(std::int8_t* out, const i32 (&v)[16]) {
        for (int i = 0; i < 16; ++i) out[i] = static_cast<std::int8_t>(-v[i] & 0xFF);
    }
    static AQ_INLINE bool any_greater(f32 x, f32 y) { return x > y; }
    static AQ_INLINE i32 float_bits(f32 x) { return static_cast<i32>(bits_of(x)); }
    static AQ_INLINE f32 load_bfloat16(const std::uint16_t* p) { return float_of(static_cast<std::uint32_t>(*p) << 16); }
    static AQ_INLINE f32 greater(f32 x, f32 y) { return x > y ? x : y; }
    static AQ_INLINE f32 lesser(f32 x, f32 y) { return x < y ? x : y; }
    static AQ_INLINE f32 select_at_least(f32 x, f32 limit, f32 yes, f32 no) { return x >= limit ? yes : no; }
    static AQ_INLINE i32 to_i32(f32 integer) { return static_cast<i32>(integer); }
    /// x 2^e, where the result is normal or x = 1 and e = -127, which gives 0.
    static AQ_INLINE f32 times_power_of_two(f32 x, i32 e) { return float_of(bits_of(x) + (static_cast<std::uint32_t>(e) << 23)); }
    static AQ_INLINE f32 tree_across(const f32 (&v)[lanes]) { return v[0]; }

    // What rows that are computed need beside: see body/row_sources.hpp.
    static AQ_INLINE f32 divide(f32 a, f32 b) { return a / b; }
    static AQ_INLINE f32 add_to_exponent(f32 x, f32 e) { return float_of(bits_of(x) + (bits_of(e) << 23)); }
    static AQ_INLINE f32 cleared_where_above(f32 x, f32 v, f32 limit) { return v > limit ? 0.0F : x; }

    static value_range range_of(const float* x, std::size_t count) { return aq::range_of(x, count); }
    static void encode(const float* x, std::size_t count, float inverse_scale, std::int32_t zero, code_range range,
                       std::int8_t* out) {
        for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<std::int8_t>(aq::encode(x[i], inverse_scale, zero, range));
    }
    static std::int32_t sum_of(const std::int8_t* c, std::size_t count) {
        std::int32_t sum = 0;
        for (std::size_t i = 0; i < count; ++i) sum += c[i];
        return sum;
    }
};

}  // namespace scalar
}  // namespace aq
