/// \file
/// The Hadamard rotation: spreads what is large in one channel over all of them, so that few bits hold more of it. Orthonormal and
/// symmetric, so that the product of two rotated rows is that of the rows (QuaRot, Ashkboos et al. 2024, section 4, for keys and queries).
#pragma once

#include <cmath>
#include <cstddef>

#include "agilequant/core/exact_float.hpp"
#include "agilequant/core/matrix_view.hpp"
#include "agilequant/elementwise/loops.hpp"

namespace aq {

/// Channels that are rotated together: the largest power of two that divides their number.
[[nodiscard]] constexpr std::size_t hadamard_block(std::size_t channels) noexcept { return channels & (~channels + 1); }

/// x [rows,cols] = x H / sqrt b in blocks of b = hadamard_block(cols), in place; H[i][j] = (-1)^(bits that i and j have in common). By b log2 b
/// additions, in a fixed order: the same bits everywhere. Twice gives x again, but for rounding. bad_stride, null_pointer.
template <class Lane = lanes::native>
[[nodiscard]] status hadamard(matrix_view<float> x) noexcept {
    AQ_TRY(check(x));
    if (x.empty()) return status::ok;
    const std::size_t block = hadamard_block(x.cols);
    const float scale = 1.0F / std::sqrt(static_cast<float>(block));  // a square root is rounded correctly everywhere
    for (std::size_t r = 0; r < x.rows; ++r) {
        for (std::size_t half = 1; half < block; half *= 2) {
            for (float* p = x.row(r); p < x.row(r) + x.cols; p += 2 * half) {
                lanes::for_each<Lane>(half, [&](auto tag, std::size_t i) {
                    using L = typename decltype(tag)::lane;
                    const L a = lanes::load<L>(p + i), b = lanes::load<L>(p + half + i);
                    lanes::store(p + i, a + b);
                    lanes::store(p + half + i, a - b);
                });
            }
        }
        lanes::map<Lane>(
            x.cols, x.row(r), [&](auto v) { return v * decltype(v)(scale); }, x.row(r));
    }
    return status::ok;
}

}  // namespace aq
