/// \file
/// What a model is, in numbers, and where its weights come from. Not the weights themselves.
#pragma once

#include <cstddef>
#include <initializer_list>

#include "agilequant/core/matrix_view.hpp"
#include "agilequant/core/status.hpp"
#include "agilequant/elementwise/rope.hpp"
#include "agilequant/kernels/kv_view.hpp"

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

enum class weight_id { embedding, final_norm, head, attention_norm, q, k, v, o, mlp_norm, gate, up, down };

/// [out,in] of a weight; a vector is [1,dim].
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
        case weight_id::final_norm:
        case weight_id::attention_norm:
        case weight_id::mlp_norm: return {1, c.dim};
    }
    return {};
}

/// Delivers one weight at a time, so that nobody has to hold a whole model in float. `read` fills `out`, which has
/// shape_of(config, id); `layer` counts for weights of a layer only. A tied head delivers the embedding.
struct weight_source {
    void* self = nullptr;
    status (*read)(void* self, weight_id id, std::size_t layer, matrix_view<float> out) = nullptr;
};

}  // namespace aq
