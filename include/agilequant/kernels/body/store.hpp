// How every GEMM ends: the epilogue works on the block while it is in cache, then the block goes to y.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.

namespace aq {
namespace AQ_ISA {

using gemm_tile = portable_tile;
inline constexpr int vectors = gemm_tile::nr / ops::lanes;  // registers that hold one value of every column of a panel

inline void store_block(const output_block& block, const epilogue_ref& epilogue, const matrix_view<float>& y) {
    if (epilogue.apply != nullptr) epilogue.apply(epilogue.stages, block);
    for (std::size_t r = 0; r < block.rows; ++r) {
        std::memcpy(y.row(block.row + r) + block.col, block.values + r * block.stride, block.cols * sizeof(float));
    }
}

}  // namespace AQ_ISA
}  // namespace aq
