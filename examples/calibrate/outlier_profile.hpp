/// \file
/// What the channels of a small model have to be multiplied by to be as unequal as those of a large one: from the largest
/// activation of each channel of the large one, or made up. outlier_source.hpp folds it in.
#pragma once

#include <agilequant/model/linear.hpp>
#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "models/loaded_model.hpp"

namespace aq::example {

/// One list of channels for each site of a layer.
using channels_of_sites = std::array<std::vector<float>, site_count>;

/// The largest absolute value that entered each channel of each linear's site, of a model with layers.
struct channel_maxima {
    std::string name;  ///< for people
    std::vector<channels_of_sites> layers;
    [[nodiscard]] const std::vector<float>& at(std::size_t layer, site where) const {
        return layers[layer][static_cast<std::size_t>(where)];
    }
};

/// Channel maxima as SmoothQuant stores them (Xiao et al. 2023), in safetensors: a vector for every linear, by the names that
/// LLaMA's or OPT's have in Hugging Face. Of linears that share an input the first is taken: q, o, up or fc1, down or fc2.
/// Throws load_error: no safetensors, a linear of a layer that begins is missing, a vector is not one or changes its length, a
/// value is no number or negative, all are 0.
[[nodiscard]] channel_maxima read_channel_maxima(const models::named_bytes& file);

/// What the activations of each site of a small model are multiplied by. A list that is empty leaves its site alone.
struct outlier_factors {
    /// attention and mlp [dim]; attention_output [kv_dim], as heads that share values share these; mlp_middle [hidden]
    std::vector<channels_of_sites> layers;
    [[nodiscard]] const std::vector<float>& at(std::size_t layer, site where) const {
        return layers[layer][static_cast<std::size_t>(where)];
    }
};

/// No factor is smaller: a channel that the large model hardly uses is one that the small model does use, and its weights would
/// have to grow by as much.
inline constexpr float least_factor = 0.5F;
/// Of the MLP's middle none is larger. What is (1379 times the median in TinyLlama's third layer, where the next has 21) are
/// the massive activations of one or two tokens (Sun et al. 2024), which a factor would give to all tokens.
inline constexpr float largest_middle_factor = 32.0F;

/// Factors of the shape of a profile (ours): maxima over the median of those that are not 0. Layer l of n takes after layer (2l
/// + 1) L / 2n of L. In each layer and site, c channels get the c values whose ranks, from the largest, are i C / c of the
/// profile's C: so the largest is among them, and above any ratio are as large a share of the channels as in the profile,
/// rounded up. Which channel gets which: every channel stands for one of the profile's, always the same (of the norms' two
/// sites together), and they are ordered as those are in that layer; so outliers stay in their channels from layer to layer, as
/// far as they do in the profile. No powers of two: TRIP's exponents, which are, must not have it easier than with a large
/// model. BLOOM's middle is left alone, as GELU is no homogeneous function. The same on every machine. The profile is as
/// read_channel_maxima() makes it; load_error where it has no layer.
[[nodiscard]] outlier_factors outliers_like(const channel_maxima& profile, models::family family, const model_config& config);

/// Factors that are made up, of the norms' sites only, one a channel, the same in every layer: most between 0.7 and 1.4, one in
/// 32 between 4 and 12, and one of all at 24. (The inputs of TinyLlama-1.1B's attention have about 20 of 2048 channels above 6
/// times the median in most layers, the largest at 9 to 19 times; in the first three layers it is at 45 to 240.) Deterministic.
[[nodiscard]] outlier_factors made_up_outliers(const model_config& config);

}  // namespace aq::example
