/// \file
/// What all products share, ours and the peers': shapes, the check against double, cold weights.
#pragma once

#include <string>
#include <vector>

#include "case.hpp"
#include "peers/peer.hpp"

namespace aq_bench {

inline constexpr std::size_t row_counts[] = {1, 8, 32, 128, 512};

/// Every shape that is measured: LLaMA-7B's matrices by row_counts, on one thread and on two.
[[nodiscard]] std::vector<product_shape> product_shapes();

/// Without a filter: the square matrix on one thread.
[[nodiscard]] bool is_default(const product_shape& shape);

/// A case that measures `p` under `name` (without the shape).
[[nodiscard]] bench_case product_case(const std::string& name, const peer& p, const product_shape& shape,
                                      const limit_reference& limit);

/// Root of mean squares of y - x w^T over that of x w^T, in double, over sampled outputs.
[[nodiscard]] double relative_error(const product_input& input, const float* y);

}  // namespace aq_bench
