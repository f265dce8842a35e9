/// \file
/// The operations of kernels on Armv8.2 with dot products (Cortex-A55, A75 to A78, X1, Neoverse N1, ...): NEON's with a dot product.
/// Included inside a target region.
///
/// | instruction | use | latency, per cycle on Cortex-A76 | on Cortex-A55 |
/// |---|---|---|---|
/// | sdot (by element) | add_dot4: four s8 by s8 products a lane; the quad is named by its place in a register | 4 (1 to the next), 2 | 4, 1 |
#pragma once

#include "agilequant/simd/ops_neon.hpp"

namespace aq {
namespace dotprod {

struct ops : neon::ops {
    static constexpr block_size block{8, 1,
                                      2};  ///< 16 sums, 8 of activations, 2 of codes as stored and 4 as multiplied: 32 registers
    static constexpr block_size block_of_bytes{6, 1, 2};  ///< gcc keeps registers of 8 rows on the stack
    static constexpr block_size attention_block{4, 1};    ///< 16 sums
    static constexpr block_size block_of_few_rows{4, 1, 2};
    static constexpr block_size block_of_one_row{1, 2};
    static constexpr int streams_of_other_widths = 0;
    static constexpr std::size_t row_blocks_worth_unpacking = 2;
    static constexpr bool unpacks_to_values = true;
    static constexpr block_size unpacked_block{4, 1, 2};  ///< 8 sums, 8 results in float, 4 of activations, 2 of values
    static constexpr bool has_two_steps = false;
    static constexpr bool has_float_start = true;

    template <int, int>
    static constexpr std::int64_t steps_in_16_bits = 0;  ///< it has no need of them
    template <int Bits>
    static constexpr int unpacked_center = center<Bits>;

    /// Two steps of register v of a panel, into its values.
    static AQ_INLINE void store_two_steps(std::uint8_t* out, int v, codes first, codes second) {
        store_codes(out + 16 * v, first);
        store_codes(out + 64 + 16 * v, second);
    }

    /// Read from memory every time: loads have pipes of their own, while a copy of a register takes one from the dot products.
    static AQ_INLINE i32 start_sum(const std::int32_t* from) {
        i32 sum;
        asm volatile("ldr %q0, %1" : "=w"(sum) : "m"(*reinterpret_cast<const std::int32_t(*)[4]>(from)));
        return sum;
    }
    static AQ_INLINE f32 float_of_started(i32 sum) { return vsubq_f32(vreinterpretq_f32_s32(sum), vdupq_n_f32(float_start)); }

    /// One of the four quads of a register.
    struct quads {
        int8x16_t row;
        int step;
    };
    template <int Step>
    static AQ_INLINE quads quad(row_quads row) {
        return {row, Step};
    }
    static AQ_INLINE i32 add_dot4(i32 sum, codes w, quads a) {
        switch (a.step) {  // a constant, once inlined
            case 0: return vdotq_laneq_s32(sum, w, a.row, 0);
            case 1: return vdotq_laneq_s32(sum, w, a.row, 1);
            case 2: return vdotq_laneq_s32(sum, w, a.row, 2);
            default: return vdotq_laneq_s32(sum, w, a.row, 3);
        }
    }

    static std::int32_t sum_of(const std::int8_t* c, std::size_t count) {
        int32x4_t sum = vdupq_n_s32(0);
        for (std::size_t i = 0; i < count; i += 16) sum = vdotq_s32(sum, vld1q_s8(c + i), vdupq_n_s8(1));
        return vaddvq_s32(sum);
    }
};

}  // namespace dotprod
}  // namespace aq
