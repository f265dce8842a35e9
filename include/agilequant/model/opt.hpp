/// \file
/// OPT as a family of transformers: LayerNorm, learned positions, an MLP of ReLU, biases (Zhang et al. 2022). The form whose norms stand before attention and
/// MLP, which is that of all sizes but 350M. Its head is the embedding: that is the source's affair.
#pragma once

#include "agilequant/model/mlp.hpp"
#include "agilequant/model/session.hpp"

namespace aq {

struct opt_family {
    using mlp = plain_mlp<opt_family>;
    static constexpr position_kind positions = position_kind::learned;
    static constexpr bool has_biases = true;
    static constexpr bool has_embedding_norm = false;

    /// The rows of x [m,dim], normed.
    [[nodiscard]] static row_source normalized(const block_settings& settings, const norm_weights& norm,
                                               matrix_view<const float> x) noexcept {
        return row_source::layer_norm(x, norm.gain.data(), norm.bias.data(), settings.config.norm_eps);
    }
    /// What stands between the two linears of the MLP: rows of x [m,hidden].
    [[nodiscard]] static row_source activated(matrix_view<const float> x) noexcept { return row_source::relu(x); }
};

using opt = transformer<opt_family>;
using opt_session = session<opt_family>;

}  // namespace aq
