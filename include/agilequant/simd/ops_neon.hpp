/// \file
/// The operations of kernels on Armv8.0's Advanced SIMD: every 64-bit Arm core, and the best of those without dot products
/// (Cortex-A53, A57, A72, A73).
///
/// | instruction | use | latency, per cycle on Cortex-A72 | on Cortex-A76 |
/// |---|---|---|---|
/// | smlal, smlal2 | add_products: eight s8 by s8 products added to 16 bits, on the one multiplier | 4 (1 to the next), 1 | 4 (1 to the next), 1 |
/// | saddlp, sadalp | widened, add_two_steps: pairs of 16 bits to 32 | 3 and 4, 1 | 2 and 4, 1 |
/// | addp | sums across, sum_of_halves | 3, 2 | 2, 2 |
/// | and, ushr, eor | planes | 3, 2; 3, 1; 3, 2 | 2, 2; 2, 1; 2, 2 |
/// | dup (element) | quad: four bytes to every lane | 3, 2 | 2, 2 |
/// | umull, umull2, zip1, zip2, uxtl | add_packed_products | 4, 1; 3, 2; 3, 1 | 4, 1; 2, 2; 2, 1 |
/// | smlsl | sub_product16 | 4, 1 | 4, 1 |
/// | scvtf | to_float | 3, 1/2 | 4, 1/2 |
/// (vendors' optimisation guides and published measurements: see docs/arm-model.md)
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "agilequant/core/config.hpp"
#include "agilequant/quant/uniform.hpp"
#include "agilequant/simd/ops_scalar.hpp"

namespace aq {
namespace neon {

struct ops : ops_defaults {
    static constexpr int lanes = 4;
    static constexpr block_size block{4, 1,
                                      2};  ///< 16 registers of 16-bit sums, 4 of codes, 4 of activations, constants: 32 registers
    static constexpr block_size block_of_bytes{2, 1, 2};  ///< 8 registers of 32-bit sums, 2 of products, 4 of codes
    static constexpr block_size attention_block{2, 1};    ///< 8 sums in two halves each, 4 of codes
    static constexpr block_size block_of_few_rows{2, 1};
    static constexpr block_size block_of_one_row{1, 2};
    static constexpr int streams_of_other_widths = 1;  ///< two panels have too many sums (8 bits) or planes (2 bits)
    static constexpr std::size_t row_blocks_worth_unpacking = 4;
    static constexpr bool has_two_steps = true;
    static constexpr bool has_group_kinds = true;

    /// Only s8 by s8 is there, so codes of 8 bits are centered; unpacked ones of 4 too, which doubles what 16 bits hold.
    template <int Bits>
    static constexpr int center = Bits == 8 ? 128 : 0;
    template <int Bits>
    static constexpr int unpacked_center = Bits == 2 ? 0 : 1 << (Bits - 1);

    /// One product a lane and step.
    template <int WeightMagnitude, int ActivationBits>
    static constexpr std::int64_t steps_in_16_bits = products_in_16_bits(WeightMagnitude, ActivationBits);

    using i32 = int32x4_t;
    using narrow = int16x4_t;
    using f32 = float32x4_t;
    using codes = int8x16_t;
    using quads = int8x16_t;
    using row_quads = int8x16_t;
    struct i16_sums {
        int16x8_t low, high;  ///< of two rows each
    };
    struct i32_halves {
        int32x4_t low, high;
    };

