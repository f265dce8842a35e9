/// \file
/// Float weights in panels of NR output channels, [panels][k][NR]: the tile of the float kernels, and what a packed panel is
/// unpacked to where the activations stay float.
#pragma once

#include "agilequant/pack/packed_matrix.hpp"

namespace aq {

inline constexpr std::size_t panel_rows = static_cast<std::size_t>(portable_tile::nr);

/// Owns float weights [n,k]. Move-only.
class float_panels {
public:
    /// bad_stride, null_pointer, out_of_memory.
    [[nodiscard]] status assign(matrix_view<const float> w) noexcept {
        AQ_TRY(check(w));
        n_ = w.rows;
        k_ = w.cols;
        AQ_TRY(data_.reset(portable_tile::panels(n_) * panel_rows * k_));
        for (std::size_t r = 0; r < n_; ++r) {
            float* const panel = data_.data() + r / panel_rows * panel_rows * k_ + r % panel_rows;
            for (std::size_t c = 0; c < k_; ++c) panel[c * panel_rows] = w.row(r)[c];
        }
        return status::ok;
    }
    [[nodiscard]] const float* panel(std::size_t p) const noexcept { return data_.data() + p * panel_rows * k_; }
    [[nodiscard]] std::size_t n() const noexcept { return n_; }
    [[nodiscard]] std::size_t k() const noexcept { return k_; }
    [[nodiscard]] std::size_t bytes() const noexcept { return n_ * k_ * sizeof(float); }

private:
    std::size_t n_ = 0, k_ = 0;
    aligned_buffer<float> data_;
};

/// Unpacks panel p of `w` to `out` [k][NR], in the order of channels; rows beyond n become 0.
/// Each value is scale * (multiplier * (code - zero)), rounded once.
inline void unpack_panel(const packed_weights& w, std::size_t p, float* AQ_RESTRICT out) noexcept {
    const k_layout_view& layout = w.layout;
    const std::uint8_t* const codes = w.codes + p * w.panel_bytes();
    const unsigned mask = (1U << storage_bits(w.bits)) - 1U;
    std::size_t group = 0;
    for (std::size_t i = 0; i < layout.run_count; ++i) {
        const k_run run = layout.runs[i];
        for (std::size_t position = run.begin; position < run.end && layout.channel(position) != padding; ++position) {
            const code_place place = portable_tile::at(0, position, layout.packed, w.bits);  // rows follow at steps of KR bytes
            float* const row = out + layout.channel(position) * panel_rows;
            for (std::size_t r = 0; r < panel_rows; ++r) {
                const unsigned code = static_cast<unsigned>(codes[place.byte + r * portable_tile::kr]) >> place.shift & mask;
                const packed_weights::group_affine a = w.affine_of(p * panel_rows + r, group);
                row[r] = a.scale * static_cast<float>(a.multiplier * (static_cast<int>(code) - a.zero));
            }
        }
        group += run.ends_group ? 1 : 0;
    }
}

}  // namespace aq
