/// \file
/// The model that is linked into the program, and the text that comes with it.
#pragma once

#include <string_view>

#include "models/loaded_model.hpp"

namespace aq::example {

/// The byte-level LLaMA trained on Jane Austen's novels; see models/austen.
[[nodiscard]] models::loaded_model embedded_model();

/// Three quarters of 64 KB of a novel that the model was not trained on, to evaluate on, and the rest, to calibrate on.
[[nodiscard]] std::string_view evaluation_text();
[[nodiscard]] std::string_view calibration_text();

}  // namespace aq::example
