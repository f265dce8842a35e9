/// \file
/// Attention with linear biases (Press et al. 2022, section 3), slopes as BLOOM has them.
#pragma once

#include <cstddef>

#include "agilequant/elementwise/loops.hpp"
#include "agilequant/elementwise/portable_math.hpp"

namespace aq {

/// slopes: [heads]. With n the largest power of two that is at most `heads`: head h < n has 2^(-8 (h + 1) / n), and head n + j
/// has 2^(-4 (2j + 1) / n), which are the odd slopes of 2n heads. Rounded once to float, the same bits everywhere.
inline void alibi_slopes(std::size_t heads, float* slopes) noexcept {
    std::size_t n = 1;
    while (n <= heads / 2) n *= 2;
    for (std::size_t h = 0; h < heads; ++h) {
        const std::size_t fourths = h < n ? 2 * (h + 1) : 2 * (h - n) + 1;
        slopes[h] = static_cast<float>(portable::power(2.0, -4.0 * static_cast<double>(fourths) / static_cast<double>(n)));
    }
}

/// scores[i] += slope * (positions[i] - origin), in place. scores, positions: [count]. Positions are given one by one
/// since tokens may have been dropped; as floats they are exact below 2^24. BLOOM's origin is 0; softmax does not
/// see the difference, but the position of the query keeps the sums small.
template <class Lane = lanes::native>
void add_alibi(float slope, float origin, const float* positions, std::size_t count, float* scores) noexcept {
    const auto f = [=](auto score, auto position) {
        using L = decltype(score);
        return score + lanes::rounded(L(slope) * (position - L(origin)));
    };
    lanes::map<Lane>(count, scores, f, scores, positions);
}

}  // namespace aq
