/// \file
/// One function that takes a model from wherever a user keeps it.
#pragma once

#include <filesystem>

#include "models/loaded_model.hpp"

namespace aq::models {

/// Reads what `path` is: a folder with config.json and model.safetensors, a .safetensors file beside a config.json, a
/// llama2.c .bin, or what write_model_file wrote, with a tokenizer in it. `tokenizer` is a file of llama2.c's kind; where it is empty, tokenizer.bin or tok<vocabulary>.bin beside the
/// model is taken. A Hugging Face model of 256 tokens needs none. The files stay mapped as long as the model lives.
/// Throws load_error.
[[nodiscard]] loaded_model load(const std::filesystem::path& path, const std::filesystem::path& tokenizer = {});

}  // namespace aq::models
