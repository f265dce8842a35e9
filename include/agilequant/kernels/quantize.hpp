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

[[nodiscard]] inline activations_view carve_activations(carver& from, std::size_t m, const k_layout_view& layout,
                                                        int bits) noexcept {
    activations_view a;
    a.bits = bits;
    a.m = m;
    a.stride = activation_stride(layout.packed);
    a.layout_id = layout.id;
    a.codes = from.take<std::int8_t>(m * a.stride);
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

/// Bytes of scratch that one call of quantize_rows needs beside the result: a row where it is computed, and one where the layout moves
/// channels.
[[nodiscard]] inline std::size_t quantize_scratch_bytes(const k_layout_view& layout, row_stage stage = row_stage::none) noexcept {
    const auto row_bytes = [](std::size_t floats) { return round_up(floats * sizeof(float), cache_line_bytes); };
    return (stage == row_stage::none ? 0 : row_bytes(layout.k)) + (layout.order == nullptr ? 0 : row_bytes(layout.packed));
}

/// Prepares the result of quantizing m rows in `storage` (aligned to 64 bytes, activation_bytes(m, layout) of it).
/// scratch_too_small, null_pointer, bad_argument: not is_valid(format).
[[nodiscard]] inline status place_activations(std::size_t m, const k_layout_view& layout, const activation_format& format,
                                              void* storage, std::size_t storage_bytes, activations_view& out) noexcept {
    if (!is_valid(format)) return status::bad_argument;
    const std::size_t needed = activation_bytes(m, layout);
    if (storage_bytes < needed) return status::scratch_too_small;
    if (storage == nullptr && needed != 0) return status::null_pointer;
    detail::carver from(static_cast<std::byte*>(storage));
    out = detail::carve_activations(from, m, layout, format.bits);
    out.is_unsigned = is_unsigned(format);
    return status::ok;
}

/// Quantizes rows `rows` of a source [m,k] into `out`, made by place_activations for the same layout and format. Exact: equals
/// quant/uniform.hpp on x / 2^exponent, x being the row that write_rows would write. `scratch` as quantize_scratch_bytes says for the
/// source's stage; neither source nor scratch overlaps out. Calls for disjoint rows may run at the same time, each with a scratch of
/// its own.
/// What check(source) says; bad_shape, wrong_layout, scratch_too_small, null_pointer, bad_argument: not is_valid(format), or out is for other bits or for unsigned codes alone.
[[nodiscard]] inline status quantize_rows(const kernel_table& kernels, row_source source, const k_layout_view& layout,
                                          const activation_format& format, index_range rows, void* scratch,
                                          std::size_t scratch_bytes, const activations_view& out) noexcept {
    AQ_TRY(check(source));
    matrix_view<const float>& x = source.x;
    if (x.cols != layout.k || x.rows != out.m || rows.end > x.rows || rows.begin > rows.end) return status::bad_shape;
    if (out.layout_id != layout.id || out.stride != activation_stride(layout.packed)) return status::wrong_layout;
    if (!is_valid(format) || format.bits != out.bits) return status::bad_argument;
    if (out.is_unsigned && !is_unsigned(format)) return status::bad_argument;
    const std::size_t needed = quantize_scratch_bytes(layout, source.stage);
    if (scratch_bytes < needed) return status::scratch_too_small;
    const bool lacks_rows =
        out.scales == nullptr || out.zeros == nullptr || out.codes == nullptr;  // rows have a stride even at k = 0
    const bool lacks_codes = out.sums == nullptr || layout.runs == nullptr || (scratch == nullptr && needed != 0);
    if (out.m != 0 && (lacks_rows || (lacks_codes && layout.k != 0))) return status::null_pointer;
    if (x.cols == 0) {  // rows without channels still get scale and zero point; no address is made from x, which may be null
        x.stride = 0;
        source.stage = row_stage::none;
    }
    kernels.quantize({source, layout, format, out, static_cast<float*>(scratch)}, rows);
    return status::ok;
}

/// The same for x [m,k] as it is.
[[nodiscard]] inline status quantize_rows(const kernel_table& kernels, matrix_view<const float> x, const k_layout_view& layout,
                                          const activation_format& format, index_range rows, void* scratch,
                                          std::size_t scratch_bytes, const activations_view& out) noexcept {
    return quantize_rows(kernels, row_source::plain(x), layout, format, rows, scratch, scratch_bytes, out);
}

}  // namespace aq
