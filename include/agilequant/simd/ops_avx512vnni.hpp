/// \file
/// The operations of kernels on AVX-512 with VNNI (and F, BW, VL). Included inside a target region.
///
/// | instruction | use | latency, per cycle on Ice Lake | on Zen 4 |
/// |---|---|---|---|
/// | vpdpbusd zmm | add_dot4: u8 by s8, four products a lane, added in 32 bits without saturating | 5, 1 (2 on servers) | 4, 1 |
/// | vpbroadcastd zmm, m32 | quad: a load, no arithmetic port | 8, 2 | 8, 1 |
/// | vpmulld, vcvtdq2ps, vmulps, vaddps zmm | the step from a group's sum to its float | 10, 1; 4, 1; 4, 1; 4, 1 | 3, 1; 3, 1; 3, 1; 3, 1 |
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "agilequant/core/config.hpp"
#include "agilequant/quant/uniform.hpp"
#include "agilequant/simd/ops_scalar.hpp"

namespace aq {
namespace avx512vnni {

struct ops : ops_defaults {
    static constexpr int lanes = 16;
    static constexpr block_size block{8, 3};  ///< 24 sums, 3 of weights, 1 of activations, constants: 32 registers
    static constexpr std::size_t prefetch_bytes = 1024;
    static constexpr block_size block_of_one_row{1, 2};
    static constexpr block_size attention_block{6, 4};  ///< 24 sums, 4 of codes: heads of 64 and 128 channels are whole tiles
    static constexpr int attention_streams = 8;
    static constexpr std::size_t streamed_panels = 8;
    static constexpr std::size_t row_blocks_worth_unpacking = 0;  ///< never: measured on Zen 4
    static constexpr bool has_group_kinds =
        true;  ///< and one form of any: else gcc 12 keeps 24 sums on the stack, at a third of the speed
    static constexpr bool chooses_short_sums = false;
    /// Masks of all lanes: the forms without a mask warn of an uninitialized register in gcc 12, to the same code.
    static constexpr __mmask16 all = 0xFFFF;

    using i32 = __m512i;
    using narrow = i32;  ///< an integer of at most 16 bits, as sub_product16 takes it
    using f32 = __m512;
    using codes = __m512i;
    using quads = __m512i;

