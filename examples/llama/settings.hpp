/// \file
/// The options that all commands share, and what they mean to the library.
#pragma once

#include <CLI/CLI.hpp>
#include <agilequant/dispatch/dispatch.hpp>
#include <agilequant/model/llama.hpp>
#include <memory>
#include <string>

#include "calibrate/outlier_source.hpp"
#include "calibrate/rotated_weights.hpp"
#include "models/loaded_model.hpp"
#include "models/precision.hpp"

namespace aq::example {

using models::precision;

/// What a model with a longer context is cut to, so that its caches fit an ordinary memory.
inline constexpr std::size_t default_context = 4096;

struct settings {
    std::string model, tokenizer;  ///< files; empty: the embedded model
    std::string calibration;       ///< text file for TRIP; empty: the embedded one
    precision wanted;
    bool outliers = false;              ///< fold outlier channels into the model
    std::string outlier_profile;        ///< those of this file; empty: made up
    std::size_t context = 0;            ///< positions; 0: the model's, at most default_context
    std::size_t threads = 0;            ///< 0: as many as there are cores
    std::string isa;                    ///< empty: AQ_ISA, or the best
    const CLI::App* command = nullptr;  ///< that has the options

    /// Whether an option was given.
    [[nodiscard]] bool has(const char* option) const;
};

/// Refuses what is not between the two; CLI::Range lets NaN through.
[[nodiscard]] CLI::Validator between(double low, double high);

/// The options that a command has: each of these and those before it.
enum class offered {
    model,      ///< --model, --tokenizer, --outliers, --context, --threads, --isa
    weights,    ///< and of activations
    attention,  ///< how it is coded, and its cache
    pruning
};
void add_options(CLI::App& app, settings& s, offered which);

/// The model that the settings name, with outliers where they ask for them, and max_length as they ask for it.
class opened_model {
public:
    explicit opened_model(const settings& s);
    [[nodiscard]] const models::loaded_model& operator*() const noexcept { return model_; }
    /// What it is to be run at: what the command line says; of a quantized model, what it was made for, but for the attention, the cache and the
    /// pruning that the command line gives.
    [[nodiscard]] const precision& wanted() const noexcept { return wanted_; }
    /// From now on the model computes the same with rotated activations, as far as its family can (calibrate/rotated_weights.hpp).
    void rotate();
    /// The length that the model was made for.
    [[nodiscard]] std::size_t full_length() const noexcept { return full_length_; }
    /// The model has that length again, to be stored.
    void restore_length() noexcept { model_.config.max_length = full_length_; }

private:
    models::loaded_model model_;
    precision wanted_;
    std::size_t full_length_ = 0;
    std::unique_ptr<outlier_source> outliers_;
    std::unique_ptr<rotated_weights> rotated_;
};

[[nodiscard]] const kernel_table& choose(const settings& s);
[[nodiscard]] executor threads_of(const settings& s);
/// The library's options of a precision for a model; failure where they do not fit it.
[[nodiscard]] model_options options_of(const precision& p, const model_config& config);
/// The contents of a file, or a failure.
[[nodiscard]] std::string read_file(const std::string& path);

}  // namespace aq::example
