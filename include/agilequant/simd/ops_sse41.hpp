/// \file
/// The operations of kernels on SSE4.1 (and SSSE3): the floor that every x86 CPU of the last fifteen years has.
/// Included once, inside the target region that dispatch/foreach.hpp opens.
///
/// | instruction | use | latency, per cycle on Zen 3 | on Ice Lake |
/// |---|---|---|---|
/// | pmaddubsw | products: u8 by s8, two products a 16-bit lane, saturating (never reached: core/bits.hpp) | 3, 2 | 5, 2 |
/// | pmaddwd | widened; add_dot4 of 8-bit weights | 3, 2 | 5, 2 |
/// | paddw, paddd | sums | 1, 4 | 1, 3 |
/// | pand, psrlw | planes | 1, 4 and 1, 2 | 1, 3 and 1, 2 |
/// | movd, pshufd | quad: a load and a shuffle | 1, 2 | 1, 2 |
/// (the scheduling models of llvm-mca 14)
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "agilequant/core/config.hpp"
#include "agilequant/quant/uniform.hpp"
#include "agilequant/simd/ops_scalar.hpp"

namespace aq {
namespace sse41 {

struct ops : ops_defaults {
    static constexpr int lanes = 4;
    static constexpr block_size block{2, 1};  ///< 8 sums in 16 bits, 4 of weights, 1 of activations: 16 registers
    static constexpr std::size_t prefetch_bytes = 1024;
    static constexpr block_size attention_block{2, 1};
    static constexpr int attention_streams = 1;
    static constexpr block_size block_of_one_row{1, 2};
    static constexpr std::size_t row_blocks_worth_unpacking = 16;
    template <int WeightMagnitude, int ActivationBits>
    static constexpr std::int64_t steps_in_16_bits = products_in_16_bits(WeightMagnitude, ActivationBits) / 2;

    using i32 = __m128i;
    using narrow = i32;  ///< an integer of at most 16 bits, as sub_product16 takes it
    using f32 = __m128;
    using codes = __m128i;
    using quads = __m128i;
    using i16_sums = __m128i;

    static AQ_INLINE i32 start_sum(const std::int32_t*) { return zero_i32(); }
    static AQ_INLINE i32 zero_i32() { return _mm_setzero_si128(); }
    static AQ_INLINE i32 unspecified() {
        i32 v;
        asm("" : "=x"(v));  // no instruction
        return v;
    }
    static AQ_INLINE i32 broadcast_i32(std::int32_t v) { return _mm_set1_epi32(v); }
    static AQ_INLINE i32 load_u8_as_i32(const std::uint8_t* p) { return _mm_cvtepu8_epi32(load_4_bytes(p)); }
    static AQ_INLINE i32 add(i32 a, i32 b) { return _mm_add_epi32(a, b); }
    static AQ_INLINE i32 sub(i32 a, i32 b) { return _mm_sub_epi32(a, b); }
    static AQ_INLINE i32 mul(i32 a, i32 b) { return _mm_mullo_epi32(a, b); }
    static AQ_INLINE narrow load_u8_as_narrow(const std::uint8_t* p) { return load_u8_as_i32(p); }
    static AQ_INLINE narrow sub_narrow(narrow a, narrow b) { return sub(a, b); }
    static AQ_INLINE narrow broadcast_narrow(std::int32_t v) { return broadcast_i32(v); }
    static AQ_INLINE i32 sub_product16(i32 s, narrow w, narrow a) { return sub(s, _mm_madd_epi16(w, a)); }
    static AQ_INLINE i32 shift_left(i32 a, int count) { return _mm_sll_epi32(a, _mm_cvtsi32_si128(count)); }

    static AQ_INLINE f32 broadcast_f32(float v) { return _mm_set1_ps(v); }
    static AQ_INLINE f32 load_f32(const float* p) { return _mm_loadu_ps(p); }
    static AQ_INLINE void store_f32(float* p, f32 v) { _mm_storeu_ps(p, v); }
    static AQ_INLINE f32 to_float(i32 v) { return _mm_cvtepi32_ps(v); }
    static AQ_INLINE f32 add(f32 a, f32 b) { return _mm_add_ps(a, b); }
    static AQ_INLINE f32 sub(f32 a, f32 b) { return _mm_sub_ps(a, b); }
    static AQ_INLINE f32 mul(f32 a, f32 b) {
        f32 product = _mm_mul_ps(a, b);
        asm("" : "+x"(product));  // keeps the compiler from fusing it with an addition
        return product;
    }

    static AQ_INLINE codes load_codes(const std::uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
    static AQ_INLINE void store_codes(std::uint8_t* p, codes c) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), c); }
    template <int Bits>
    static AQ_INLINE codes plane(codes c, int p) {
        if constexpr (Bits == 8) return c;
        else return _mm_and_si128(_mm_srli_epi16(c, Bits * p), _mm_set1_epi8((1 << Bits) - 1));
    }
    template <int Step>
    static AQ_INLINE quads quad(row_quads row) {
        std::int32_t four;
        std::memcpy(&four, row + 4 * Step, sizeof four);
        return _mm_set1_epi32(four);
    }

