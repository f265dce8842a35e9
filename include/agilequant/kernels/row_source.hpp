/// \file
/// Where rows of activations come from: memory as they are, or what stands between two products, computed row by row on the way to
/// whoever takes them: kernels/quantize.hpp, kernels/write_rows.hpp. Rows are those of elementwise/, bit for bit.
#pragma once

#include "agilequant/core/matrix_view.hpp"

namespace aq {

enum class row_stage { none, rms_norm, layer_norm, silu_gate, relu, gelu };

/// Rows [m,k], borrowed. Made by the functions below, each named like the one of elementwise/ that it stands for.
struct row_source {
    row_stage stage = row_stage::none;
    matrix_view<const float> x;     ///< [m,k]; what silu_gate calls up
    matrix_view<const float> gate;  ///< [m,k]: silu_gate
    const float* gain = nullptr;    ///< [k]: norms
    const float* bias = nullptr;    ///< [k]: layer_norm
    float eps = 0.0F;               ///< norms

    [[nodiscard]] static row_source plain(matrix_view<const float> x) noexcept {
        row_source s;
        s.x = x;
        return s;
    }
    [[nodiscard]] static row_source rms_norm(matrix_view<const float> x, const float* gain, float eps) noexcept {
        row_source s = plain(x);
        s.stage = row_stage::rms_norm;
        s.gain = gain;
        s.eps = eps;
        return s;
    }
    [[nodiscard]] static row_source layer_norm(matrix_view<const float> x, const float* gain, const float* bias,
                                               float eps) noexcept {
        row_source s = rms_norm(x, gain, eps);
        s.stage = row_stage::layer_norm;
        s.bias = bias;
        return s;
    }
    [[nodiscard]] static row_source silu_gate(matrix_view<const float> gate, matrix_view<const float> up) noexcept {
        row_source s = plain(up);
        s.stage = row_stage::silu_gate;
        s.gate = gate;
        return s;
    }

    [[nodiscard]] static row_source relu(matrix_view<const float> x) noexcept {
        row_source s = plain(x);
        s.stage = row_stage::relu;
        return s;
    }
    [[nodiscard]] static row_source gelu(matrix_view<const float> x) noexcept {
        row_source s = plain(x);
        s.stage = row_stage::gelu;
        return s;
    }

    [[nodiscard]] bool is_plain() const noexcept { return stage == row_stage::none; }
};

/// bad_stride, null_pointer; bad_shape: gate and up differ; bad_argument: eps is negative or NaN.
[[nodiscard]] inline status check(const row_source& s) noexcept {
    AQ_TRY(check(s.x));
    if (s.is_plain() || s.stage == row_stage::relu || s.stage == row_stage::gelu) return status::ok;
    if (s.stage == row_stage::silu_gate) return s.gate.shape() == s.x.shape() ? check(s.gate) : status::bad_shape;
    const bool lacks_parameters = s.gain == nullptr || (s.stage == row_stage::layer_norm && s.bias == nullptr);
    if (lacks_parameters && !s.x.empty()) return status::null_pointer;
    return s.eps >= 0.0F ? status::ok : status::bad_argument;
}

}  // namespace aq
