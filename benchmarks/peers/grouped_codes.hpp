/// \file
/// Weights as codes -levels..levels with a float scale for each group, for peers that take them so and do not make them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace aq_bench {

struct grouped_codes {
    std::vector<std::int8_t> codes;  ///< [n,k]
    std::vector<float> scales;       ///< [n,k / group]
};

/// w: [n,k]. `group` divides k; it is k where each row has one scale.
[[nodiscard]] inline grouped_codes round_to_codes(const float* w, std::size_t n, std::size_t k, std::size_t group, int levels) {
    grouped_codes result{std::vector<std::int8_t>(n * k), std::vector<float>(n * k / group)};
    for (std::size_t g = 0; g < result.scales.size(); ++g) {
        const float* values = w + g * group;
        float largest = 0.0F;
        for (std::size_t i = 0; i < group; ++i) largest = std::max(largest, std::fabs(values[i]));
        const float scale = largest > 0.0F ? largest / static_cast<float>(levels) : 1.0F;
        for (std::size_t i = 0; i < group; ++i)
            result.codes[g * group + i] = static_cast<std::int8_t>(std::lrint(values[i] / scale));
        result.scales[g] = scale;
    }
    return result;
}

}  // namespace aq_bench