    static AQ_INLINE i32 start_sum(const std::int32_t*) { return zero_i32(); }
    static AQ_INLINE i32 zero_i32() { return _mm512_setzero_si512(); }
    static AQ_INLINE i32 unspecified() { return zero_i32(); }
    static AQ_INLINE i32 broadcast_i32(std::int32_t v) { return _mm512_set1_epi32(v); }
    static AQ_INLINE i32 load_u8_as_i32(const std::uint8_t* p) {
        return _mm512_maskz_cvtepu8_epi32(all, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static AQ_INLINE i32 add(i32 a, i32 b) { return _mm512_add_epi32(a, b); }
    static AQ_INLINE i32 sub(i32 a, i32 b) { return _mm512_sub_epi32(a, b); }
    static AQ_INLINE i32 mul(i32 a, i32 b) { return _mm512_mullo_epi32(a, b); }
    static AQ_INLINE narrow load_u8_as_narrow(const std::uint8_t* p) { return load_u8_as_i32(p); }
    static AQ_INLINE narrow sub_narrow(narrow a, narrow b) { return sub(a, b); }
    static AQ_INLINE narrow broadcast_narrow(std::int32_t v) { return broadcast_i32(v); }
    static AQ_INLINE i32 sub_product16(i32 s, narrow w, narrow a) { return sub(s, _mm512_madd_epi16(w, a)); }
    static AQ_INLINE i32 shift_left(i32 a, int count) { return _mm512_maskz_sll_epi32(all, a, _mm_cvtsi32_si128(count)); }

    static AQ_INLINE f32 broadcast_f32(float v) { return _mm512_set1_ps(v); }
    static AQ_INLINE f32 load_f32(const float* p) { return _mm512_loadu_ps(p); }
    static AQ_INLINE void store_f32(float* p, f32 v) { _mm512_storeu_ps(p, v); }
    static AQ_INLINE f32 to_float(i32 v) { return _mm512_maskz_cvtepi32_ps(all, v); }
    static AQ_INLINE f32 add(f32 a, f32 b) { return _mm512_add_ps(a, b); }
    static AQ_INLINE f32 sub(f32 a, f32 b) { return _mm512_sub_ps(a, b); }
    static AQ_INLINE f32 mul(f32 a, f32 b) {
        f32 product = _mm512_mul_ps(a, b);
        asm("" : "+v"(product));  // keeps the compiler from fusing it with an addition
        return product;
    }

    static AQ_INLINE codes load_codes(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
    static AQ_INLINE void store_codes(std::uint8_t* p, codes c) { _mm512_storeu_si512(p, c); }
    template <int Bits>
    static AQ_INLINE codes plane(codes c, int p) {
        if constexpr (Bits == 8) return c;
        else {
            const codes shifted = _mm512_maskz_srli_epi16(0xFFFFFFFFU, c, Bits * p);
            return _mm512_and_si512(shifted, _mm512_set1_epi8((1 << Bits) - 1));
        }
    }
    template <int Step>
    static AQ_INLINE quads quad(row_quads row) {
        std::int32_t four;
        std::memcpy(&four, row + 4 * Step, sizeof four);
        return _mm512_set1_epi32(four);
    }
    static AQ_INLINE i32 add_dot4(i32 sum, codes w, quads a) {
        sum = _mm512_dpbusd_epi32(sum, w, a);
        asm("" : "+v"(sum));  // keeps gcc from reordering steps until 24 sums no longer fit the registers
        return sum;
    }

    // What attention needs beside: see ops_scalar.hpp.
    static AQ_INLINE i32 load_i32(const std::int32_t* p) { return _mm512_loadu_si512(p); }
    static AQ_INLINE i32 first_lanes() { return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
    static AQ_INLINE i32 bit_and(i32 a, i32 b) { return _mm512_and_si512(a, b); }
    static AQ_INLINE i32 shift_right(i32 v, i32 count) { return _mm512_maskz_srlv_epi32(all, v, count); }
    template <int Count>
    static AQ_INLINE i32 shift_right(i32 v) {
        return _mm512_maskz_srli_epi32(all, v, Count);
    }
    template <int Count>
    static AQ_INLINE i32 shift_right_signed(i32 v) {
        return _mm512_maskz_srai_epi32(all, v, Count);
    }
    template <int Byte>
    static AQ_INLINE i32 byte_of_lane(codes c) {
        return bit_and(shift_right<8 * Byte>(c), broadcast_i32(0xFF));
    }
    static AQ_INLINE void store_negated(std::int8_t* out, const i32 (&v)[1]) {
        const __m128i bytes = _mm512_maskz_cvtepi32_epi8(all, v[0]);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_sub_epi8(_mm_setzero_si128(), bytes));
    }
    static AQ_INLINE bool any_greater(f32 x, f32 y) { return _mm512_cmp_ps_mask(x, y, _CMP_GT_OQ) != 0; }
    static AQ_INLINE i32 float_bits(f32 x) { return _mm512_castps_si512(x); }
    static AQ_INLINE f32 load_bfloat16(const std::uint16_t* p) {
        const __m256i sixteen = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(all, _mm512_maskz_cvtepu16_epi32(all, sixteen), 16));
    }
    static AQ_INLINE f32 select_at_least(f32 x, f32 limit, f32 yes, f32 no) {
        return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, limit, _CMP_GE_OQ), no, yes);
    }
    static AQ_INLINE i32 to_i32(f32 integer) { return _mm512_maskz_cvttps_epi32(all, integer); }
    static AQ_INLINE f32 times_power_of_two(f32 x, i32 e) {
        return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_maskz_slli_epi32(all, e, 23)));
    }
    /// The halves of x, then those of y, added: of 8 lanes, of 4, of 2, of 1.
    static AQ_INLINE f32 tree_across(const f32 (&v)[lanes]) {
        f32 by_8[8], by_4[4], by_2[2];
        AQ_UNROLL for (int i = 0; i < 8; ++i) {
            by_8[i] =
                add(_mm512_maskz_shuffle_f32x4(all, v[i], v[i + 8], 0x44), _mm512_maskz_shuffle_f32x4(all, v[i], v[i + 8], 0xEE));
        }
        AQ_UNROLL for (int i = 0; i < 4; ++i) {
            const f32 x = by_8[i], y = by_8[i + 4];
            by_4[i] = add(_mm512_maskz_shuffle_f32x4(all, x, y, 0x88), _mm512_maskz_shuffle_f32x4(all, x, y, 0xDD));
        }
        AQ_UNROLL for (int i = 0; i < 2; ++i) {
            const f32 x = by_4[i], y = by_4[i + 2];
            by_2[i] = add(_mm512_maskz_shuffle_ps(all, x, y, 0x44), _mm512_maskz_shuffle_ps(all, x, y, 0xEE));
        }
        const f32 sums =
            add(_mm512_maskz_shuffle_ps(all, by_2[0], by_2[1], 0x88), _mm512_maskz_shuffle_ps(all, by_2[0], by_2[1], 0xDD));
        const __m512i order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
        return _mm512_maskz_permutexvar_ps(all, order, sums);
    }

