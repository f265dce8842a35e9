// Attention, and how its cache is written.
// Compiled once per instruction set, by dispatch/foreach.hpp. Empty lines keep formatters from sorting what builds on each other.

#include "agilequant/kernels/body/kv_store.hpp"

#include "agilequant/kernels/body/attention_query.hpp"

#include "agilequant/kernels/body/attention_scores.hpp"

#include "agilequant/kernels/body/attention_weights.hpp"

#include "agilequant/kernels/body/attention_values.hpp"

#include "agilequant/kernels/body/attention.hpp"
