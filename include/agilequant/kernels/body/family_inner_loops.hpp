// The innermost loops of products: what an instruction set adds of its own comes between them and family_products.hpp.
// Compiled once per instruction set, by dispatch/foreach.hpp. Empty lines keep formatters from sorting what builds on each other.

#include "agilequant/kernels/body/store.hpp"

#include "agilequant/kernels/body/scheme.hpp"

#include "agilequant/kernels/body/unpack.hpp"

#include "agilequant/kernels/body/micro_kernel.hpp"
