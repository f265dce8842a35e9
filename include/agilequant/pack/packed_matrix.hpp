/// \file
/// Packed low-bit weights: codes in tile order, scales and zero points beside them in the same panels.
///
/// `packed_weights` is the run-time view that kernels take; `packed_matrix<Quantizer, Tile>` owns one and carries its format
/// as a type, so that the wrong kernel does not compile; `packed_view<Quantizer, Tile>` borrows.
///
///     codes    [panels][packed * NR * storage_bits / 8]   see pack/tile.hpp
///     scales   [panels][groups][NR]   float; 0 for rows beyond n. With multipliers: [panels][NR]
///     multipliers [panels][groups][NR] 1..127, where group scales are two-level (quant/two_level.hpp): a group's scale is scale * multiplier
///     zeros    [panels][groups][NR]   codes; null where the quantizer is symmetric (zero = 2^(bits-1) everywhere)
///     offsets  [panels][NR]           float: sum over groups of scale * sum of 2^exponent (code - zero), what a zero point of
///                                     the activations has to be multiplied by
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "agilequant/pack/k_layout.hpp"
#include "agilequant/pack/tile.hpp"
#include "agilequant/quant/coded_matrix.hpp"

namespace aq {

/// A borrowed packed matrix [n,k] of any format.
struct packed_weights {
    int bits = 0;
    tile_shape tile;
    std::size_t n = 0;
    k_layout_view layout;
    const std::uint8_t* codes = nullptr;
    const float* scales = nullptr;
    const std::uint8_t* zeros = nullptr;
    const std::uint8_t* multipliers = nullptr;
    const float* offsets = nullptr;

    [[nodiscard]] std::size_t panels() const noexcept { return tile.nr == 0 ? 0 : (n + tile.nr - 1) / tile.nr; }
    [[nodiscard]] std::size_t panel_bytes() const noexcept {
        return layout.packed * static_cast<std::size_t>(tile.nr * storage_bits(bits)) / 8;
    }
    /// What the codes of one group of a row stand for: scale * (multiplier * (code - zero)).
    struct group_affine {
        float scale;
        int multiplier, zero;
    };
    [[nodiscard]] group_affine affine_of(std::size_t row, std::size_t group) const noexcept {
        const std::size_t panel = row / tile.nr, lane = row % tile.nr, at = (panel * layout.groups + group) * tile.nr + lane;
        const int zero = zeros != nullptr ? zeros[at] : symmetric_zero();
        if (multipliers == nullptr) return {scales[at], 1, zero};
        return {scales[panel * tile.nr + lane], multipliers[at], zero};
    }
    /// The zero point of a symmetric matrix.
    [[nodiscard]] int symmetric_zero() const noexcept { return 1 << (bits - 1); }
    /// What the matrix occupies.
    [[nodiscard]] std::size_t bytes() const noexcept {
        const std::size_t rows = panels() * tile.nr;
        const std::size_t scale_bytes = rows * sizeof(float) * (multipliers == nullptr ? layout.groups : 1);
        const std::size_t bytes_of_groups = (zeros != nullptr ? 1U : 0U) + (multipliers != nullptr ? 1U : 0U);
        return panels() * panel_bytes() + scale_bytes + rows * layout.groups * bytes_of_groups + rows * sizeof(float);
    }
};

/// Owns the memory of a packed matrix whose format is known at run time. Move-only.
template <class Tile = portable_tile>
class packed_storage {
public:
    /// Lays out k channels and packs `w` [n,k], whose columns are in the layout's order. See pack() below for a whole matrix.
    /// bad_shape: the layout is for another depth or group; depth_over_limit: 32-bit sums of 8-bit activations could overflow;
    /// bad_argument: a code or zero point beyond the width, or with multipliers m (code - zero) beyond an int8, as kernels rely on.
    [[nodiscard]] status assign(const coded_matrix& w, k_layout&& layout) noexcept {
        const k_layout_view l = layout.view();
        if (l.k != w.k || l.group != (w.format.group == 0 || w.format.group > w.k ? w.k : w.format.group))
            return status::bad_shape;
        if (static_cast<std::int64_t>(l.depth) > max_k(w.format.bits, 8)) return status::depth_over_limit;
        if (w.is_two_level() && static_cast<std::int64_t>(l.total_depth) > max_two_level_k(8)) return status::depth_over_limit;
        layout_ = std::move(layout);
        n_ = w.n;
        bits_ = w.format.bits;
        const std::size_t panels = Tile::panels(n_), rows = panels * Tile::nr;
        AQ_TRY(codes_.reset(panels * Tile::panel_bytes(l.packed, bits_)));
        AQ_TRY(scales_.reset(w.is_two_level() ? rows : rows * l.groups));
        AQ_TRY(multipliers_.reset(w.is_two_level() ? rows * l.groups : 0));
        AQ_TRY(zeros_.reset(w.format.is_asymmetric ? rows * l.groups : 0));
        AQ_TRY(offsets_.reset(rows));
        bool is_legal = true;
        for (std::size_t r = 0; r < n_; ++r) is_legal = pack_row(w, l, r) && is_legal;
        if (!is_legal) *this = packed_storage();
        return is_legal ? status::ok : status::bad_argument;
    }

