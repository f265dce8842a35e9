/// \file
/// Which sites have 8 bits for their activations and which 4, under a budget: average bits a multiply-add. By what 4 bits at this site alone do to the model's
/// predictions. Greedy, as the costs of sites nearly add up [ours].
#pragma once

#include <functional>
#include <vector>

#include "calibrate/recipe.hpp"
#include "calibrate/site_shares.hpp"

namespace aq::example {

inline constexpr int low_activation_bits = 4, high_activation_bits = 8;

/// Multiply-adds a token of the linears behind each site -> [layers * site_count].
[[nodiscard]] std::vector<double> macs_of_sites(models::family family, const model_config& config);

/// Which places, of a cost and of multiply-adds [count each], get 8 bits instead of 4: those with the greatest cost a multiply-add first, and of equal ones the
/// first, each if it still fits, so that the mean of bits, weighted by multiply-adds, is at most `bits_per_mac`. A cost is what 4 bits do there; it may be
/// negative or NaN, which counts as greater than any. 0 multiply-adds: a place that takes no part, and keeps 4 bits.
[[nodiscard]] std::vector<bool> choose_high_bits(const std::vector<double>& costs, const std::vector<double>& macs,
                                                 double bits_per_mac);

struct site_budget {
    std::vector<site_format> sites;  ///< [layers * site_count], what the recipe's should be
    std::vector<double> costs;  ///< [layers * site_count] KL with 4 bits at this site alone less that with none, nats a token
    double bits_per_mac = 0.0;  ///< of this choice, over the sites that are coded; 0: none is
    double kl_high = 0.0, kl_low = 0.0, kl_chosen = 0.0;  ///< KL from the float model: all at 8 bits, all at 4, as chosen
};

/// A site's format with this many bits. The form is the recipe's for its own width; fewer bits than 8 have a zero point else.
[[nodiscard]] site_format with_bits(const site_format& wanted, int bits);

/// Measures all costs on `windows`, layers * site_count + 3 runs, and chooses. Weights are the recipe's format rounded to nearest, activations have a scale for
/// each token, no exponents, and the rotations that the recipe has in any case: what is measured is the model before anything is searched. Sites that are float in the recipe
/// stay float and do not count; of the others the recipe's bits do not matter. Memory: the packed model beside what output_distance keeps. bad_argument: `bits_per_mac` is
/// not in [4,8]; what output_distance::begin, packing and running answer.
[[nodiscard]] status plan_budget(const models::loaded_model& model, const recipe& wanted, double bits_per_mac,
                                 const token_windows& windows, const walk_options& run, site_budget& out,
                                 const std::function<void(double share_done)>& progress = {});

}  // namespace aq::example
