/// \file
/// LLaMA as a family of transformers: RMSNorm, rotary positions, gated MLP, grouped-query attention (Touvron et al. 2023).
#pragma once

#include "agilequant/model/mlp.hpp"
#include "agilequant/model/session.hpp"

namespace aq {

/// What families differ in. Queries share keys as the config says, in all of them.
struct llama_family {
    using mlp = gated_mlp<llama_family>;
    static constexpr position_kind positions = position_kind::rotary;
    static constexpr bool has_biases = false;          ///< of norms and linears, but for the head
    static constexpr bool has_embedding_norm = false;  ///< between the embedding and the first layer

    /// The rows of x [m,dim], normed.
    [[nodiscard]] static row_source normalized(const block_settings& settings, const norm_weights& norm,
                                               matrix_view<const float> x) noexcept {
        return row_source::rms_norm(x, norm.gain.data(), settings.config.norm_eps);
    }
};

using llama = transformer<llama_family>;
using llama_session = session<llama_family>;

}  // namespace aq
