/// \file
/// A quantized weight matrix before packing: one byte a code, in the order in which groups share scales. What
/// round-to-nearest makes here, and what any better rounding (GPTQ) makes too. Packing only moves it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/quant/calibrate.hpp"
#include "agilequant/quant/uniform.hpp"

namespace aq {

/// How weights are quantized.
struct weight_format {
    int bits = 4;  ///< 2..8
    bool is_asymmetric = true;
    std::size_t group = 128;  ///< input channels that share a scale; 0: per output channel
    range_search range = range_search::min_max;
};

/// Codes [n,k] with scales and zero points [n,groups]; column i is the channel that stands i-th along the depth.
struct coded_matrix {
    weight_format format;
    std::size_t n = 0, k = 0, groups = 0;
    aligned_buffer<std::uint8_t> codes;  ///< unsigned; symmetric codes are stored with zero = 2^(bits - 1)
    aligned_buffer<float> scales;
    aligned_buffer<std::uint8_t> zeros;

    [[nodiscard]] status reset(weight_format f, std::size_t rows, std::size_t cols) noexcept {
        if (f.bits < 2 || f.bits > 8) return status::unsupported_format;
        format = f;
        n = rows;
        k = cols;
        groups = cols == 0 ? 0 : group_count(cols, f.group);
        AQ_TRY(codes.reset(n * k));
        AQ_TRY(scales.reset(n * groups));
        return zeros.reset(n * groups);
    }

    /// The quantized value at row r, column c.
    [[nodiscard]] float value(std::size_t r, std::size_t c) const noexcept {
        const std::size_t g = r * groups + (format.group == 0 ? 0 : c / format.group);
        return decode(codes[r * k + c], affine{scales[g], zeros[g]});
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

/// Round-to-nearest: w [n,k] with the columns in the order of `columns` [k] (null: as they are) -> out.
/// bad_stride, null_pointer, unsupported_format, out_of_memory.
[[nodiscard]] inline status quantize_weights(matrix_view<const float> w, const weight_format& format,
                                             const std::uint32_t* columns, coded_matrix& out) noexcept {
    AQ_TRY(check(w));
    AQ_TRY(out.reset(format, w.rows, w.cols));
    aligned_buffer<float> row;
    AQ_TRY(row.reset(w.cols));
    const std::size_t group = format.group == 0 ? w.cols : format.group;
    for (std::size_t r = 0; r < w.rows; ++r) {
        for (std::size_t c = 0; c < w.cols; ++c) row[c] = w.row(r)[columns == nullptr ? c : columns[c]];
        for (std::size_t g = 0; g < out.groups; ++g) {
            const std::size_t first = g * group, count = (w.cols - first < group ? w.cols - first : group);
            const affine a = fit_weights(row.data() + first, count, format);
            out.scales[r * out.groups + g] = a.scale;
            out.zeros[r * out.groups + g] = static_cast<std::uint8_t>(a.zero);
            for (std::size_t c = first; c < first + count; ++c) {
                out.codes[r * out.k + c] =
                    static_cast<std::uint8_t>(encode(row[c], 1.0F / a.scale, a.zero, stored_codes(format)));
            }
        }
    }
    return status::ok;
}

}  // namespace aq
