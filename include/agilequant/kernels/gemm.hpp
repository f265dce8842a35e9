/// \file
/// Integer matrix product: check, choose, call. y[m,n] = a[m,k] w[n,k]^T with low-bit codes on both sides.
///
/// A GEMV is a GEMM of one row; row r of a GEMM has the bits of the GEMV of row r, on every instruction set, for any cut of
/// the work into rows and panels. Reference in double: kernels/reference.hpp.
#pragma once

#include "agilequant/kernels/jobs.hpp"
#include "agilequant/kernels/quantize.hpp"

namespace aq {

/// All that can be wrong with a product, in O(1).
[[nodiscard]] inline status check(const kernel_table& kernels, const gemm_job& job) noexcept {
    const packed_weights& w = job.weights;
    const activations_view& a = job.activations;
    AQ_TRY(check(job.y));
    if (w.bits < 2 || w.bits > 8 || a.bits < 2 || a.bits > 8) return status::unsupported_format;
    if (w.multipliers != nullptr && w.bits > 7) return status::unsupported_format;
    if (w.tile != kernels.tile) return status::wrong_tile;
    if (a.layout_id != w.layout.id || a.stride != activation_stride(w.layout.packed)) return status::wrong_layout;
    if (job.y.rows != a.m || job.y.cols != w.n) return status::bad_shape;
    if (static_cast<std::int64_t>(w.layout.depth) > max_k(w.bits, a.bits)) return status::depth_over_limit;
    if (w.multipliers != nullptr && static_cast<std::int64_t>(w.layout.total_depth) > max_two_level_k(a.bits))
        return status::depth_over_limit;
    const bool lacks_codes = w.codes == nullptr || w.scales == nullptr || w.layout.runs == nullptr || a.sums == nullptr;
    const bool lacks_rows = w.offsets == nullptr || a.codes == nullptr || a.scales == nullptr || a.zeros == nullptr;
    const bool is_missing = lacks_rows || (lacks_codes && w.layout.k != 0);
    return is_missing && !job.y.empty() ? status::null_pointer : status::ok;
}

/// Bytes of scratch, aligned to 64, with which products of many rows are fastest: room to unpack a few panels once.
[[nodiscard]] inline std::size_t gemm_scratch_bytes(const kernel_table& kernels, const packed_weights& w) noexcept {
    return kernels.gemm_scratch(w);
}

/// Rows `rows` and panels `panels` (of 16 columns) of y = epilogue(a w^T). a: [m,k] from quantize_rows; w: [n,k] packed with the
/// same layout; y: [m,n] float, overlapping neither. Exact in integers, one rounding a group and output in float, the
/// same bits on every instruction set. Calls for disjoint blocks of y may run at the same time, each with a scratch of its own.
/// `scratch` is as gemm_scratch_bytes says, or null: then codes are unpacked again for every block of rows,
/// and matrix tiles are not used; the result is the same.
/// Any shape; k = 0 gives zeros. unsupported_format, wrong_tile, wrong_layout, bad_shape, bad_stride, null_pointer, depth_over_limit,
/// scratch_too_small.
[[nodiscard]] inline status gemm(const kernel_table& kernels, const gemm_job& job, index_range rows, index_range panels,
                                 void* scratch = nullptr, std::size_t scratch_bytes = 0) noexcept {
    AQ_TRY(check(kernels, job));
    if (scratch != nullptr && scratch_bytes < gemm_scratch_bytes(kernels, job.weights)) return status::scratch_too_small;
    if (rows.end > job.y.rows || rows.begin > rows.end || panels.end > job.weights.panels() || panels.begin > panels.end) {
        return status::bad_shape;
    }
    kernels.gemm_for(job.weights.bits, job.activations.bits)(job, rows, panels, static_cast<std::byte*>(scratch));
    return status::ok;
}

/// All of y.
[[nodiscard]] inline status gemm(const kernel_table& kernels, const gemm_job& job, void* scratch = nullptr,
                                 std::size_t scratch_bytes = 0) noexcept {
    return gemm(kernels, job, {0, job.y.rows}, {0, job.weights.panels()}, scratch, scratch_bytes);
}

/// The same for a matrix whose format is a type.
template <class Quantizer, class Tile>
[[nodiscard]] status gemm(const kernel_table& kernels, packed_view<Quantizer, Tile> weights, const activations_view& activations,
                          matrix_view<float> y, epilogue_ref epilogue = {}, void* scratch = nullptr,
                          std::size_t scratch_bytes = 0) noexcept {
    return gemm(kernels, gemm_job{weights.weights, activations, y, epilogue}, scratch, scratch_bytes);
}

}  // namespace aq
