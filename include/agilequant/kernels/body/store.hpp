// How every GEMM ends: the epilogue works on the block while it is in cache, then the block goes to y.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.

namespace aq {
namespace AQ_ISA {

using gemm_tile = portable_tile;
inline constexpr int vectors = gemm_tile::nr / ops::lanes;  // registers that hold one value of every column of a panel

/// Fetches the lines of y that a block will write, while it is computed: rows of y are far apart, and seldom in the cache.
inline void fetch_block(const matrix_view<float>& y, std::size_t row, std::size_t rows, std::size_t col, std::size_t cols) {
    for (std::size_t r = row; r < row + rows; ++r) {
        for (std::size_t c = col; c < col + cols && c < y.cols; c += cache_line_bytes / sizeof(float))
            __builtin_prefetch(y.row(r) + c, 1);
    }
}

inline void store_block(const output_block& block, const epilogue_ref& epilogue, const matrix_view<float>& y) {
    if (epilogue.apply != nullptr) epilogue.apply(epilogue.stages, block);
    for (std::size_t r = 0; r < block.rows; ++r) {
        std::memcpy(y.row(block.row + r) + block.col, block.values + r * block.stride, block.cols * sizeof(float));
    }
}

}  // namespace AQ_ISA
}  // namespace aq
