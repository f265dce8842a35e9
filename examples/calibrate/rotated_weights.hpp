/// \file
/// The weights of a model that computes the same function with rotated activations, which have no outlier channels: for the quantizers of activations, weights and
/// cache. Nothing is left to do at run time. After QuaRot (Ashkboos et al. 2024, section 4), with a rotation that LayerNorm lets through as RMSNorm does (ours).
#pragma once

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/model/config.hpp"
#include "calibrate/mean_rotation.hpp"

namespace aq::example {

/// Whether a family's residual stream can be rotated. BLOOM's cannot: the norm of its embedding multiplies channels by gains that no linear behind it can take in,
/// because what it writes is the residual stream itself.
template <class Family>
inline constexpr bool can_rotate_residual = !Family::has_embedding_norm;

/// What is rotated; each alone or both.
struct rotation_choice {
    bool residual = true;  ///< the residual stream, and with it what enters attention, MLP and head: by mean_rotation
    bool heads = true;     ///< values and the attention's output, head by head: by hadamard()
};

/// Delivers weights as floats, each rounded once from double. A family is not named: a source is asked for its weights alone.
class rotated_weights {
public:
    /// Borrows the source.
    rotated_weights(const model_config& config, const weight_source& inner, rotation_choice choice = {}) noexcept
        : config_(config), inner_(inner), choice_(choice), rotation_(config.dim) {}

    /// What a model loads instead of the inner source. Reading one weight may read several of the inner source's: the gain of the norm in front and, for a bias, its
    /// bias and the matrix. bad_argument: the config is not valid; the embedding's norm is asked for and the residual rotated (can_rotate_residual); the final norm
    /// has a bias where its gain is 0. bad_shape, bad_stride, null_pointer: `out`. out_of_memory; what the inner source says.
    [[nodiscard]] weight_source source() noexcept { return {this, read}; }

private:
    struct turns;
    static status read(void* self, weight_id id, std::size_t layer, matrix_view<float> out);
    [[nodiscard]] turns turns_of(weight_id id) const noexcept;
    [[nodiscard]] status inner(weight_id id, std::size_t layer, matrix_view<float> out) const {
        return inner_.read(inner_.self, id, layer, out);
    }
    [[nodiscard]] status read_vector(weight_id id, std::size_t layer, aligned_buffer<float>& out) const;
    [[nodiscard]] status turn(const turns& t, const float* gain, matrix_view<float> out) const;
    void turn_rows(const turns& t, double* x, std::size_t rows, std::size_t cols) const noexcept;
    void turn_columns(const turns& t, double* x, std::size_t rows, std::size_t cols) const noexcept;
    [[nodiscard]] status read_norm(weight_id id, matrix_view<float> out) const;
    [[nodiscard]] status read_bias(weight_id id, weight_id matrix, std::size_t layer, matrix_view<float> out) const;

    model_config config_;
    weight_source inner_;
    rotation_choice choice_;
    mean_rotation rotation_;
};

}  // namespace aq::example
