/// \file
/// A quantized weight matrix before packing: one byte a code, in the order in which groups share scales. What
/// round-to-nearest makes here, and what any better rounding (GPTQ) makes too. Packing only moves it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/quant/calibrate.hpp"
#include "agilequant/quant/two_level.hpp"
#include "agilequant/quant/uniform.hpp"

namespace aq {

/// How weights are quantized.
struct weight_format {
    int bits = 4;  ///< 2..8
    bool is_asymmetric = true;
    std::size_t group = 128;  ///< input channels that share a scale; 0: per output channel
    range_search range = range_search::min_max;
    group_scales scales = group_scales::floats;
};

/// Codes [n,k] with zero points [n,groups] and scales [n,groups], or, two-level, scales [n] and multipliers [n,groups], where
/// |multiplier (code - zero)| <= 127 for every code; whoever fills it in by hand sees to that. Column i is the channel that stands i-th along the depth.
struct coded_matrix {
    weight_format format;
    std::size_t n = 0, k = 0, groups = 0;
    aligned_buffer<std::uint8_t> codes;  ///< unsigned; symmetric codes are stored with zero = 2^(bits - 1)
    aligned_buffer<float> scales;
    aligned_buffer<std::uint8_t> zeros;
    aligned_buffer<std::uint8_t> multipliers;  ///< 1..127, where the format has integer group scales

    /// Room for `rows` by `cols`, all zero. unsupported_format: not 2..8 bits, or two-level with 8; out_of_memory.
    [[nodiscard]] status reset(weight_format f, std::size_t rows, std::size_t cols) noexcept {
        if (f.bits < 2 || f.bits > (f.scales == group_scales::integers ? 7 : 8)) return status::unsupported_format;
        format = f;
        n = rows;
        k = cols;
        groups = cols == 0 ? 0 : group_count(cols, f.group);
        AQ_TRY(codes.reset(n * k));
        AQ_TRY(multipliers.reset(is_two_level() ? n * groups : 0));
        AQ_TRY(scales.reset(is_two_level() ? n : n * groups));
        return zeros.reset(n * groups);
    }

    [[nodiscard]] bool is_two_level() const noexcept { return format.scales == group_scales::integers; }

    /// The quantized value at row r, column c.
    [[nodiscard]] float value(std::size_t r, std::size_t c) const noexcept {
        const std::size_t g = r * groups + (format.group == 0 ? 0 : c / format.group);
        if (!is_two_level()) return decode(codes[r * k + c], affine{scales[g], zeros[g]});
        return scales[r] * static_cast<float>(multipliers[g] * (codes[r * k + c] - zeros[g]));
    }
};

/// Scale and zero point of one slice of a row, in terms of the stored unsigned codes.
[[nodiscard]] inline affine fit_weights(const float* w, std::size_t count, const weight_format& f) noexcept {
    const code_range codes = f.is_asymmetric ? unsigned_codes(f.bits) : signed_codes(f.bits);
    affine a = fit(w, count, codes, f.is_asymmetric, f.range);
    if (!f.is_asymmetric) a.zero = 1 << (f.bits - 1);
    return a;
}

/// The codes that a weight of this format may take.
[[nodiscard]] inline code_range stored_codes(const weight_format& f) noexcept {
    return {f.is_asymmetric ? 0 : 1, unsigned_codes(f.bits).high};
}

/// Scales, zero points and multipliers of row r of `out` from the values x [out.k] of its columns; also left in own [out.groups].
inline void fit_row(const float* x, std::size_t r, coded_matrix& out, affine* own) noexcept {
    const weight_format& f = out.format;
    const std::size_t group = f.group == 0 || f.group > out.k ? out.k : f.group, at = r * out.groups;
    for (std::size_t g = 0; g < out.groups; ++g)
        own[g] = fit_weights(x + g * group, out.k - g * group < group ? out.k - g * group : group, f);
    if (out.is_two_level() && out.groups != 0) {
        out.scales[r] = fit_two_level(x, out.k, group, own, stored_codes(f), f.is_asymmetric, out.multipliers.data() + at,
                                      out.zeros.data() + at);
    }
    for (std::size_t g = 0; g < out.groups; ++g) {
        if (out.is_two_level()) {
            own[g] = {out.scales[r] * static_cast<float>(out.multipliers[at + g]), out.zeros[at + g]};
        } else {
            out.scales[at + g] = own[g].scale;
            out.zeros[at + g] = static_cast<std::uint8_t>(own[g].zero);
        }
    }
}

/// Round-to-nearest: w [n,k] with the columns in the order of `columns` [k] (null: as they are) -> out.
/// bad_stride, null_pointer, unsupported_format, out_of_memory.
[[nodiscard]] inline status quantize_weights(matrix_view<const float> w, const weight_format& format,
                                             const std::uint32_t* columns, coded_matrix& out) noexcept {
    AQ_TRY(check(w));
    AQ_TRY(out.reset(format, w.rows, w.cols));
    aligned_buffer<float> row;
    AQ_TRY(row.reset(w.cols));
    aligned_buffer<affine> own;
    AQ_TRY(own.reset(out.groups));
    const std::size_t group = format.group == 0 || format.group > w.cols ? w.cols : format.group;
    for (std::size_t r = 0; r < w.rows; ++r) {
        for (std::size_t c = 0; c < w.cols; ++c) row[c] = w.row(r)[columns == nullptr ? c : columns[c]];
        fit_row(row.data(), r, out, own.data());
        for (std::size_t c = 0; c < w.cols; ++c) {
            const affine a = own[c / group];
            out.codes[r * out.k + c] = static_cast<std::uint8_t>(encode(row[c], 1.0F / a.scale, a.zero, stored_codes(format)));
        }
    }
    return status::ok;
}

}  // namespace aq
