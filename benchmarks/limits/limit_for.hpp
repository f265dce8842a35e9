/// \file
/// Which limit a measurement is held against: the one place that knows.
///
/// A product of one row reads every weight for two operations, so memory bounds it; from 8 rows on it is held against the
/// instructions that multiply. Attention: a step reads its cache for four operations a number, a prompt is like a product of many rows.
/// A limit is meant for the same number of threads, and measured in the same run.
#pragma once

#include <string>

#include "case.hpp"
#include "peers/attention_peer.hpp"
#include "peers/peer.hpp"

namespace aq_bench {

/// Reading memory; the best number of streams counts.
[[nodiscard]] limit_reference memory_limit(int threads);

/// Reading a working set of so many bytes, again and again, on one thread.
[[nodiscard]] limit_reference read_limit(double bytes);

/// A product of agilequant with the kernels of `isa`.
[[nodiscard]] limit_reference gemm_limit(const std::string& isa, int weight_bits, int activation_bits,
                                         const product_shape& shape);

/// A product in float with so wide registers: "avx2" or "avx512".
[[nodiscard]] limit_reference float_limit(const std::string& isa, const product_shape& shape);

/// Attention of agilequant with the kernels of `isa` on a cache of so many bits: memory for a step; for a prompt what multiplies codes,
/// or floats where the cache holds those. A softmax over codes does half of its work in float, and stays below.
[[nodiscard]] limit_reference attention_limit(const std::string& isa, int cache_bits, const attention_shape& shape);

/// A product of a peer that uses what this CPU has; `format` beginning with f or b means arithmetic in float.
[[nodiscard]] limit_reference peer_limit(const std::string& format, const product_shape& shape);

/// Attention of a peer; `format` ending with f16 or f32 means arithmetic in float.
[[nodiscard]] limit_reference peer_limit(const std::string& format, const attention_shape& shape);

}  // namespace aq_bench