    [[nodiscard]] packed_weights view() const noexcept {
        packed_weights v;
        v.bits = bits_;
        v.tile = Tile::shape;
        v.n = n_;
        v.layout = layout_.view();
        v.codes = codes_.data();
        v.scales = scales_.data();
        v.zeros = zeros_.size() == 0 ? nullptr : zeros_.data();
        v.multipliers = multipliers_.size() == 0 ? nullptr : multipliers_.data();
        v.offsets = offsets_.data();
        return v;
    }

private:
    /// Whether all codes of the row are legal.
    [[nodiscard]] bool pack_row(const coded_matrix& w, const k_layout_view& l, std::size_t r) noexcept {
        const int largest_code = weight_codes(bits_).high;
        bool is_legal = true;
        const std::size_t panel = r / Tile::nr * l.groups * Tile::nr + r % Tile::nr;
        std::size_t g = 0, column = 0;
        float offset = 0.0F;
        std::int32_t sum = 0, total = 0;
        for (std::size_t i = 0; i < l.run_count; ++i) {
            const k_run run = l.runs[i];
            const int zero = w.zeros[r * w.groups + g];
            const int multiplier = w.is_two_level() ? w.multipliers[r * w.groups + g] : 1;
            const int most =
                w.is_two_level() && multiplier != 0 ? largest_scaled_code / multiplier : largest_code;  // of |code - zero|
            is_legal = is_legal && zero <= largest_code && multiplier != 0;
            for (std::size_t p = run.begin; p < run.end && l.channel(p) != padding; ++p, ++column) {
                const int code = w.codes[r * w.k + column];
                is_legal = is_legal && code <= largest_code && code - zero <= most && zero - code <= most;
                pack_code(codes_.data(), Tile::at(r, p, l.packed, bits_), code);
                sum += (code - zero) * (1 << run.exponent);
            }
            if (!run.ends_group) continue;
            if (zeros_.size() != 0) zeros_[panel + g * Tile::nr] = static_cast<std::uint8_t>(zero);
            if (w.is_two_level()) {
                multipliers_[panel + g * Tile::nr] = w.multipliers[r * w.groups + g];
                total += w.multipliers[r * w.groups + g] * sum;
            } else {
                const float scale = w.scales[r * w.groups + g];
                scales_[panel + g * Tile::nr] = scale;
                offset = multiply_add(scale, static_cast<float>(sum), offset);
            }
            sum = 0;
            ++g;
        }
        if (w.is_two_level()) {
            scales_[r] = w.scales[r];
            offset = rounded(w.scales[r] * static_cast<float>(total));
        }
        offsets_[r] = offset;
        return is_legal;
    }

    std::size_t n_ = 0;
    int bits_ = 0;
    k_layout layout_;
    aligned_buffer<std::uint8_t> codes_;
    aligned_buffer<float> scales_;
    aligned_buffer<std::uint8_t> zeros_, multipliers_;
    aligned_buffer<float> offsets_;
};

/// Quantizes w [n,k] by round-to-nearest and packs it. `exponents` [k] are TRIP's, of the activations that will meet it, or null.
/// bad_stride, null_pointer, bad_argument, unsupported_format, depth_over_limit, out_of_memory.
template <class Tile>
[[nodiscard]] status pack(matrix_view<const float> w, const weight_format& format, const std::uint8_t* exponents,
                          packed_storage<Tile>& out) noexcept {
    k_layout layout;
    AQ_TRY(layout.make(w.cols, format.group, exponents));
    aligned_buffer<std::uint32_t> columns;
    AQ_TRY(columns.reset(w.cols));
    depth_order(layout.view(), columns.data());
    coded_matrix coded;
    AQ_TRY(quantize_weights(w, format, columns.data(), coded));
    return out.assign(coded, std::move(layout));
}

/// The run-time format of a quantizer type.
template <class Quantizer>
[[nodiscard]] constexpr weight_format format_of() noexcept {
    using granularity = typename Quantizer::granularity;
    static_assert(is_group<granularity>::value || std::is_same_v<granularity, per_channel>,
                  "aq: weights are quantized per_channel, per group<N> or per two_level_group<N>.");
    weight_format f;
    f.bits = Quantizer::width;
    f.is_asymmetric = Quantizer::is_asymmetric;
    if constexpr (is_group<granularity>::value) {
        static_assert(granularity::size != dynamic, "aq: a group that is known at run time only belongs in a weight_format.");
        f.group = granularity::size;
        if (is_two_level<granularity>::value) f.scales = group_scales::integers;
    } else {
        f.group = 0;
    }
    return f;
}

/// A borrowed packed matrix whose format is a type.
template <class Quantizer, class Tile = portable_tile>
struct packed_view {
    packed_weights weights;
};

/// Owns a packed matrix whose format is a type: `packed_matrix<uniform<4, asymmetric, group<128>>>`. Move-only.
template <class Quantizer, class Tile = portable_tile>
class packed_matrix {
public:
    /// Quantizes and packs w [n,k]; see aq::pack.
    [[nodiscard]] status assign(matrix_view<const float> w, const std::uint8_t* exponents = nullptr) noexcept {
        return pack(w, format_of<Quantizer>(), exponents, storage_);
    }
    [[nodiscard]] packed_view<Quantizer, Tile> view() const noexcept { return {storage_.view()}; }

private:
    packed_storage<Tile> storage_;
};

}  // namespace aq
