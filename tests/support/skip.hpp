/// \file
/// How a test says that it could not run, because data or a processor feature is not there. `./dev test` lists these lines at its
/// end, so that nothing is left out unseen.
#pragma once

#include <doctest/doctest.h>

#include <filesystem>
#include <iostream>
#include <string>

namespace aq_test {

inline void skip(const std::string& why) {
    std::cout << "skipped: " << doctest::getContextOptions()->currentTest->m_name << ": " << why << std::endl;
}

/// Whether `path` exists; says that the test is skipped when it does not: `if (!have(path)) return;`
inline bool have(const std::filesystem::path& path) {
    if (std::filesystem::exists(path)) return true;
    skip(path.string() + " is not here");
    return false;
}

}  // namespace aq_test
