/// \file
/// How far a quantized model's predictions are from those of the float model: the mean over positions of the Kullback-Leibler divergence of the next
/// token's distributions. Unlike perplexity it needs no targets, and hardly any text: every position tells about the whole vocabulary.
#pragma once

#include <vector>

#include "calibrate/layer_walk.hpp"

namespace aq::example {

class output_distance {
public:
    /// Runs the model in float over the windows, with softmax, a float cache and nothing pruned, and keeps the logarithms of all its probabilities: 4 bytes
    /// for each token of the windows and each of the vocabulary, see bytes(). Borrows the model. `run` is what the quantized models will run with. bad_argument:
    /// there is no window, or one is empty or too long, or there are no kernels; what loading answers.
    [[nodiscard]] status begin(const models::loaded_model& model, const token_windows& windows, const walk_options& run);

    /// KL(float model, this one) in nats a token -> kl. Weights that are not packed stay float. With pruning the mean is over the positions that are left.
    /// Exactly 0 where the logits have the same bits, and never negative: of p and q as rounded to float, each term is p (log p - log q) - p + q. By the
    /// rounding, d <= 2^-24 max |log|, it is off by at most d sum (p |log p - log q| + |p - q|). The same bits with any number of threads. NaN
    /// where a model computes no numbers. What loading and running answer; bad_argument before begin().
    [[nodiscard]] status of(const weight_source& weights, const activation_profile& profile, double& kl);

    [[nodiscard]] const models::loaded_model* model() const noexcept { return model_; }
    /// What is kept of the float model.
    [[nodiscard]] std::size_t bytes() const noexcept;

private:
    [[nodiscard]] double row_distance(const float* logits, std::size_t window, std::size_t token) const;

    const models::loaded_model* model_ = nullptr;
    token_windows windows_;
    walk_options run_;
    std::vector<std::vector<float>> logs_;  // of each window [tokens,vocabulary]
    std::vector<double> rows_;
};

}  // namespace aq::example
