/// \file
/// Agile-Quant's packed 4-bit multiplier as a product of its own: y[m,n] = a[m,k] w[n,k]^T by one multiplication for two weights.
///
/// It gives the bits of aq::gemm and is slower on every CPU that was measured or modelled, so nothing in the library chooses it:
/// docs/packed-multiplier.md.
#pragma once

#include "agilequant/kernels/gemm.hpp"

namespace aq {

/// All that can be wrong with a product by the packed multiplier, in O(1). What aq::check says, and unsupported_format: weights that are not
/// stored in 4 bits, activations of more than 4 bits, or such as may be negative, which would borrow from a neighbour's product.
[[nodiscard]] inline status check_packed_multiplier(const kernel_table& kernels, const gemm_job& job) noexcept {
    AQ_TRY(check(kernels, job));
    const bool fits = storage_bits(job.weights.bits) == 4 && job.activations.bits <= 4 && job.activations.is_unsigned;
    return fits ? status::ok : status::unsupported_format;
}

/// Rows `rows` and panels `panels` (of 16 columns) of y = epilogue(a w^T), as aq::gemm, to the bit. a: [m,k] unsigned, 2 to 4 bits, from
/// quantize_rows with an asymmetric format; w: [n,k], 3 or 4 bits. Without scratch.
/// Any shape; k = 0 gives zeros. unsupported_format, wrong_tile, wrong_layout, bad_shape, bad_stride, null_pointer, depth_over_limit.
[[nodiscard]] inline status gemm_packed_multiplier(const kernel_table& kernels, const gemm_job& job, index_range rows,
                                                   index_range panels) noexcept {
    AQ_TRY(check_packed_multiplier(kernels, job));
    if (rows.end > job.y.rows || rows.begin > rows.end || panels.end > job.weights.panels() || panels.begin > panels.end) {
        return status::bad_shape;
    }
    kernels.gemm_packed_multiplier(job, rows, panels, nullptr);
    return status::ok;
}

/// All of y.
[[nodiscard]] inline status gemm_packed_multiplier(const kernel_table& kernels, const gemm_job& job) noexcept {
    return gemm_packed_multiplier(kernels, job, {0, job.y.rows}, {0, job.weights.panels()});
}

}  // namespace aq
