/// \file
/// What calibrating has found, site by site: rows for a table, and JSON, which tools/calibration_plot.py draws.
#pragma once

#include <string>
#include <vector>

#include "calibrate/recipe.hpp"
#include "calibrate/site_shares.hpp"

namespace aq::example {

struct named_perplexity {
    std::string name;  ///< of the model, e.g. "float"
    double perplexity = 0.0;
};

struct calibration_report {
    std::string model;
    models::family family = models::family::llama;
    weight_format weights;
    bool uses_gptq = true;
    std::vector<site_report> sites;
    site_shares shares;                          ///< no sites: not measured, and nothing is said of them
    std::vector<named_perplexity> perplexities;  ///< as far as they are known
};

/// Had the weights been rounded to nearest, with the same codes of activations: site_report::signal_to_noise_db otherwise.
[[nodiscard]] double nearest_signal_to_noise_db(const site_report& r) noexcept;

/// A head, then a row a site: layer, site, bits of weights and activations, how activations are coded, their range, signal-to-noise ratio of the outputs in dB as
/// they are and by round-to-nearest, and the share of the final error where it is known. The shares are site_shares::share.
[[nodiscard]] std::vector<std::vector<std::string>> table_of(const calibration_report& r);

/// One object, indented. Ratios that are infinite, as where nothing is quantized, and whatever is no number, are null.
///   model, family, weights {bits, group_size (0: a row), asymmetric, scales "float" | "integer", method "gptq" | "round_to_nearest"}
///   perplexity [{name, value}]
///   kl_divergence_nats_per_token {base, all_sites, sum_of_sites: what each adds alone} where shares are known
///   sites [{layer, site, linears [q, ...], weight_bits, activation_bits (null: float),
///           activation_asymmetric, activation_scale "static" | "dynamic", clip, static_scale, static_zero_point: as far as they mean something
///           hadamard, trip_max_exponent, trip_choice, trip_exponents [channels with exponent 0, 1, ...],
///           activation_min, activation_max: before a rotation,
///           signal_to_noise_db, signal_to_noise_round_to_nearest_db, signal_to_noise_exact_weights_db: activations' codes alone,
///           kl_added_nats_per_token, error_share: 0..1, where shares are known}]
[[nodiscard]] std::string json_of(const calibration_report& r);

}  // namespace aq::example
