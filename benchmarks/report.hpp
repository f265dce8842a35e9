/// \file
/// What a run found: medians, their rates, and how much of the limit they are. As a table and as JSON.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "case.hpp"

namespace aq_bench {

struct result {
    std::vector<double> seconds;      ///< of one run, one for each repetition
    std::vector<double> cpu_seconds;  ///< the calling thread's own; less than seconds where others had the core
    double ops = 0.0, bytes = 0.0;
    std::string failed, skipped;  ///< why; empty: neither
};

/// By name.
using results = std::map<std::string, result>;

/// The middle one; of an even number the mean of the middle two.
[[nodiscard]] double median(std::vector<double> values);

/// What a reader sees of one case.
struct summary {
    double seconds = 0.0, spread = 0.0;  ///< median; (largest - smallest) / median
    double gops = 0.0, gbps = 0.0;
    std::string limit;  ///< the best of those that it is held against; empty: none was measured
    double percent_of_limit = 0.0;
};
[[nodiscard]] summary summarize(const bench_case& c, const results& found);

/// Prints one line a case to standard output, and what was skipped or failed. Returns how many failed.
std::size_t print_table(const std::vector<bench_case>& cases, const results& found);

/// Writes Google Benchmark's format: context and benchmarks, each with real_time in nanoseconds and its counters. False: it cannot be
/// written.
[[nodiscard]] bool write_json(const std::string& file, const std::vector<bench_case>& cases, const results& found,
                              const std::string& command);

}  // namespace aq_bench
