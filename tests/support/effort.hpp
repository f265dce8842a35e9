/// \file
/// How much of a long test this build runs.
#pragma once

#include <cstddef>

namespace aq_test {

/// Sanitizers and emulators cost ten times and more: such a build, which tests/CMakeLists.txt tells so, runs one case in `slowdown` of
/// the long suites.
#if defined(AQ_TEST_SLOWDOWN)
inline constexpr std::size_t slowdown = AQ_TEST_SLOWDOWN;
#else
inline constexpr std::size_t slowdown = 1;
#endif

/// Of `all` cases, those that this build runs.
constexpr std::size_t cases(std::size_t all) { return all < slowdown ? 1 : all / slowdown; }

}  // namespace aq_test
