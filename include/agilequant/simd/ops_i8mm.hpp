/// \file
/// The operations of kernels on Armv8.6's integer matrix products (Cortex-A510, A710, X2, Neoverse V1, N2, ...): those of dot products,
/// and for many rows a product of two rows by two columns. Included inside a target region.
///
/// | instruction | use | latency, per cycle on Neoverse N2 |
/// |---|---|---|
/// | smmla | add_pair_products: 2 x 8 by 8 x 2, s8 by s8 into 2 x 2 sums of 32 bits | 3 (1 to the next), 2 |
/// | zip1, zip2 .2d and .4s | store_pair, store_two_steps, row_of_pairs | 2, 2 |
#pragma once

#include "agilequant/simd/ops_dotprod.hpp"

namespace aq {
namespace i8mm {

struct ops : dotprod::ops {
    static constexpr std::size_t row_blocks_worth_unpacking = 1;
    static constexpr block_size unpacked_block{4, 1, 2};  ///< 8 sums, 8 results in float, 2 of activations, 1 of values
    static constexpr std::size_t unpacked_panels = 8;

    /// Two rows of activations by sixteen positions, to pairs by eight.
    static AQ_INLINE void store_pair(const std::int8_t* first, const std::int8_t* second, std::int8_t* out) {
        const int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(first)), b = vreinterpretq_s64_s8(vld1q_s8(second));
        vst1q_s8(out, vreinterpretq_s8_s64(vzip1q_s64(a, b)));
        vst1q_s8(out + 16, vreinterpretq_s8_s64(vzip2q_s64(a, b)));
    }
    static AQ_INLINE i32 add_pair_products(i32 sum, int8x16_t a, codes w) { return vmmlaq_s32(sum, a, w); }

    /// Row 0 or 1 of four columns.
    static AQ_INLINE i32 row_of_pairs(i32 columns_0_and_1, i32 columns_2_and_3, int row) {
        const int64x2_t a = vreinterpretq_s64_s32(columns_0_and_1), b = vreinterpretq_s64_s32(columns_2_and_3);
        return vreinterpretq_s32_s64(row == 0 ? vzip1q_s64(a, b) : vzip2q_s64(a, b));
    }
    /// Two steps of register v of a panel: its four rows, two and two, by eight positions.
    static AQ_INLINE void store_two_steps(std::uint8_t* out, int v, codes first, codes second) {
        const int32x4_t a = vreinterpretq_s32_s8(first), b = vreinterpretq_s32_s8(second);
        store_codes(out + 32 * v, vreinterpretq_s8_s32(vzip1q_s32(a, b)));
        store_codes(out + 32 * v + 16, vreinterpretq_s8_s32(vzip2q_s32(a, b)));
    }
};

}  // namespace i8mm
}  // namespace aq
