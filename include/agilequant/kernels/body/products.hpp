// The integer products of the instruction set that is being compiled, as a row of its table.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.

namespace aq {
namespace AQ_ISA {

/// `others` with these products.
constexpr kernel_table with_products(kernel_table others) {
    constexpr kernel_table::gemm_function own[3][2] = {
        {gemm<2, 4>, gemm<2, 8>}, {gemm<4, 4>, gemm<4, 8>}, {gemm<8, 4>, gemm<8, 8>}};
    for (int w = 0; w < 3; ++w) {
        for (int a = 0; a < 2; ++a) others.gemm[w][a] = own[w][a];
    }
    others.isa = isa::AQ_ISA::name;
    others.tile = gemm_tile::shape;
    others.gemm_scratch = gemm_scratch_bytes;
    others.panel_step = panel_step;
    return others;
}

}  // namespace AQ_ISA
}  // namespace aq