    static AQ_INLINE i16_sums products(codes w, quads a) { return _mm_maddubs_epi16(w, a); }
    static AQ_INLINE i16_sums add_pairs(i16_sums a, i16_sums b) {
        i16_sums sum = _mm_add_epi16(a, b);
        asm("" : "+x"(sum));  // keeps gcc from making a tree of a chain of sums, for which there are not registers enough
        return sum;
    }
    static AQ_INLINE i32 widened(i16_sums p) { return _mm_madd_epi16(p, _mm_set1_epi16(1)); }

    static AQ_INLINE i16_sums add_products(i16_sums sum, codes w, quads a) { return add_pairs(sum, products(w, a)); }

    /// 8-bit weights saturate pmaddubsw, so even and odd bytes are widened first: two pmaddwd, exact.
    static AQ_INLINE i32 add_dot4(i32 sum, codes w, quads a) {
        const __m128i w_even = _mm_and_si128(w, _mm_set1_epi16(0xFF)), w_odd = _mm_srli_epi16(w, 8);
        const __m128i a_even = _mm_srai_epi16(_mm_slli_epi16(a, 8), 8), a_odd = _mm_srai_epi16(a, 8);
        return add(sum, add(_mm_madd_epi16(w_even, a_even), _mm_madd_epi16(w_odd, a_odd)));
    }

    // The packed multiplier: see ops_scalar.hpp. A product of two codes by one fits 16 bits, so pmullw does for 32-bit lanes.
    using packed_quads = __m128i;
    struct packed_sums {
        __m128i at[4];  ///< at[i]: row i of either register, by places
    };
    static constexpr block_size packed_multiplier_block{1, 1, 2};  ///< two rows would need more than 16 registers
    template <int Step>
    static AQ_INLINE packed_quads packed_quad(const std::int8_t* row) {
        return _mm_cvtepu8_epi32(load_4_bytes(row + 4 * Step));
    }
    static AQ_INLINE packed_sums zero_packed_sums() { return {{zero_i32(), zero_i32(), zero_i32(), zero_i32()}}; }
    static AQ_INLINE packed_sums add_packed_products(packed_sums sum, codes low, codes high, packed_quads a) {
        const __m128i zero = zero_i32(), first = _mm_unpacklo_epi8(low, high), second = _mm_unpackhi_epi8(low, high);
        const __m128i pairs[] = {_mm_unpacklo_epi16(first, zero), _mm_unpackhi_epi16(first, zero),
                                 _mm_unpacklo_epi16(second, zero), _mm_unpackhi_epi16(second, zero)};
        AQ_UNROLL for (int i = 0; i < 4; ++i) {
            const __m128i products = _mm_mullo_epi16(pairs[i], a);
            const __m128i both = _mm_or_si128(products, _mm_slli_epi32(products, 8));
            sum.at[i] = add(sum.at[i], _mm_and_si128(both, _mm_set1_epi32(0x00FF00FF)));
            asm("" : "+x"(sum.at[i]));  // as in add_pairs
        }
        return sum;
    }
    static AQ_INLINE void add_split(i32& low, i32& high, const packed_sums& sum) {
        i32 lows[4], highs[4];
        AQ_UNROLL for (int i = 0; i < 4; ++i) {
            lows[i] = _mm_and_si128(sum.at[i], _mm_set1_epi32(0xFFFF));
            highs[i] = _mm_srli_epi32(sum.at[i], 16);
        }
        low = add(low, sum_across(lows));
        high = add(high, sum_across(highs));
    }

