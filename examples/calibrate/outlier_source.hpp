/// \file
/// Gives a small model the activations of a large one: outlier channels, multiplied into what writes a site's input and divided
/// out of the weights behind it, so that the model computes the same function. What quantizing activations of a real model feels
/// like, without a real model; docs/rotation.md says what it does not show.
#pragma once

#include <filesystem>
#include <memory>

#include "calibrate/outlier_profile.hpp"

namespace aq::example {

/// A source of the same model with other activations, for factors f of each site (as SmoothQuant, Xiao et al. 2023, equation 3,
/// the other way round). Borrows the other source, whose weights are read as floats.
///   attention, mlp      gain and bias of the norm in front times f; columns of q, k, v or gate, up over f
///   attention_output    rows of v and its bias times f, columns of o over f: attention is linear in each channel of the values
///   mlp_middle          rows of up and its bias times f, columns of down over f: a gated MLP is linear in up, and
///                       ReLU(f x) = f ReLU(x). Not for GELU.
/// Where all f are powers of two the logits have the same bits, as long as nothing leaves float's normal range. Else every weight
/// is rounded once for each factor it meets, and a divided one once more, as it is multiplied by 1 / f.
class outlier_source {
public:
    outlier_source(const model_config& config, const weight_source& inner, outlier_factors factors)
        : config_(config), inner_(inner), factors_(std::move(factors)) {}

    /// bad_shape: factors do not fit the weight that is asked for, or there are none of its layer; what the inner source says.
    [[nodiscard]] weight_source source() noexcept { return {this, read}; }

private:
    static status read(void* self, weight_id id, std::size_t layer, matrix_view<float> out);
    model_config config_;
    weight_source inner_;
    outlier_factors factors_;
};

/// Folds the outliers of a profile, a file that read_channel_maxima() takes, into a model of any family, or made-up ones where
/// there is no file. What is returned has to live as long as the model, whose name says what happened. Throws load_error: what
/// reading the file says; the model's weights are packed already.
[[nodiscard]] std::unique_ptr<outlier_source> fold_outliers(models::loaded_model& model,
                                                            const std::filesystem::path& profile = {});

}  // namespace aq::example
