/// \file
/// How much of a long test this build runs.
#pragma once

#include <cstddef>

namespace aq_test {

/// Assertions and sanitizers cost ten times and more: such a build runs one case in `slowdown` of the long suites.
#if defined(AQ_ENABLE_ASSERT)
inline constexpr std::size_t slowdown = 10;
#else
inline constexpr std::size_t slowdown = 1;
#endif

/// Of `all` cases, those that this build runs.
constexpr std::size_t cases(std::size_t all) { return all < slowdown ? 1 : all / slowdown; }

}  // namespace aq_test
