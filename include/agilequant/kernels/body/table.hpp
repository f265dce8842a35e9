// The table of the instruction set that is being compiled. The last of the bodies.

namespace aq {
namespace AQ_ISA {

inline constexpr kernel_table table{
    isa::AQ_ISA::name, gemm_tile::shape, {{gemm<2, 4>, gemm<2, 8>}, {gemm<4, 4>, gemm<4, 8>}, {gemm<8, 4>, gemm<8, 8>}},
    gemm_float,        quantize,         attention,
};

}  // namespace AQ_ISA
}  // namespace aq
