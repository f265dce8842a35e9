/// \file
/// The options of `llama calibrate`, and what they mean to the calibrator.
#pragma once

#include "calibrate/calibrator.hpp"
#include "llama/settings.hpp"

namespace aq::example {

struct calibrate_options {
    settings common;
    std::string out;
    std::string separator;
    std::size_t tokens = 16384;
    bool nearest = false;
    double damping = recipe{}.gptq.damping, follow = recipe{}.follow;
    double budget = 0.0;  ///< bits of activations a multiply-add; 0: as --activations says
    std::string report;   ///< a file
    std::string rotate = "none", search = "output";
};

void add_options(CLI::App& app, calibrate_options& o);

/// failure: what cannot be.
[[nodiscard]] recipe recipe_of(const calibrate_options& o, const models::loaded_model& model);

/// The text that is learned from, in runs of the model's length.
[[nodiscard]] token_windows windows_of(const calibrate_options& o, const models::loaded_model& model);

/// Everything that a layer's codes depend on, as text.
[[nodiscard]] std::string mark_of(const calibrate_options& o, const models::loaded_model& model, const token_windows& windows);

}  // namespace aq::example
