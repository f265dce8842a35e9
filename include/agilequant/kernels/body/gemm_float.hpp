// Float GEMM over panels of float weights: what the integer kernels are compared with, and what float layers run on.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace. Sums run over k one by one, products
// rounded first, so the result is the same everywhere; vectors go over the columns of a panel.

namespace aq {
namespace AQ_ISA {

inline constexpr int float_rows = ops::lanes > 1 ? 4 : 1;

template <int Rows>
void gemm_float_block(const gemm_float_job& job, const float* AQ_RESTRICT panel, std::size_t row, std::size_t col) {
    ops::f32 sums[Rows][vectors];
    AQ_UNROLL for (int r = 0; r < Rows; ++r) {
        AQ_UNROLL for (int v = 0; v < vectors; ++v) sums[r][v] = ops::broadcast_f32(0.0F);
    }
    const float* x[Rows];
    AQ_UNROLL for (int r = 0; r < Rows; ++r) x[r] = job.x.row(row + static_cast<std::size_t>(r));
    for (std::size_t k = 0; k < job.x.cols; ++k) {
        ops::f32 w[vectors];
        AQ_UNROLL for (int v = 0; v < vectors; ++v) w[v] = ops::load_f32(panel + k * gemm_tile::nr + v * ops::lanes);
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            const ops::f32 broadcast = ops::broadcast_f32(x[r][k]);
            AQ_UNROLL for (int v = 0; v < vectors; ++v) sums[r][v] = ops::add(sums[r][v], ops::mul(broadcast, w[v]));
        }
    }
    float values[Rows][gemm_tile::nr];
    AQ_UNROLL for (int r = 0; r < Rows; ++r) {
        AQ_UNROLL for (int v = 0; v < vectors; ++v) ops::store_f32(&values[r][v * ops::lanes], sums[r][v]);
    }
    const std::size_t left = job.y.cols - col;
    store_block({&values[0][0], gemm_tile::nr, row, Rows, col, left < gemm_tile::nr ? left : gemm_tile::nr}, job.epilogue, job.y);
}

/// The kernel of the table: rows `rows` of x by one panel.
inline void gemm_float(const gemm_float_job& job, index_range rows, const float* panel, std::size_t col) {
    std::size_t row = rows.begin;
    for (; row + float_rows <= rows.end; row += float_rows) gemm_float_block<float_rows>(job, panel, row, col);
    if constexpr (float_rows > 1) {
        for (; row < rows.end; ++row) gemm_float_block<1>(job, panel, row, col);
    }
}

/// `others` with this product of floats.
constexpr kernel_table with_gemm_float(kernel_table others) {
    others.gemm_float = gemm_float;
    return others;
}

}  // namespace AQ_ISA
}  // namespace aq
