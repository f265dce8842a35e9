/// \file
/// What a model is, in numbers, and where its weights come from. Not the weights themselves.
#pragma once

#include <cstddef>
#include <initializer_list>

#include "agilequant/core/matrix_view.hpp"
#include "agilequant/core/status.hpp"
#include "agilequant/elementwise/rope.hpp"
#include "agilequant/kernels/kv_view.hpp"
#include "agilequant/pack/packed_matrix.hpp"

namespace aq {

struct model_config {
    std::size_t vocabulary = 0, dim = 0, hidden = 0, layers = 0, heads = 0, kv_heads = 0, max_length = 0;
    float rope_theta = 10000.0F;
    float norm_eps = 1e-5F;
    rope_pairing rope = rope_pairing::halves;

    [[nodiscard]] constexpr std::size_t head_dim() const noexcept { return heads == 0 ? 0 : dim / heads; }
    [[nodiscard]] constexpr std::size_t kv_dim() const noexcept { return head_dim() * kv_heads; }
};

/// The largest size of any kind: the bytes of a matrix, or of a list over all layers, stay far below 2^64.
inline constexpr std::size_t max_model_size = std::size_t{1} << 28;

/// bad_argument where a size is zero or beyond max_model_size, where heads do not divide dim or kv_heads not heads, where a head is
/// odd or larger than the cache takes, or where theta or epsilon is not a number that a model can have.
[[nodiscard]] constexpr status validate(const model_config& c) noexcept {
    for (const std::size_t size : {c.vocabulary, c.dim, c.hidden, c.layers, c.heads, c.kv_heads, c.max_length}) {
        if (size == 0 || size > max_model_size) return status::bad_argument;
    }
    if (c.head_dim() > max_head_dim || c.max_length > max_kv_length || c.dim % c.heads != 0 || c.heads % c.kv_heads != 0 ||
        c.head_dim() % 2 != 0)
        return status::bad_argument;
    return c.rope_theta > 0.0F && c.norm_eps >= 0.0F ? status::ok : status::bad_argument;
}

/// Where the position of a token enters: queries and keys are turned (RoPE), the embedding has a vector added, or the scores a slope times
/// the distance (ALiBi).
enum class position_kind { rotary, learned, alibi };

/// The weights of all families; each reads those that it has, see docs/model.md. `positions` and the embedding's norm belong to the model,
/// like the first three, biases to what they are named after.
enum class weight_id {
    embedding,
    final_norm,
    head,
    attention_norm,
    q,
    k,
    v,
    o,
    mlp_norm,
    gate,
    up,
    down,
    positions,
    embedding_norm,
    embedding_norm_bias,
    final_norm_bias,
    attention_norm_bias,
    q_bias,
    k_bias,
    v_bias,
    o_bias,
    mlp_norm_bias,
    up_bias,
    down_bias,
};
inline constexpr std::size_t weight_count = 24;

/// Whether there is one a layer, rather than one a model.
[[nodiscard]] constexpr bool is_of_layer(weight_id id) noexcept {
    return (id >= weight_id::attention_norm && id <= weight_id::down) || id >= weight_id::attention_norm_bias;
}

/// The bias that goes with a norm or a matrix; for what has none, itself.
[[nodiscard]] constexpr weight_id bias_of(weight_id id) noexcept {
    switch (id) {
        case weight_id::embedding_norm: return weight_id::embedding_norm_bias;
        case weight_id::final_norm: return weight_id::final_norm_bias;
        case weight_id::attention_norm: return weight_id::attention_norm_bias;
        case weight_id::q: return weight_id::q_bias;
        case weight_id::k: return weight_id::k_bias;
        case weight_id::v: return weight_id::v_bias;
        case weight_id::o: return weight_id::o_bias;
        case weight_id::mlp_norm: return weight_id::mlp_norm_bias;
        case weight_id::up: return weight_id::up_bias;
        case weight_id::down: return weight_id::down_bias;
        default: return id;
    }
}

/// [out,in] of a weight; a vector is [1,channels]. Learned positions are [max_length,dim].
[[nodiscard]] constexpr matrix_shape shape_of(const model_config& c, weight_id id) noexcept {
    switch (id) {
        case weight_id::embedding:
        case weight_id::head: return {c.vocabulary, c.dim};
        case weight_id::q:
        case weight_id::o: return {c.dim, c.dim};
        case weight_id::k:
        case weight_id::v: return {c.kv_dim(), c.dim};
        case weight_id::gate:
        case weight_id::up: return {c.hidden, c.dim};
        case weight_id::down: return {c.dim, c.hidden};
        case weight_id::positions: return {c.max_length, c.dim};
        case weight_id::k_bias:
        case weight_id::v_bias: return {1, c.kv_dim()};
        case weight_id::up_bias: return {1, c.hidden};
        default: return {1, c.dim};
    }
}

/// Delivers one weight at a time, so that nobody has to hold a whole model in float. `read` fills `out`, which has
/// shape_of(config, id); `layer` counts for weights of a layer only. A tied head delivers the embedding.
///
/// Where matrices of a layer are packed already, `packed` may deliver a view of one, which stays good as long as the model lives; codes
/// null: this one is to be read. May itself be null.
struct weight_source {
    void* self = nullptr;
    status (*read)(void* self, weight_id id, std::size_t layer, matrix_view<float> out) = nullptr;
    status (*packed)(void* self, weight_id id, std::size_t layer, packed_weights& out) = nullptr;
};

}  // namespace aq
