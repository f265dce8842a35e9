// Products of matrices, around the inner loops.
// Compiled once per instruction set, by dispatch/foreach.hpp. Empty lines keep formatters from sorting what builds on each other.

#include "agilequant/kernels/body/gemm_results.hpp"

#include "agilequant/kernels/body/gemm_block.hpp"

#include "agilequant/kernels/body/gemm.hpp"

#include "agilequant/kernels/body/products.hpp"
