/// \file
/// The operations of kernels on AVX-VNNI: AVX2's with a dot product of its own. Included inside a target region.
///
/// | instruction | use | latency, per cycle on Alder Lake's P and E cores |
/// |---|---|---|
/// | vpdpbusd (VEX) | add_dot4: u8 by s8, four products a lane, added in 32 bits without saturating | 5, 2; 4, 1 |
#pragma once

#include "agilequant/simd/ops_avx2.hpp"

namespace aq {
namespace avxvnni {

struct ops : avx2::ops {
    static constexpr block_size block{6, 1};  ///< 12 sums, 2 of weights, 1 of activations, a mask: 16 registers
    static constexpr block_size block_of_one_row{1, 4};

    template <int, int>
    static constexpr std::int64_t steps_in_16_bits = 0;  ///< it has no need of them

    static AQ_INLINE i32 add_dot4(i32 sum, codes w, quads a) { return _mm256_dpbusd_avx_epi32(sum, w, a); }
};

}  // namespace avxvnni
}  // namespace aq