    // What quantizing rows needs beside: see body/rows.hpp.
    static AQ_INLINE f32 greater(f32 x, f32 y) { return _mm512_maskz_max_ps(all, x, y); }
    static AQ_INLINE f32 lesser(f32 x, f32 y) { return _mm512_maskz_min_ps(all, x, y); }
    static AQ_INLINE void store_i32(std::int32_t* p, i32 v) { _mm512_storeu_si512(p, v); }
    static AQ_INLINE f32 cleared_where_nan(f32 x) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), x); }
    static AQ_INLINE i32 magnitude_bits(f32 x) { return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7FFFFFFF)); }
    static AQ_INLINE i32 greater(i32 x, i32 y) { return _mm512_maskz_max_epi32(all, x, y); }
    static AQ_INLINE i32 nearest(f32 x) { return _mm512_maskz_cvtps_epi32(all, x); }
    struct code_clip {
        __m128i least, most;
    };
    static AQ_INLINE code_clip clip_to(code_range r) {
        return {_mm_set1_epi8(static_cast<char>(r.low)), _mm_set1_epi8(static_cast<char>(r.high))};
    }
    static AQ_INLINE void store_clipped(std::int8_t* out, const i32 (&v)[1], const code_clip& clip) {
        const __m128i codes = _mm512_maskz_cvtsepi32_epi8(all, v[0]);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm_max_epi8(_mm_min_epi8(codes, clip.most), clip.least));
    }

    // What rows that are computed need beside: see body/row_sources.hpp.
    static AQ_INLINE f32 divide(f32 a, f32 b) { return _mm512_div_ps(a, b); }
    static AQ_INLINE f32 add_to_exponent(f32 x, f32 e) {
        const i32 steps = _mm512_maskz_slli_epi32(all, _mm512_castps_si512(e), 23);
        return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), steps));
    }
    static AQ_INLINE f32 cleared_where_above(f32 x, f32 v, f32 limit) {
        return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, limit, _CMP_NGT_UQ), x);
    }

    static std::int32_t sum_of(const std::int8_t* c, std::size_t count) {
        __m512i sums = _mm512_setzero_si512();
        std::size_t i = 0;
        for (; count - i >= 64; i += 64) sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), _mm512_loadu_si512(c + i));
        const __mmask64 left = count == i ? 0 : ~std::uint64_t{0} >> (64 - (count - i));
        sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), _mm512_maskz_loadu_epi8(left, c + i));
        __m256i eight =
            _mm256_add_epi32(_mm512_maskz_extracti64x4_epi64(0xF, sums, 0), _mm512_maskz_extracti64x4_epi64(0xF, sums, 1));
        eight = _mm256_hadd_epi32(eight, eight);
        eight = _mm256_hadd_epi32(eight, eight);
        return _mm_cvtsi128_si32(_mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1)));
    }
};

}  // namespace avx512vnni
}  // namespace aq
