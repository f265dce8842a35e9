/// \file
/// Owns quantized activations, for callers who do not carve memory themselves.
#pragma once

#include "agilequant/kernels/quantize.hpp"

namespace aq {

/// Codes, scales, zero points and sums of rows of activations. Move-only; memory is kept from use to use.
class quantized_rows {
public:
    /// Makes room for m rows in a layout. bad_argument, out_of_memory.
    [[nodiscard]] status prepare(std::size_t m, const k_layout_view& layout, const activation_format& format) noexcept {
        AQ_TRY(memory_.reserve(activation_bytes(m, layout)));
        return place_activations(m, layout, format, memory_.data(), memory_.size(), view_);
    }
    /// Makes room for x [m,k] and quantizes it. See quantize_rows.
    [[nodiscard]] status assign(const kernel_table& kernels, matrix_view<const float> x, const k_layout_view& layout,
                                const activation_format& format) noexcept {
        AQ_TRY(prepare(x.rows, layout, format));
        AQ_TRY(scratch_.reserve(quantize_scratch_bytes(layout)));
        return quantize_rows(kernels, x, layout, format, {0, x.rows}, scratch_.data(), scratch_.size(), view_);
    }
    /// Good until the next prepare or assign.
    [[nodiscard]] const activations_view& view() const noexcept { return view_; }

private:
    activations_view view_;
    aligned_buffer<std::byte> memory_, scratch_;
};

}  // namespace aq
