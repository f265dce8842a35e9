/// \file
/// LLaMA as llama2.c stores it (the legacy format, version 0): seven integers and then every weight in float, in a fixed order.
#pragma once

#include "models/loaded_model.hpp"

namespace aq::models {

/// The size of the vocabulary that the header asks for.
[[nodiscard]] std::size_t llama2c_vocabulary(const named_bytes& model);

/// A model from memory, which the caller keeps alive; `tokenizer` is read at once. The file's size must be exactly what its
/// header asks for. Text starts with token 1 and ends with 1 or 2.
[[nodiscard]] loaded_model load_llama2c(const named_bytes& model, const named_bytes& tokenizer);

}  // namespace aq::models
