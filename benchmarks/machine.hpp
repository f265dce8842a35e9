/// \file
/// What a measurement has to say about where it was made.
#pragma once

#include <string>

namespace aq_bench {

/// The processor's name as the operating system gives it.
[[nodiscard]] std::string cpu_model();

}  // namespace aq_bench
