/// \file
/// e^x in float for any lane type, with the same bits for all: sums, products and one trick with bits. Internal; what is
/// made of it is in softmax.hpp and activation.hpp.
#pragma once

#include "agilequant/core/config.hpp"
#include "agilequant/elementwise/exp_constants.hpp"
#include "agilequant/elementwise/lanes.hpp"

namespace aq::lanes {

/// e^x within 0.991 ulp (every float was tried). e^0 = 1; 0 where e^x < 2^-126, so that no denormal is made and none
/// slows a softmax down; infinity above 88.722832; e^NaN = NaN.
///
/// The formula and its numbers are those of exp_constants.
template <class Lane>
[[nodiscard]] AQ_INLINE Lane exp(Lane x) noexcept {
    using c = exp_constants;
    const Lane n_bits = lanes::rounded(x * Lane(c::log2e)) + Lane(c::magic);
    const Lane n = n_bits - Lane(c::magic);
    const Lane r = x - lanes::rounded(n * Lane(c::ln2_high)) - lanes::rounded(n * Lane(c::ln2_low));

    Lane p = Lane(c::p4);
    p = lanes::rounded(p * r) + Lane(c::p3);
    p = lanes::rounded(p * r) + Lane(c::p2);
    p = lanes::rounded(p * r) + Lane(c::p1);
    p = lanes::rounded(p * r) + Lane(c::p0);
    p = lanes::rounded(r * r * p) + r;
    p = p + Lane(1.0F);

    Lane y = add_to_exponent(p, n_bits);
    y = lanes::select(x > Lane(c::highest), Lane(float_of(0x7F800000U)), y);
    y = lanes::select(x < Lane(c::lowest), Lane(0.0F), y);
    return lanes::select(x == x, y, x);
}

}  // namespace aq::lanes
