/// \file
/// The entries of a model file: their names, and the JSON in some of them. What writing and loading have in common.
#pragma once

#include <string>

#include "models/loaded_model.hpp"

namespace aq::models {

inline constexpr auto model_entry = "model.json", tokenizer_entry = "tokenizer.bin", mark_entry = "mark";
inline constexpr int model_file_version = 1;

/// Whether a weight may be packed: q, k, v, o, gate, up, down.
[[nodiscard]] constexpr bool is_matrix_of_layer(weight_id id) noexcept {
    return (id >= weight_id::q && id <= weight_id::o) || (id >= weight_id::gate && id <= weight_id::down);
}
/// "layers.3.q", or "embedding".
[[nodiscard]] std::string entry_name(weight_id id, std::size_t layer);
/// "layers.3.sites".
[[nodiscard]] std::string sites_entry(std::size_t layer);
[[nodiscard]] const char* name_of(site s) noexcept;

/// Numbers, marks, family, name and precision of a model -> JSON. A name that is not fit for a terminal becomes "model".
[[nodiscard]] std::string describe(const loaded_model& model, const precision& made_for);
/// The same -> model. Fields that are not known are passed over. Throws load_error.
void read_description(const named_bytes& json, loaded_model& model);

/// The formats of one layer's sites -> JSON.
[[nodiscard]] std::string describe_sites(const activation_profile& profile, std::size_t layer);
/// The same -> profile. Throws load_error.
void read_sites(const named_bytes& json, std::size_t layer, activation_profile& profile);

}  // namespace aq::models
