/// \file
/// A model at one precision, ready to run: what every command works with.
#pragma once

#include <string_view>
#include <vector>

#include "llama/settings.hpp"
#include "models/any_model.hpp"

namespace aq::example {

using token_list = std::vector<std::uint32_t>;

/// Tokens of a text, without marks; failure where the tokenizer makes one that the model does not know.
[[nodiscard]] token_list tokens_of(const models::loaded_model& model, std::string_view text);

/// What a run of text starts with: the model's mark, or nothing.
[[nodiscard]] token_list start_of(const models::loaded_model& model);

/// Learns TRIP's exponents and static scales of every site from a text: by the paper's search, on what the model with these
/// weights and float activations computes, pruned where `p` prunes.
[[nodiscard]] activation_profile calibrate(const models::loaded_model& model, const precision& p, const settings& s,
                                           const token_list& text);

/// Builds a model at a precision; `profile` where it uses TRIP.
void build(const models::loaded_model& model, const precision& p, const activation_profile* profile, any_model& out);

/// Calibrates if the precision asks for it, and builds. The text comes from --calibration or is the embedded one.
void build(const models::loaded_model& model, const precision& p, const settings& s, any_model& out);

}  // namespace aq::example
