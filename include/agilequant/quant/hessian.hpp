/// \file
/// H = sum of x x^T over a stream of activations: what tells a better rounding of weights (quant/gptq.hpp) which errors matter, since
/// a linear layer's squared output error is d H d^T for a row's error d = w - w^. GPTQ (Frantar et al. 2022) has 2 x x^T: the factor
/// changes no code, because damping is a share of H, and is left out.
///
/// Sums are in double and added row by row. A product of two floats is exact there, so there is nothing that a compiler could fuse,
/// and any cut of the same rows into calls gives the same bits.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/core/exact_float.hpp"
#include "agilequant/core/matrix_view.hpp"
#include "agilequant/quant/coded_matrix.hpp"
#include "agilequant/quant/uniform.hpp"

namespace aq {

class hessian {
public:
    /// Forgets everything and prepares for rows of `channels`; memory of an equal size is kept, so that one object goes from layer to
    /// layer. Memory: channels * (channels + 1) / 2 doubles. out_of_memory leaves it without channels.
    [[nodiscard]] status reset(std::size_t channels) noexcept {
        channels_ = rows_ = 0;
        if (channels > std::size_t{0xFFFFFFFFU}) return status::out_of_memory;
        const std::size_t count = channels * (channels + 1) / 2;
        if (count == sums_.size()) std::fill(sums_.begin(), sums_.end(), 0.0);
        else AQ_TRY(sums_.reset(count));
        channels_ = channels;
        return status::ok;
    }

    /// Takes in x [tokens,channels]. NaN counts as 0, magnitudes above 2^126 as 2^126. bad_shape, bad_stride, null_pointer.
    [[nodiscard]] status add(matrix_view<const float> x) noexcept { return add(x, 0, channels_); }

    /// The same for the rows first .. last of H only. Threads may each take another range for the same x; together the ranges cover
    /// 0 .. channels, once. The bits are those of one call. Row i has channels - i sums: equal ranges are not equal work.
    /// bad_shape: also a range that is none.
    [[nodiscard]] status add(matrix_view<const float> x, std::size_t first, std::size_t last) noexcept {
        AQ_TRY(check(x));
        if (x.cols != channels_ || first > last || last > channels_) return status::bad_shape;
        for (std::size_t r = 0; r < x.rows; r += rows_at_once)
            add_rows(x.rows_from(r, std::min(rows_at_once, x.rows - r)), first, last);
        if (first == 0 && (last != 0 || channels_ == 0)) rows_ += x.rows;  // the one range with row 0 counts
        return status::ok;
    }

    [[nodiscard]] std::size_t channels() const noexcept { return channels_; }
    [[nodiscard]] std::size_t rows() const noexcept { return rows_; }  ///< of activations, that were added

    /// H [channels,channels] at i, j.
    [[nodiscard]] double operator()(std::size_t i, std::size_t j) const noexcept {
        return i < j ? sums_[start(i) + j - i] : sums_[start(j) + i - j];
    }

    /// d H d^T for d [channels], in double.
    [[nodiscard]] double form(const double* d) const noexcept {
        double total = 0.0;
        for (std::size_t i = 0; i < channels_; ++i) {
            const double* const h = sums_.data() + start(i);
            double right = 0.0;
            for (std::size_t j = i + 1; j < channels_; ++j) right += rounded(h[j - i] * d[j]);
            total += rounded(d[i] * (rounded(h[0] * d[i]) + 2.0 * right));
        }
        return total;
    }

    static constexpr std::size_t form_count = 8;  ///< of vectors that forms() takes

    /// form() of form_count vectors side by side, d [channels,form_count], -> out [form_count]: the same bits, several times as fast, since
    /// no sum waits for another one's addition.
    void forms(const double* d, double* out) const noexcept {
        double total[form_count] = {};
        for (std::size_t i = 0; i < channels_; ++i) {
            const double* const h = sums_.data() + start(i);
            double right[form_count] = {};
            for (std::size_t j = i + 1; j < channels_; ++j) {
                const double* const v = d + j * form_count;
                AQ_UNROLL for (std::size_t r = 0; r < form_count; ++r) right[r] += rounded(h[j - i] * v[r]);
            }
            const double* const v = d + i * form_count;
            for (std::size_t r = 0; r < form_count; ++r) total[r] += rounded(v[r] * (rounded(h[0] * v[r]) + 2.0 * right[r]));
        }
        std::copy(total, total + form_count, out);
    }

private:
    static constexpr std::size_t rows_at_once = 16, tile = 64;

    /// Where row i of the upper triangle begins, with its diagonal.
    [[nodiscard]] std::size_t start(std::size_t i) const noexcept { return i * (2 * channels_ + 1 - i) / 2; }

    /// At most rows_at_once rows of x, one after the other, a tile of columns at a time so that x is converted once.
    void add_rows(matrix_view<const float> x, std::size_t first, std::size_t last) noexcept {
        double values[rows_at_once][tile];
        for (std::size_t left = first; left < channels_; left += tile) {
            const std::size_t right = std::min(left + tile, channels_);
            for (std::size_t r = 0; r < x.rows; ++r)
                for (std::size_t j = left; j < right; ++j) values[r][j - left] = static_cast<double>(made_finite(x.row(r)[j]));
            for (std::size_t i = first; i < std::min(last, right); ++i) {
                const std::size_t begin = std::max(i, left);
                double* const sums = sums_.data() + start(i) + (begin - i);
                for (std::size_t r = 0; r < x.rows; ++r) {
                    const double v = static_cast<double>(made_finite(x.row(r)[i]));
                    if (v == 0.0) continue;  // adds nothing: half of what comes from a ReLU
                    const double* const y = values[r] + (begin - left);
                    for (std::size_t j = 0; j < right - begin; ++j) sums[j] += v * y[j];
                }
            }
        }
    }

    std::size_t channels_ = 0, rows_ = 0;
    aligned_buffer<double> sums_;  // the upper triangle, row by row
};

/// Squared error of a layer's output over the rows that a Hessian has seen, and what the output itself has.
struct output_error {
    double error = 0.0;   ///< sum over rows of (w - w^) H (w - w^)^T
    double energy = 0.0;  ///< sum over rows of w H w^T
};

/// Of w [n,k] and its codes, whose column i is channel columns[i] (null: i). Sums in double. bad_stride, null_pointer; bad_shape: sizes
/// that differ; out_of_memory.
[[nodiscard]] inline status measure_output(const hessian& h, matrix_view<const float> w, const coded_matrix& coded,
                                           const std::uint32_t* columns, output_error& result) noexcept {
    AQ_TRY(check(w));
    if (w.cols != h.channels() || coded.n != w.rows || coded.k != w.cols) return status::bad_shape;
    aligned_buffer<double> original, difference;
    AQ_TRY(original.reset(w.cols));
    AQ_TRY(difference.reset(w.cols));
    output_error sum;
    for (std::size_t r = 0; r < w.rows; ++r) {
        for (std::size_t i = 0; i < w.cols; ++i) {
            const std::size_t channel = columns == nullptr ? i : columns[i];
            original[channel] = static_cast<double>(made_finite(w.row(r)[channel]));
            difference[channel] = original[channel] - static_cast<double>(coded.value(r, i));
        }
        sum.error += h.form(difference.data());
        sum.energy += h.form(original.data());
    }
    result = sum;
    return status::ok;
}

}  // namespace aq
