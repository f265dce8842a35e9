/// \file
/// The kinds of transformers that the library knows: see model/llama.hpp and its neighbours.
#pragma once

namespace aq::models {

enum class family { llama, opt, bloom };
[[nodiscard]] const char* name_of(family f) noexcept;

}  // namespace aq::models
