/// \file
/// How limits are made: a loop that does nothing but what it measures, run by one thread or by two at once.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "case.hpp"

namespace aq_bench {

/// Runs its instructions `rounds` times.
struct limit_loop {
    std::string isa, what;
    bool is_here;          ///< whether this CPU has it
    double ops_per_round;  ///< multiplications and additions
    void (*run)(std::size_t rounds);
};

/// Adds "limit/<isa>/<what>/t1" and ".../t2".
void add_compute_limit(std::vector<bench_case>& cases, const limit_loop& loop);

void add_multiply_limits(std::vector<bench_case>& cases);
void add_tile_limits(std::vector<bench_case>& cases);
void add_read_limits(std::vector<bench_case>& cases);

}  // namespace aq_bench
