/// \file
/// e^x in float for any lane type, with the same bits for all: sums, products and one trick with bits. Internal; what is
/// made of it is in softmax.hpp and activation.hpp.
#pragma once

#include "agilequant/core/config.hpp"
#include "agilequant/elementwise/lanes.hpp"

namespace aq::lanes {

/// e^x within 0.991 ulp (every float was tried). e^0 = 1; 0 where e^x < 2^-126, so that no denormal is made and none
/// slows a softmax down; infinity above 88.722832; e^NaN = NaN.
///
/// x = n ln2 + r, |r| <= ln2 / 2, and e^x = 2^n (1 + r + r^2 P(r)). P is our minimax fit of the relative error, coefficients
/// rounded to float one after the other: 2^-28.2.
template <class Lane>
[[nodiscard]] AQ_INLINE Lane exp(Lane x) noexcept {
    constexpr float log2e = 1.44269504F, magic = 12582912.0F;            // 1.5 * 2^23: the lowest bits of the sum are n
    constexpr float ln2_high = 0.693359375F, ln2_low = -2.12194442e-4F;  // n * ln2_high is exact

    const Lane n_bits = lanes::rounded(x * Lane(log2e)) + Lane(magic);
    const Lane n = n_bits - Lane(magic);
    const Lane r = x - lanes::rounded(n * Lane(ln2_high)) - lanes::rounded(n * Lane(ln2_low));

    Lane p = Lane(1.383890165e-3F);
    p = lanes::rounded(p * r) + Lane(8.369192481e-3F);
    p = lanes::rounded(p * r) + Lane(4.166810215e-2F);
    p = lanes::rounded(p * r) + Lane(1.666651666e-1F);
    p = lanes::rounded(p * r) + Lane(4.999999404e-1F);
    p = lanes::rounded(r * r * p) + r;
    p = p + Lane(1.0F);

    Lane y = add_to_exponent(p, n_bits);
    y = lanes::select(x > Lane(88.7228317F), Lane(float_of(0x7F800000U)), y);
    y = lanes::select(x < Lane(-87.33654F), Lane(0.0F), y);
    return lanes::select(x == x, y, x);
}

}  // namespace aq::lanes
