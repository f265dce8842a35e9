/// \file
/// A quantized model in one file, as `llama calibrate` writes it: the library's file of packed weights (pack/file.hpp), with
/// names. Everything that a model needs is in it, its tokenizer too; docs/calibration.md lists the entries.
#pragma once

#include <agilequant/pack/file.hpp>
#include <filesystem>

#include "models/loaded_model.hpp"

namespace aq::models {

/// Whether bytes begin as a file of packed weights does.
[[nodiscard]] bool is_model_file(std::string_view bytes) noexcept;

/// The model in a file, whose matrices are used where they lie. Every byte is checked first, and there is nothing in the file that the model
/// has no place for. Throws load_error.
[[nodiscard]] loaded_model load_model_file(mapped_file&& file);

/// Writes `model` with the matrices and formats of `q`, which began with it; what is not packed is stored as floats. While it is
/// written, the file is PATH.unfinished: under its own name it is complete, and what was there before stays until then. Throws load_error.
void write_model_file(const std::filesystem::path& path, const loaded_model& model, quantized_weights& q,
                      const precision& made_for);

/// Writes one layer of `q`, in the same way, for a run that may be broken off. `mark`: all that the layer depends on. Throws load_error.
void write_layer_file(const std::filesystem::path& path, const loaded_model& model, quantized_weights& q, std::size_t layer,
                      const std::string& mark);

/// Takes a layer from a file that write_layer_file wrote with the same mark, borrowing its matrices: false, and they are as they were, where
/// the file is damaged or has another mark. `file` must live as long as `q`.
[[nodiscard]] bool read_layer_file(const mapped_file& file, const loaded_model& model, quantized_weights& q, std::size_t layer,
                                   const std::string& mark);

}  // namespace aq::models
