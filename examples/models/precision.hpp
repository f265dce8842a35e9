/// \file
/// What a model is run at: the formats of its weights, activations, attention and cache, and what it prunes, by the names that people use.
#pragma once

#include <cstddef>
#include <string>

namespace aq::models {

/// One precision of a model, as on the command line and in files.
struct precision {
    int weight_bits = 16;      ///< 16: float
    int activation_bits = 16;  ///< 16: float
    bool paper_sites = false;  ///< 4-bit activations at the paper's three sites only, 8 bits at the attention's input
    std::size_t group = 64;
    bool is_symmetric = false;
    bool is_two_level = false;  ///< group scales are integers over one float a row
    std::string trip = "none";  ///< none, static, token
    int trip_k = 3;
    std::string attention = "softmax";
    int kv_bits = 32;
    std::size_t kv_group = 0;
    std::string rotate_keys = "auto";
    double prune = 0.0;  ///< share of tokens gone after the last pruning layer
    std::string prune_layers = "half";

    [[nodiscard]] bool uses_trip() const { return trip != "none"; }
    /// "W4A8 + log2-ceiling, pruned": for tables and messages.
    [[nodiscard]] std::string name() const;
};

}  // namespace aq::models
