/// \file
/// The baseline: weights in half precision, arithmetic in float. What the paper's speed-ups are relative to, so as fast as we can make it.
///
///     weights   [panels][k][width]      halves; width columns a panel, 16 for AVX2, 32 for AVX-512
///     x packed  [blocks][k][rows]       floats; blocks of nearly equal numbers of rows, as many as fit the registers
///
/// One row reads four panels at once, four streams of memory, and converts as it goes. Many rows convert a piece of a panel once, to floats
/// that stay in cache, and use it for every block of rows.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aq_bench {

struct half_job {
    const float* packed_x;         ///< see half_kernels::pack
    const std::uint16_t* weights;  ///< [n / width][k][width]
    float* y;                      ///< [m,n]
    std::size_t m, n, k;
};

/// One form of the baseline.
struct half_kernels {
    const char* isa;    ///< as in the limits' names
    std::size_t width;  ///< columns of a panel
    bool runs_here;
    /// x [m,k] -> packed [m * k].
    void (*pack)(const float* x, std::size_t m, std::size_t k, float* packed);
    /// Panels first .. last of y = x w^T. scratch: half_scratch_floats of this caller's own.
    void (*multiply)(const half_job& job, std::size_t first, std::size_t last, float* scratch);
};

inline constexpr std::size_t half_depth = 1024;  ///< of a piece of a panel that is converted at once
inline constexpr std::size_t half_scratch_floats = half_depth * 32;

/// The forms of this build, the best last.
[[nodiscard]] const half_kernels* half_forms(std::size_t& count);

}  // namespace aq_bench
