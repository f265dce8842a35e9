/// \file
/// What is multiplied: random matrices, and how many copies of weights are colder than the caches.
#pragma once

#include <cstddef>
#include <memory>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/core/status.hpp"

namespace aq_bench {

/// Ends the program with a sentence when a call of the library that cannot fail has failed.
void require(aq::status s, const char* what);

/// count floats of a standard normal distribution, the same for the same seed.
[[nodiscard]] aq::aligned_buffer<float> normal_values(std::size_t count, unsigned seed);

/// x [rows,k] of at least `rows` rows and w [n,k]. Kept until another shape is asked for, which then takes their place.
struct operands {
    aq::aligned_buffer<float> x, w;
};
[[nodiscard]] std::shared_ptr<const operands> operands_of(std::size_t n, std::size_t k);
inline constexpr std::size_t most_rows = 512;

/// Sizes of this machine's caches in bytes; level 1 is the one of data. A guess where the system does not tell.
[[nodiscard]] std::size_t cache_bytes(int level);

/// What all copies of one matrix have to exceed so that each is read from memory: 4 times the last-level cache, at least 256 MiB.
[[nodiscard]] std::size_t cold_bytes();

/// How many copies of `bytes` that takes.
[[nodiscard]] std::size_t cold_copies(double bytes);

/// The relative root of mean squares of rounding normal values to 2^bits levels over the range of `count` of them: a step is the range
/// over the levels, its error a step over sqrt(12). The range is at most 2 sqrt(2 ln count) on average.
[[nodiscard]] double range_rounding_error(int bits, std::size_t count);

}  // namespace aq_bench