    // What attention needs beside: see ops_scalar.hpp.
    static AQ_INLINE void store_i32(std::int32_t* p, i32 v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
    static AQ_INLINE i32 first_lanes() { return _mm_setr_epi32(0, 1, 2, 3); }
    static AQ_INLINE i32 load_i32(const std::int32_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
    static AQ_INLINE i32 bit_and(i32 a, i32 b) { return _mm_and_si128(a, b); }
    /// There is no shift by counts of their own, but a multiplication by powers of two.
    static AQ_INLINE i32 shift_right(i32 v, i32 count) {
        const __m128i power = _mm_slli_epi32(_mm_sub_epi32(_mm_set1_epi32(127), count), 23);
        return _mm_cvttps_epi32(_mm_mul_ps(_mm_cvtepi32_ps(v), _mm_castsi128_ps(power)));
    }
    template <int Count>
    static AQ_INLINE i32 shift_right(i32 v) {
        return _mm_srli_epi32(v, Count);
    }
    template <int Count>
    static AQ_INLINE i32 shift_right_signed(i32 v) {
        return _mm_srai_epi32(v, Count);
    }
    template <int Byte>
    static AQ_INLINE i32 byte_of_lane(codes c) {
        return bit_and(shift_right<8 * Byte>(c), broadcast_i32(0xFF));
    }
    static AQ_INLINE void store_negated(std::int8_t* out, const i32 (&v)[4]) {
        const __m128i low = broadcast_i32(0xFF);
        const __m128i first = _mm_packus_epi32(bit_and(v[0], low), bit_and(v[1], low));
        const __m128i second = _mm_packus_epi32(bit_and(v[2], low), bit_and(v[3], low));
        const __m128i bytes = _mm_packus_epi16(first, second);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_sub_epi8(_mm_setzero_si128(), bytes));
    }
    static AQ_INLINE bool any_greater(f32 x, f32 y) { return _mm_movemask_ps(_mm_cmpgt_ps(x, y)) != 0; }
    static AQ_INLINE i32 float_bits(f32 x) { return _mm_castps_si128(x); }
    static AQ_INLINE f32 load_bfloat16(const std::uint16_t* p) {
        const __m128i upper = _mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
        return _mm_castsi128_ps(_mm_slli_epi32(upper, 16));
    }
    static AQ_INLINE f32 greater(f32 x, f32 y) { return _mm_max_ps(x, y); }
    static AQ_INLINE f32 lesser(f32 x, f32 y) { return _mm_min_ps(x, y); }
    static AQ_INLINE f32 select_at_least(f32 x, f32 limit, f32 yes, f32 no) {
        return _mm_blendv_ps(no, yes, _mm_cmpge_ps(x, limit));
    }
    static AQ_INLINE i32 to_i32(f32 integer) { return _mm_cvttps_epi32(integer); }
    static AQ_INLINE f32 times_power_of_two(f32 x, i32 e) {
        return _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(x), _mm_slli_epi32(e, 23)));
    }
    static AQ_INLINE f32 tree_across(const f32 (&v)[lanes]) {
        const f32 low = _mm_add_ps(_mm_movelh_ps(v[0], v[1]), _mm_movehl_ps(v[1], v[0]));
        const f32 high = _mm_add_ps(_mm_movelh_ps(v[2], v[3]), _mm_movehl_ps(v[3], v[2]));
        return _mm_add_ps(_mm_shuffle_ps(low, high, 0x88), _mm_shuffle_ps(low, high, 0xDD));
    }
    static AQ_INLINE i32 sum_across(const i32 (&v)[lanes]) {
        return _mm_hadd_epi32(_mm_hadd_epi32(v[0], v[1]), _mm_hadd_epi32(v[2], v[3]));
    }
    // What quantizing rows needs beside: see body/rows.hpp.
    static AQ_INLINE f32 cleared_where_nan(f32 x) { return _mm_and_ps(x, _mm_cmpord_ps(x, x)); }
    static AQ_INLINE i32 magnitude_bits(f32 x) { return _mm_and_si128(_mm_castps_si128(x), _mm_set1_epi32(0x7FFFFFFF)); }
    static AQ_INLINE i32 greater(i32 x, i32 y) { return _mm_max_epi32(x, y); }
    static AQ_INLINE i32 nearest(f32 x) { return _mm_cvtps_epi32(x); }
    struct code_clip {
        __m128i least, most;
    };
    static AQ_INLINE code_clip clip_to(code_range r) {
        return {_mm_set1_epi8(static_cast<char>(r.low)), _mm_set1_epi8(static_cast<char>(r.high))};
    }
    static AQ_INLINE void store_clipped(std::int8_t* out, const i32 (&v)[4], const code_clip& clip) {
        const __m128i codes = _mm_packs_epi16(_mm_packs_epi32(v[0], v[1]), _mm_packs_epi32(v[2], v[3]));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_max_epi8(_mm_min_epi8(codes, clip.most), clip.least));
    }

    // What rows that are computed need beside: see body/row_sources.hpp.
    static AQ_INLINE f32 divide(f32 a, f32 b) { return _mm_div_ps(a, b); }
    static AQ_INLINE f32 add_to_exponent(f32 x, f32 e) {
        return _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(x), _mm_slli_epi32(_mm_castps_si128(e), 23)));
    }
    static AQ_INLINE f32 cleared_where_above(f32 x, f32 v, f32 limit) { return _mm_andnot_ps(_mm_cmpgt_ps(v, limit), x); }

    static std::int32_t sum_of(const std::int8_t* c, std::size_t count) {
        __m128i sum = _mm_setzero_si128();
        for (std::size_t i = 0; i < count; i += 16) {
            const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(c + i));
            sum = _mm_add_epi32(sum, _mm_madd_epi16(_mm_maddubs_epi16(_mm_set1_epi8(1), bytes), _mm_set1_epi16(1)));
        }
        sum = _mm_hadd_epi32(sum, sum);
        return _mm_cvtsi128_si32(_mm_hadd_epi32(sum, sum));
    }

private:
    static AQ_INLINE __m128i load_4_bytes(const void* p) {
        std::int32_t four;
        std::memcpy(&four, p, sizeof four);
        return _mm_cvtsi32_si128(four);
    }
};

}  // namespace sse41
}  // namespace aq
