/// \file
/// A linear layer whose weights are float or packed codes, and its input, which is float or quantized once for all the linears that
/// share it. Everything about formats ends here: a block only says `prepare` and `multiply`.
#pragma once

#include <algorithm>

#include "agilequant/kernels/epilogue.hpp"
#include "agilequant/kernels/gemm.hpp"
#include "agilequant/kernels/gemm_float.hpp"
#include "agilequant/kernels/quantized_rows.hpp"
#include "agilequant/model/run_context.hpp"

namespace aq {

/// What enters a group of linears: one of the four places of a block where activations are quantized.
enum class site { attention, attention_output, mlp, mlp_middle };
inline constexpr std::size_t site_count = 4;

/// How the activations of a site are represented.
struct site_format {
    bool is_float = true;
    activation_format activations;  ///< where not float
    bool is_rotated =
        false;  ///< rows are rotated by a Hadamard matrix first, float or not, and so are those of the weights behind
};

/// y = x w^T + bias, where there is a bias.
class linear {
public:
    /// Float weights w [n,k].
    [[nodiscard]] status assign(matrix_view<const float> w) noexcept {
        is_float_ = true;
        AQ_TRY(bias_.reset(0));
        return float_.assign(w);
    }
    /// Packed weights by round-to-nearest; `exponents` [k] of the activations, or null.
    [[nodiscard]] status assign(matrix_view<const float> w, const weight_format& format, const std::uint8_t* exponents) noexcept {
        is_float_ = false;
        AQ_TRY(bias_.reset(0));
        AQ_TRY(pack(w, format, exponents, packed_));
        view_ = packed_.view();
        return status::ok;
    }

    /// Weights that are packed already, borrowed. wrong_tile: not of the portable tile; null_pointer.
    [[nodiscard]] status assign(const packed_weights& w) noexcept {
        if (w.tile != portable_tile::shape) return status::wrong_tile;
        if (w.codes == nullptr || w.scales == nullptr || w.offsets == nullptr || w.layout.runs == nullptr)
            return status::null_pointer;
        is_float_ = false;
        AQ_TRY(bias_.reset(0));
        view_ = w;
        return status::ok;
    }

    /// bias [n], copied, until weights are assigned again. bad_shape: there are no n weights; out_of_memory.
    [[nodiscard]] status assign_bias(matrix_view<const float> bias) noexcept {
        if (bias.rows != 1 || bias.cols != n()) return status::bad_shape;
        AQ_TRY(check(bias));
        AQ_TRY(bias_.reset(n()));
        std::copy(bias.data, bias.data + n(), bias_.data());
        return status::ok;
    }

    [[nodiscard]] bool is_float() const noexcept { return is_float_; }
    /// [n], or null.
    [[nodiscard]] const float* bias() const noexcept { return bias_.data(); }
    [[nodiscard]] const float_panels& float_weights() const noexcept { return float_; }
    [[nodiscard]] packed_weights weights() const noexcept { return view_; }
    [[nodiscard]] std::size_t n() const noexcept { return is_float_ ? float_.n() : view_.n; }
    [[nodiscard]] std::size_t k() const noexcept { return is_float_ ? float_.k() : view_.layout.k; }
    [[nodiscard]] std::size_t bytes() const noexcept { return (is_float_ ? float_.bytes() : view_.bytes()) + bias_.size_bytes(); }

private:
    bool is_float_ = true;
    float_panels float_;
    packed_storage<> packed_;
    packed_weights view_;  // of packed_, or of somebody else's
    aligned_buffer<float> bias_;
};

/// The input of linears: x [m,k] as it is, or quantized for the layout of the first of them.
class linear_input {
public:
    /// Quantizes where `format` says so. `first` is a linear that will take the input; all that do share its layout. x stays
    /// borrowed until the last multiply.
    [[nodiscard]] status prepare(run_context& context, matrix_view<const float> x, const site_format& format,
                                 const linear& first) noexcept {
        if (is_quantized(format, first)) return prepare_codes(context, row_source::plain(x), format.activations, first);
        x_ = x;
        is_float_ = true;
        return status::ok;
    }

