/// \file
/// BLOOM as a family of transformers: LayerNorm, also of the embedding, ALiBi, an MLP of GELU, biases (BigScience 2022). Its head is the embedding: that
/// is the source's affair, as is taking queries, keys and values apart where a file has them as one tensor.
#pragma once

#include "agilequant/model/mlp.hpp"
#include "agilequant/model/session.hpp"

namespace aq {

struct bloom_family {
    using mlp = plain_mlp<bloom_family>;
    static constexpr position_kind positions = position_kind::alibi;
    static constexpr bool has_biases = true;
    static constexpr bool has_embedding_norm = true;

    /// The rows of x [m,dim], normed.
    [[nodiscard]] static row_source normalized(const block_settings& settings, const norm_weights& norm,
                                               matrix_view<const float> x) noexcept {
        return row_source::layer_norm(x, norm.gain.data(), norm.bias.data(), settings.config.norm_eps);
    }
    /// What stands between the two linears of the MLP: rows of x [m,hidden].
    [[nodiscard]] static row_source activated(matrix_view<const float> x) noexcept { return row_source::gelu(x); }
};

using bloom = transformer<bloom_family>;
using bloom_session = session<bloom_family>;

}  // namespace aq
