/// \file
/// Runs cases: group by group, repetitions of a group interleaved at random.
#pragma once

#include "report.hpp"

namespace aq_bench {

struct run_options {
    double min_seconds = 0.05;  ///< of each repetition
    int repetitions = 5;
};

/// Checks each case once, then times it. What it needs in memory is there as long as its group.
[[nodiscard]] results run_cases(const std::vector<bench_case>& cases, const run_options& options);

}  // namespace aq_bench
