// What makes rows of codes, and of floats.
// Compiled once per instruction set, by dispatch/foreach.hpp. Empty lines keep formatters from sorting what builds on each other.

#include "agilequant/kernels/body/rows.hpp"

#include "agilequant/kernels/body/row_sources.hpp"

#include "agilequant/kernels/body/quantize.hpp"
