/// \file
/// Gives a small model the activations of a large one: outlier channels, folded into the gains of the norms and divided out of
/// the weights behind them, so that the model computes the same function. What quantizing activations of a real model
/// feels like, without a real model.
#pragma once

#include <memory>
#include <vector>

#include "models/loaded_model.hpp"

namespace aq::models {

/// One factor a channel, the same in every layer, as outliers of large models stay in their channels: most between 0.7 and 1.4,
/// one in 32 between 4 and 12, and one of all at 24. (The inputs of
/// TinyLlama-1.1B's attention have about 20 of 2048 channels above 6 times the median in most layers, the largest at 9 to 19 times;
/// in the first three layers it is at 45 to 240.) Deterministic.
[[nodiscard]] std::vector<float> outlier_profile(std::size_t channels);

/// A source of the same model whose norms' outputs are multiplied by `factors` [dim]. Borrows the other source.
class outlier_source {
public:
    outlier_source(const weight_source& inner, std::vector<float> factors) : inner_(inner), factors_(std::move(factors)) {}
    [[nodiscard]] weight_source source() noexcept { return {this, read}; }

private:
    static status read(void* self, weight_id id, std::size_t layer, matrix_view<float> out);
    weight_source inner_;
    std::vector<float> factors_;
};

}  // namespace aq::models
