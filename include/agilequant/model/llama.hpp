/// \file
/// LLaMA as a family of transformers: RMSNorm, rotary positions, gated MLP, grouped-query attention (Touvron et al. 2023).
#pragma once

#include "agilequant/model/mlp.hpp"
#include "agilequant/model/session.hpp"

namespace aq {

struct llama_family {
    using mlp = gated_mlp<llama_family>;

    /// The rows of x [m,dim], normed.
    [[nodiscard]] static row_source normalized(const block_settings& settings, const float* gain, matrix_view<const float> x) {
        return row_source::rms_norm(x, gain, settings.config.norm_eps);
    }

    /// Turns one token's queries [heads, head_dim] and keys [kv_heads, head_dim] to its position.
    [[nodiscard]] static status place(const block_settings& settings, std::size_t position, float* queries, float* keys) {
        const model_config& c = settings.config;
        AQ_TRY(rope(settings.rope_table, position, c.rope, {queries, c.heads, c.head_dim()}));
        return rope(settings.rope_table, position, c.rope, {keys, c.kv_heads, c.head_dim()});
    }
};

using llama = transformer<llama_family>;
using llama_session = session<llama_family>;

}  // namespace aq