    static AQ_INLINE i32 start_sum(const std::int32_t*) { return zero_i32(); }
    static AQ_INLINE i32 zero_i32() { return vdupq_n_s32(0); }
    static AQ_INLINE i32 unspecified() {
        i32 v;
        asm("" : "=w"(v));  // no instruction
        return v;
    }
    static AQ_INLINE i32 broadcast_i32(std::int32_t v) { return vdupq_n_s32(v); }
    static AQ_INLINE i32 load_u8_as_i32(const std::uint8_t* p) { return vmovl_s16(load_u8_as_narrow(p)); }
    static AQ_INLINE i32 add(i32 a, i32 b) { return vaddq_s32(a, b); }
    static AQ_INLINE i32 sub(i32 a, i32 b) { return vsubq_s32(a, b); }
    static AQ_INLINE i32 mul(i32 a, i32 b) { return vmulq_s32(a, b); }
    static AQ_INLINE narrow load_u8_as_narrow(const std::uint8_t* p) {
        std::uint32_t four;
        std::memcpy(&four, p, sizeof four);
        return vreinterpret_s16_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)))));
    }
    static AQ_INLINE narrow sub_narrow(narrow a, narrow b) { return vsub_s16(a, b); }
    static AQ_INLINE narrow broadcast_narrow(std::int32_t v) { return vdup_n_s16(static_cast<std::int16_t>(v)); }
    static AQ_INLINE i32 sub_product16(i32 s, narrow w, narrow a) { return vmlsl_s16(s, w, a); }
    static AQ_INLINE i32 shift_left(i32 a, int count) { return vshlq_s32(a, vdupq_n_s32(count)); }

    static AQ_INLINE f32 broadcast_f32(float v) { return vdupq_n_f32(v); }
    static AQ_INLINE f32 load_f32(const float* p) { return vld1q_f32(p); }
    static AQ_INLINE void store_f32(float* p, f32 v) { vst1q_f32(p, v); }
    static AQ_INLINE f32 to_float(i32 v) { return vcvtq_f32_s32(v); }
    static AQ_INLINE f32 add(f32 a, f32 b) { return vaddq_f32(a, b); }
    static AQ_INLINE f32 sub(f32 a, f32 b) { return vsubq_f32(a, b); }
    static AQ_INLINE f32 mul(f32 a, f32 b) {
        f32 product = vmulq_f32(a, b);
        asm("" : "+w"(product));  // keeps the compiler from fusing it with an addition
        return product;
    }

    static AQ_INLINE codes load_codes(const std::uint8_t* p) { return vreinterpretq_s8_u8(vld1q_u8(p)); }
    static AQ_INLINE void store_codes(std::uint8_t* p, codes c) { vst1q_u8(p, vreinterpretq_u8_s8(c)); }
    template <int Bits>
    static AQ_INLINE codes plane(codes c, int p) {
        const uint8x16_t bytes = vreinterpretq_u8_s8(c), mask = vdupq_n_u8((1 << Bits) - 1);
        if constexpr (Bits == 8) {
            return vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(128)));
        } else {  // the planes are constants, once inlined
            if (p == 0) return vreinterpretq_s8_u8(vandq_u8(bytes, mask));
            if (p == 8 / Bits - 1) return vreinterpretq_s8_u8(vshrq_n_u8(bytes, 8 - Bits));
            return vreinterpretq_s8_u8(vandq_u8(p == 1 ? vshrq_n_u8(bytes, 2) : vshrq_n_u8(bytes, 4), mask));
        }
    }
    static AQ_INLINE codes sub_bytes(codes a, codes b) { return vsubq_s8(a, b); }
    static AQ_INLINE codes mul_bytes(codes a, codes b) { return vmulq_s8(a, b); }
    /// The byte of each of four rows, beside its four codes.
    static AQ_INLINE codes spread_bytes(const std::uint8_t* p) {
        std::uint32_t four;
        std::memcpy(&four, p, sizeof four);
        const uint8x16_t bytes = vreinterpretq_u8_u32(vdupq_n_u32(four)), twice = vzip1q_u8(bytes, bytes);
        return vreinterpretq_s8_u8(vzip1q_u8(twice, twice));
    }
    static AQ_INLINE codes broadcast_byte(int v) { return vdupq_n_s8(static_cast<std::int8_t>(v)); }

    static AQ_INLINE row_quads load_quads(const std::int8_t* p) { return vld1q_s8(p); }
    template <int Step>
    static AQ_INLINE quads quad(row_quads row) {
        return vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(row), Step));
    }

    static AQ_INLINE i16_sums products(codes w, quads a) {
        return {vmull_s8(vget_low_s8(w), vget_low_s8(a)), vmull_high_s8(w, a)};
    }
    static AQ_INLINE i16_sums add_products(i16_sums sum, codes w, quads a) {
        return {vmlal_s8(sum.low, vget_low_s8(w), vget_low_s8(a)), vmlal_high_s8(sum.high, w, a)};
    }
    static AQ_INLINE i32 widened(i16_sums p) { return vpaddq_s32(vpaddlq_s16(p.low), vpaddlq_s16(p.high)); }

    /// See body/lane_starts.hpp: -Center times the sum of every fourth of `count` activation codes, for all rows.
    template <int Center>
    static void store_start(const std::int8_t* codes, std::size_t count, std::int8_t* out) {
        int16x8_t sum = vdupq_n_s16(0);
        for (std::size_t i = 0; i < count; i += 16) {
            const int8x16_t sixteen = vld1q_s8(codes + i);
            sum = vaddw_high_s8(vaddw_s8(sum, vget_low_s8(sixteen)), sixteen);
        }
        sum = vmulq_n_s16(vaddq_s16(sum, vextq_s16(sum, sum, 4)), -Center);
        vst1q_s8(out, vreinterpretq_s8_s16(sum));
    }
    static AQ_INLINE i16_sums start_partial(const std::int8_t* p) {
        const int16x8_t start = vreinterpretq_s16_s8(vld1q_s8(p));
        return {start, start};
    }

    static AQ_INLINE i32_halves zero_halves() { return {zero_i32(), zero_i32()}; }
    static AQ_INLINE i32_halves add_two_steps(i32_halves sum, const codes (&w)[2], const quads (&a)[2]) {
        const int16x8_t low = vmull_s8(vget_low_s8(w[0]), vget_low_s8(a[0])), high = vmull_high_s8(w[0], a[0]);
        return {vpadalq_s16(sum.low, vmlal_s8(low, vget_low_s8(w[1]), vget_low_s8(a[1]))),
                vpadalq_s16(sum.high, vmlal_high_s8(high, w[1], a[1]))};
    }
    static AQ_INLINE i32_halves shift_left(i32_halves sum, int count) {
        return {shift_left(sum.low, count), shift_left(sum.high, count)};
    }
    static AQ_INLINE i32 sum_of_halves(i32_halves sum) { return vpaddq_s32(sum.low, sum.high); }

    // The packed multiplier: see ops_scalar.hpp.
    using packed_quads = uint16x8_t;  ///< four codes, twice
    struct packed_sums {
        uint32x4_t at[4];  ///< at[i]: row i of either register, by places
    };
    /// 16 sums, 2 of codes as stored and 2 of pairs, 1 of activations, the masks, and products on their way: 32 registers.
    static constexpr block_size packed_multiplier_block{4, 1, 2};
    template <int Step>
    static AQ_INLINE packed_quads packed_quad(const std::int8_t* row) {
        std::uint32_t four;
        std::memcpy(&four, row + 4 * Step, sizeof four);
        return vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
    }
    static AQ_INLINE packed_sums zero_packed_sums() { return {{vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0), vdupq_n_u32(0)}}; }
    static AQ_INLINE uint32x4_t add_spread(uint32x4_t sum, uint32x4_t products) {
        return vaddq_u32(sum, vandq_u32(vorrq_u32(products, vshlq_n_u32(products, 8)), vdupq_n_u32(0x00FF00FF)));
    }
    static AQ_INLINE packed_sums add_packed_products(const packed_sums& sum, codes low, codes high, packed_quads a) {
        const uint16x8_t first = vreinterpretq_u16_s8(vzip1q_s8(low, high)), second = vreinterpretq_u16_s8(vzip2q_s8(low, high));
        uint32x4_t s0 = add_spread(sum.at[0], vmull_u16(vget_low_u16(first), vget_low_u16(a)));
        uint32x4_t s1 = add_spread(sum.at[1], vmull_high_u16(first, a));
        uint32x4_t s2 = add_spread(sum.at[2], vmull_u16(vget_low_u16(second), vget_low_u16(a)));
        uint32x4_t s3 = add_spread(sum.at[3], vmull_high_u16(second, a));
        asm volatile("" : "+w"(s0), "+w"(s1), "+w"(s2), "+w"(s3));  // keeps compilers from beginning more than registers hold
        return {{s0, s1, s2, s3}};
    }
    static AQ_INLINE void add_split(i32& low, i32& high, const packed_sums& sum) {
        i32 lows[4], highs[4];
        AQ_UNROLL for (int i = 0; i < 4; ++i) {
            lows[i] = vreinterpretq_s32_u32(vandq_u32(sum.at[i], vdupq_n_u32(0xFFFF)));
            highs[i] = vreinterpretq_s32_u32(vshrq_n_u32(sum.at[i], 16));
        }
        low = add(low, sum_across(lows));
        high = add(high, sum_across(highs));
    }

    // What attention needs beside: see ops_scalar.hpp.
    static AQ_INLINE void store_i32(std::int32_t* p, i32 v) { vst1q_s32(p, v); }
    static AQ_INLINE i32 first_lanes() {
        constexpr std::int32_t first[lanes] = {0, 1, 2, 3};
        return vld1q_s32(first);
    }
    static AQ_INLINE i32 load_i32(const std::int32_t* p) { return vld1q_s32(p); }
    static AQ_INLINE i32 bit_and(i32 a, i32 b) { return vandq_s32(a, b); }
    static AQ_INLINE i32 shift_right(i32 v, i32 count) { return vshlq_s32(v, vnegq_s32(count)); }
    template <int Count>
    static AQ_INLINE i32 shift_right(i32 v) {
        return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(v), Count));
    }
    template <int Count>
    static AQ_INLINE i32 shift_right_signed(i32 v) {
        return vshrq_n_s32(v, Count);
    }
    template <int Byte>
    static AQ_INLINE i32 byte_of_lane(codes c) {
        return vshrq_n_s32(vshlq_n_s32(vreinterpretq_s32_s8(c), 24 - 8 * Byte), 24);
    }
    static AQ_INLINE void store_negated(std::int8_t* out, const i32 (&v)[4]) {
        const int16x8_t first = vmovn_high_s32(vmovn_s32(v[0]), v[1]), second = vmovn_high_s32(vmovn_s32(v[2]), v[3]);
        vst1q_s8(out, vnegq_s8(vmovn_high_s16(vmovn_s16(first), second)));
    }
    static AQ_INLINE bool any_greater(f32 x, f32 y) { return vmaxvq_u32(vcgtq_f32(x, y)) != 0; }
    static AQ_INLINE i32 float_bits(f32 x) { return vreinterpretq_s32_f32(x); }
    static AQ_INLINE f32 load_bfloat16(const std::uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
    static AQ_INLINE f32 greater(f32 x, f32 y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
    static AQ_INLINE f32 lesser(f32 x, f32 y) { return vbslq_f32(vcltq_f32(x, y), x, y); }
    static AQ_INLINE f32 select_at_least(f32 x, f32 limit, f32 yes, f32 no) { return vbslq_f32(vcgeq_f32(x, limit), yes, no); }
    static AQ_INLINE i32 to_i32(f32 integer) { return vcvtq_s32_f32(integer); }
    static AQ_INLINE f32 times_power_of_two(f32 x, i32 e) {
        return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x), vshlq_n_s32(e, 23)));
    }
    static AQ_INLINE f32 tree_across(const f32 (&v)[lanes]) {
        return vpaddq_f32(halves_added(v[0], v[1]), halves_added(v[2], v[3]));
    }
    static AQ_INLINE i32 sum_across(const i32 (&v)[lanes]) { return vpaddq_s32(vpaddq_s32(v[0], v[1]), vpaddq_s32(v[2], v[3])); }

    // What quantizing rows needs beside: see body/rows.hpp.
    static AQ_INLINE f32 cleared_where_nan(f32 x) {
        return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vceqq_f32(x, x)));
    }
    static AQ_INLINE i32 magnitude_bits(f32 x) { return vandq_s32(vreinterpretq_s32_f32(x), vdupq_n_s32(0x7FFFFFFF)); }
    static AQ_INLINE i32 greater(i32 x, i32 y) { return vmaxq_s32(x, y); }
    static AQ_INLINE i32 nearest(f32 x) { return vcvtnq_s32_f32(x); }
    struct code_clip {
        int8x16_t least, most;
    };
    static AQ_INLINE code_clip clip_to(code_range r) {
        return {vdupq_n_s8(static_cast<std::int8_t>(r.low)), vdupq_n_s8(static_cast<std::int8_t>(r.high))};
    }
    static AQ_INLINE void store_clipped(std::int8_t* out, const i32 (&v)[4], const code_clip& clip) {
        const int16x8_t low = vqmovn_high_s32(vqmovn_s32(v[0]), v[1]), high = vqmovn_high_s32(vqmovn_s32(v[2]), v[3]);
        const int8x16_t all = vqmovn_high_s16(vqmovn_s16(low), high);
        vst1q_s8(out, vmaxq_s8(vminq_s8(all, clip.most), clip.least));
    }

    // What rows that are computed need beside: see body/row_sources.hpp.
    static AQ_INLINE f32 divide(f32 a, f32 b) { return vdivq_f32(a, b); }
    static AQ_INLINE f32 add_to_exponent(f32 x, f32 e) {
        return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x), vshlq_n_s32(vreinterpretq_s32_f32(e), 23)));
    }
    static AQ_INLINE f32 cleared_where_above(f32 x, f32 v, f32 limit) {
        return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), vcgtq_f32(v, limit)));
    }

    static std::int32_t sum_of(const std::int8_t* c, std::size_t count) {
        int32x4_t sum = vdupq_n_s32(0);
        for (std::size_t i = 0; i < count; i += 16) sum = vpadalq_s16(sum, vpaddlq_s8(vld1q_s8(c + i)));
        return vaddvq_s32(sum);
    }

private:
    /// Lanes l and l + 2 of x, then of y.
    static AQ_INLINE f32 halves_added(f32 x, f32 y) {
        const float64x2_t a = vreinterpretq_f64_f32(x), b = vreinterpretq_f64_f32(y);
        return vaddq_f32(vreinterpretq_f32_f64(vtrn1q_f64(a, b)), vreinterpretq_f32_f64(vtrn2q_f64(a, b)));
    }
};

}  // namespace neon
}  // namespace aq
