/// \file
/// The numbers of e^x and GELU, apart from their text: elementwise/exp.hpp and activation.hpp are the definitions over a lane type,
/// kernels/body/row_sources.hpp the same for kernels. Internal.
#pragma once

namespace aq::lanes {

/// x = n ln2 + r, |r| <= ln2 / 2, and e^x = 2^n (1 + r + r^2 P(r)).
struct exp_constants {
    static constexpr float log2e = 1.44269504F, magic = 12582912.0F;            // 1.5 * 2^23: the lowest bits of the sum are n
    static constexpr float ln2_high = 0.693359375F, ln2_low = -2.12194442e-4F;  // n * ln2_high is exact
    static constexpr float highest = 88.7228317F, lowest = -87.33654F;          // beyond: infinity, and 0

    /// P, by falling powers: our minimax fit of the relative error, coefficients rounded to float one after the other: 2^-28.2.
    static constexpr float p4 = 1.383890165e-3F, p3 = 8.369192481e-3F, p2 = 4.166810215e-2F, p1 = 1.666651666e-1F,
                           p0 = 4.999999404e-1F;
};

/// GELU's sigmoid is that of x (linear + cubic x^2).
struct gelu_constants {
    static constexpr float linear = 1.59576912F, cubic = 0.0713548163F;  // 2 sqrt(2 / pi), and that times 0.044715
};

}  // namespace aq::lanes
