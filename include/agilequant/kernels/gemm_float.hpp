/// \file
/// Products with float activations: y[m,n] = x[m,k] w[n,k]^T with w in float, or in low-bit codes that are unpacked a panel at a time.
#pragma once

#include "agilequant/kernels/jobs.hpp"
#include "agilequant/pack/float_panels.hpp"

namespace aq {

namespace detail {
[[nodiscard]] inline status check_float(const gemm_float_job& job, std::size_t n, std::size_t k, index_range rows,
                                        index_range panels) noexcept {
    AQ_TRY(check(job.x));
    AQ_TRY(check(job.y));
    const bool fits = job.x.cols == k && job.x.rows == job.y.rows && job.y.cols == n && rows.begin <= rows.end &&
                      rows.end <= job.y.rows && panels.begin <= panels.end && panels.end <= portable_tile::panels(n);
    return fits ? status::ok : status::bad_shape;
}
}  // namespace detail

/// Rows `rows`, panels `panels` of y = epilogue(x w^T). x: [m,k], w: [n,k], y: [m,n], overlapping neither. Sums over k in
/// order, every product and sum rounded: the same bits on every instruction set. bad_shape, bad_stride, null_pointer.
[[nodiscard]] inline status gemm(const kernel_table& kernels, const gemm_float_job& job, const float_panels& w, index_range rows,
                                 index_range panels) noexcept {
    AQ_TRY(detail::check_float(job, w.n(), w.k(), rows, panels));
    for (std::size_t p = panels.begin; p < panels.end; ++p) kernels.gemm_float(job, rows, w.panel(p), p * panel_rows);
    return status::ok;
}

/// Bytes of scratch that a product with float activations and packed weights needs: one panel in float.
[[nodiscard]] inline std::size_t gemm_float_scratch_bytes(const packed_weights& w) noexcept {
    return w.layout.k * panel_rows * sizeof(float);
}

/// The same with packed weights: equals the product with the unpacked matrix bit for bit. `scratch` is aligned to 64 bytes.
/// Also wrong_tile, scratch_too_small.
[[nodiscard]] inline status gemm(const kernel_table& kernels, const gemm_float_job& job, const packed_weights& w,
                                 index_range rows, index_range panels, void* scratch, std::size_t scratch_bytes) noexcept {
    AQ_TRY(detail::check_float(job, w.n, w.layout.k, rows, panels));
    if (w.tile != portable_tile::shape) return status::wrong_tile;
    if (scratch_bytes < gemm_float_scratch_bytes(w)) return status::scratch_too_small;
    for (std::size_t p = panels.begin; p < panels.end; ++p) {
        unpack_panel(w, p, static_cast<float*>(scratch));
        kernels.gemm_float(job, rows, static_cast<const float*>(scratch), p * panel_rows);
    }
    return status::ok;
}

}  // namespace aq
