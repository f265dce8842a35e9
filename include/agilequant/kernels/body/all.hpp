// Every body of the library, in the order in which they build on each other; empty lines keep formatters from sorting them.
// Included once per instruction set, by dispatch/foreach.hpp.

#include "agilequant/kernels/body/store.hpp"

#include "agilequant/kernels/body/scheme.hpp"

#include "agilequant/kernels/body/gemm.hpp"

#include "agilequant/kernels/body/gemm_float.hpp"

#include "agilequant/kernels/body/quantize.hpp"

#include "agilequant/kernels/body/attention_scores.hpp"

#include "agilequant/kernels/body/attention.hpp"

#include "agilequant/kernels/body/table.hpp"
