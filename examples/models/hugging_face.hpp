/// \file
/// LLaMA, OPT and BLOOM as Hugging Face stores them: config.json and model.safetensors. What the library does not compute (other activations,
/// scaled positions, biases, quantized weights) is refused, never ignored.
#pragma once

#include "models/loaded_model.hpp"

namespace aq::models {

/// A model from memory, e.g. one that is linked into the program. The caller keeps `tensors` alive; `config` and `tokenizer`
/// are read at once. `tokenizer` is a file of llama2.c's kind; without one the vocabulary must be the 256 bytes.
[[nodiscard]] loaded_model load_hugging_face(const named_bytes& config, const named_bytes& tensors,
                                             const std::optional<named_bytes>& tokenizer = {});

}  // namespace aq::models
