/// \file
/// A quantized model in one file, as `llama calibrate` writes it: the library's file of packed weights (pack/file.hpp), with
/// names. Everything that a model needs is in it, its tokenizer too; docs/calibration.md lists the entries.
#pragma once

#include <agilequant/pack/file.hpp>
#include <filesystem>

#include "models/loaded_model.hpp"

namespace aq::models {

/// Whether bytes begin as such a file does.
[[nodiscard]] bool is_model_file(std::string_view bytes) noexcept;

/// The model in a file, whose matrices are used where they lie. Every byte is checked first. Throws load_error.
[[nodiscard]] loaded_model load_model_file(mapped_file&& file);

/// Writes `model` with the matrices of `q`, all of whose layers are done, and its formats; what is not packed is stored as
/// floats. The file is there when it is complete, or not at all. Throws load_error.
void write_model_file(const std::filesystem::path& path, const loaded_model& model, quantized_weights& q,
                      const precision& made_for);

/// One layer of `q`, as far as it is packed, for a run that may be broken off. `mark`: what it was made by.
void write_layer_file(const std::filesystem::path& path, const loaded_model& model, quantized_weights& q, std::size_t layer,
                      const std::string& mark);

/// Takes a layer from the file that write_layer_file wrote with the same mark, borrowing its matrices: false where there is no
/// such file, or it is damaged or of another mark. `file` must live as long as `q`.
[[nodiscard]] bool read_layer_file(const mapped_file& file, const loaded_model& model, quantized_weights& q, std::size_t layer,
                                   const std::string& mark);

}  // namespace aq::models
