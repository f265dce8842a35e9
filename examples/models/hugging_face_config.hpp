/// \file
/// What config.json says of a model of each family. Internal to hugging_face.cpp.
#pragma once

#include "models/loaded_model.hpp"

namespace aq::models {

struct configuration {
    models::family family = models::family::llama;
    model_config model;
    std::optional<bool> tied;  ///< whether the head is the embedding, where the file says it
    std::optional<int> bos;
    std::vector<int> eos;
};

/// Throws load_error where the file is broken, lacks a size, or asks for something that the library does not compute.
[[nodiscard]] configuration read_configuration(const named_bytes& file);

}  // namespace aq::models
