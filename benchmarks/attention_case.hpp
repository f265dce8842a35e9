/// \file
/// What all attention that is measured shares, ours and the peers': shapes, the check against double, cold caches.
#pragma once

#include <string>
#include <vector>

#include "case.hpp"
#include "peers/attention_peer.hpp"

namespace aq_bench {

/// Every shape that is measured: LLaMA-7B's heads, prompts and steps, on one thread and on two.
[[nodiscard]] std::vector<attention_shape> attention_shapes();

/// Without a filter, on one thread: a prompt that takes a part of a second, and a step whose cache is long.
[[nodiscard]] bool is_default(const attention_shape& shape);

/// A case that measures `p` under `name` (without the shape).
[[nodiscard]] bench_case attention_case(const std::string& name, const attention_peer& p, const attention_shape& shape,
                                        const limit_reference& limit);

/// Root of mean squares of one row of `out` less that of attention in double, over that of the latter.
[[nodiscard]] double row_error(const attention_input& input, const float* out, std::size_t row);

/// The rows that are checked: first, middle and last.
[[nodiscard]] std::vector<std::size_t> checked_rows(const attention_shape& shape);

}  // namespace aq_bench