    /// Whether the input of a linear is codes.
    [[nodiscard]] static bool is_quantized(const site_format& format, const linear& first) noexcept {
        return !format.is_float && !first.is_float();
    }
    /// Quantizes the rows of a source, which are nowhere as floats then.
    [[nodiscard]] status prepare_codes(run_context& context, const row_source& source, const activation_format& format,
                                       const linear& first) noexcept {
        const part_timer timed(context.times, part::quantize);
        const std::size_t m = source.x.rows;
        const k_layout_view layout = first.weights().layout;
        is_float_ = false;
        AQ_TRY(codes_.prepare(m, layout, format));
        AQ_TRY(context.scratch.reserve(context.threads.workers, quantize_scratch_bytes(layout, source.stage)));
        const std::size_t pieces = piece_count(context.threads, m);
        return context.for_each(pieces, [&](std::size_t i, std::size_t worker) {
            return quantize_rows(*context.kernels, source, layout, format, piece(m, pieces, i), context.scratch.of(worker),
                                 context.scratch.bytes(), codes_.view());
        });
    }

    [[nodiscard]] bool is_float() const noexcept { return is_float_; }
    [[nodiscard]] matrix_view<const float> values() const noexcept { return x_; }
    [[nodiscard]] const activations_view& codes() const noexcept { return codes_.view(); }

private:
    bool is_float_ = true;
    matrix_view<const float> x_;
    quantized_rows codes_;
};

/// y [m,n] = epilogue(x w^T), without the bias. y overlaps neither; any cut into threads gives the same bits.
[[nodiscard]] inline status multiply(run_context& context, const linear_input& x, const linear& w, matrix_view<float> y,
                                     epilogue_ref epilogue = {}) noexcept {
    const std::size_t panels = portable_tile::panels(w.n());
    const std::size_t pieces = piece_count(context.threads, panels);
    const index_range rows{0, y.rows};
    if (!x.is_float()) {
        const gemm_job job{w.weights(), x.codes(), y, epilogue};
        AQ_TRY(context.scratch.reserve(context.threads.workers, gemm_scratch_bytes(*context.kernels, job.weights)));
        return context.for_each(pieces, [&](std::size_t i, std::size_t worker) {
            const index_range mine = piece(panels, pieces, i, context.kernels->panel_step);
            return gemm(*context.kernels, job, rows, mine, context.scratch.of(worker), context.scratch.bytes());
        });
    }
    const gemm_float_job job{x.values(), y, epilogue};
    if (w.is_float()) {
        return context.for_each(pieces, [&](std::size_t i, std::size_t) {
            return gemm(*context.kernels, job, w.float_weights(), rows, piece(panels, pieces, i));
        });
    }
    AQ_TRY(context.scratch.reserve(context.threads.workers, gemm_float_scratch_bytes(w.weights())));
    return context.for_each(pieces, [&](std::size_t i, std::size_t worker) {
        return gemm(*context.kernels, job, w.weights(), rows, piece(panels, pieces, i), context.scratch.of(worker),
                    context.scratch.bytes());
    });
}

/// y [m,n] = stages(x w^T + bias): what a block means by a linear. As multiply otherwise.
template <class... Stages>
[[nodiscard]] status apply(run_context& context, const linear_input& x, const linear& w, matrix_view<float> y,
                           Stages... stages) noexcept {
    if (w.bias() != nullptr) {
        const epilogue all{add_bias{w.bias()}, stages...};
        return multiply(context, x, w, y, all.ref());
    }
    if constexpr (sizeof...(Stages) == 0) {
        return multiply(context, x, w, y);
    } else {
        const epilogue all{stages...};
        return multiply(context, x, w, y, all.ref());
    }
}

}  // namespace aq
