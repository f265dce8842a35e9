/// \file
/// Quantizing activations: float rows to codes in the layout of the weights that they will meet.
#pragma once

#include "agilequant/kernels/jobs.hpp"

namespace aq {

namespace detail {

/// Cuts aligned pieces off a byte buffer; with a null buffer it only counts.
class carver {
public:
    explicit carver(std::byte* base) noexcept : base_(base) {}
    template <class T>
    [[nodiscard]] T* take(std::size_t count) noexcept {
        T* const p = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
        used_ += round_up(count * sizeof(T), cache_line_bytes);
        return p;
    }
    [[nodiscard]] std::size_t used() const noexcept { return used_; }

private:
    std::byte* base_;
    std::size_t used_ = 0;
};

[[nodiscard]] inline activations_view carve_activations(carver& from, std::size_t m, const k_layout_view& layout, int bits) noexcept {
    activations_view a;
    a.bits = bits;
    a.m = m;
    a.stride = layout.packed;
    a.layout_id = layout.id;
    a.codes = from.take<std::int8_t>(m * layout.packed);
    a.scales = from.take<float>(m);
    a.zeros = from.take<std::int32_t>(m);
    a.sums = from.take<std::int32_t>(m * layout.groups);
    return a;
}

}  // namespace detail

/// Bytes that quantized activations [m,k] of this layout need; give them a buffer aligned to 64 bytes.
[[nodiscard]] inline std::size_t activation_bytes(std::size_t m, const k_layout_view& layout) noexcept {
    detail::carver counted(nullptr);
    static_cast<void>(detail::carve_activations(counted, m, layout, 8));
    return counted.used();
}

/// Bytes of scratch that one call of quantize_rows needs beside the result: one row where the layout moves channels.
[[nodiscard]] inline std::size_t quantize_scratch_bytes(const k_layout_view& layout) noexcept {
    return layout.order == nullptr ? 0 : round_up(layout.packed * sizeof(float), cache_line_bytes);
}

/// Prepares the result of quantizing m rows in `storage` (aligned to 64 bytes, activation_bytes(m, layout) of it).
/// scratch_too_small, bad_argument: bits outside 2..8.
[[nodiscard]] inline status place_activations(std::size_t m, const k_layout_view& layout, const activation_format& format,
                                              void* storage, std::size_t storage_bytes, activations_view& out) noexcept {
    if (format.bits < 2 || format.bits > 8) return status::bad_argument;
    const std::size_t needed = activation_bytes(m, layout);
    if (storage_bytes < needed) return status::scratch_too_small;
    if (storage == nullptr && needed != 0) return status::null_pointer;
    detail::carver from(static_cast<std::byte*>(storage));
    out = detail::carve_activations(from, m, layout, format.bits);
    return status::ok;
}

/// Quantizes rows `rows` of x [m,k] into `out`, made by place_activations for the same layout and format. Exact: equals
/// quant/uniform.hpp on x / 2^exponent. `scratch` as quantize_scratch_bytes says; x and out do not overlap. Calls for disjoint
/// rows may run at the same time, each with a scratch of its own.
/// bad_shape, bad_stride, null_pointer, wrong_layout, scratch_too_small.
[[nodiscard]] inline status quantize_rows(const kernel_table& kernels, matrix_view<const float> x, const k_layout_view& layout,
                                          const activation_format& format, index_range rows, void* scratch,
                                          std::size_t scratch_bytes, const activations_view& out) noexcept {
    AQ_TRY(check(x));
    if (x.cols != layout.k || x.rows != out.m || rows.end > x.rows || rows.begin > rows.end) return status::bad_shape;
    if (out.layout_id != layout.id) return status::wrong_layout;
    if (scratch_bytes < quantize_scratch_bytes(layout)) return status::scratch_too_small;
    if (x.cols == 0) return status::ok;
    kernels.quantize({x, layout, format, out, static_cast<float*>(scratch)}, rows);
    return status::ok;
}

}  // namespace aq
