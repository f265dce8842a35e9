/// \file
/// Weights for the activations that they will meet: where x becomes x^ on its way into a layer, other weights than w may make the output
/// w x out of it. The least squares solution, before any weight is rounded:
///
///     minimize sum |w x - w' x^|^2 + d |w' - w|^2   =>   w' = w + w D H'^-1,   D = sum (x - x^) x^^T,   H' = sum x^ x^^T + d I
///
/// What GPTQ (quant/gptq.hpp) then rounds, with the H of x^, is w'. Since |w x - q x^|^2 = |w' x^ - q x^|^2 + what no q can change (but for
/// the damping d), it rounds for the output that is wanted. Two things are made up for: rounding noise, which adds to x^ what says nothing
/// of x, and clipped values, whose errors have a mean.
/// After GPTAQ (Li et al. 2025), which mends each column as GPTQ reaches it; in one step, before, it is ours.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/core/exact_float.hpp"
#include "agilequant/core/matrix_view.hpp"
#include "agilequant/quant/gptq.hpp"
#include "agilequant/quant/uniform.hpp"

namespace aq {

/// D = sum of (x - x^) x^^T over a stream of activations, in double.
class coding_loss {
public:
    /// Forgets everything and prepares for rows of `channels`. Memory: channels^2 doubles. out_of_memory leaves it without channels.
    [[nodiscard]] status reset(std::size_t channels) noexcept {
        channels_ = 0;
        if (channels > std::size_t{0xFFFFFFFFU}) return status::out_of_memory;
        AQ_TRY(sums_.reset(channels * channels));
        channels_ = channels;
        return status::ok;
    }

    /// Takes in x and what its codes stand for, both [tokens,channels], row by row: any cut into calls gives the same bits. NaN counts as 0,
    /// magnitudes above 2^126 as 2^126. bad_shape, bad_stride, null_pointer.
    [[nodiscard]] status add(matrix_view<const float> x, matrix_view<const float> coded) noexcept {
        return add(x, coded, 0, channels_);
    }

    /// The same for the rows first .. last of D only. Threads may each take another range for the same x; together the ranges cover
    /// 0 .. channels, once. The bits are those of one call. bad_shape: also a range that is none.
    [[nodiscard]] status add(matrix_view<const float> x, matrix_view<const float> coded, std::size_t first,
                             std::size_t last) noexcept {
        AQ_TRY(check(x));
        AQ_TRY(check(coded));
        if (x.cols != channels_ || coded.shape() != x.shape() || first > last || last > channels_) return status::bad_shape;
        for (std::size_t r = 0; r < x.rows; r += rows_at_once) {
            const std::size_t rows = std::min(rows_at_once, x.rows - r);
            add_rows(x.rows_from(r, rows), coded.rows_from(r, rows), first, last);
        }
        return status::ok;
    }

    [[nodiscard]] std::size_t channels() const noexcept { return channels_; }
    /// Row i of D [channels].
    [[nodiscard]] const double* row(std::size_t i) const noexcept { return sums_.data() + i * channels_; }

private:
    static constexpr std::size_t rows_at_once = 16, tile = 64, lanes = 8;

    /// At most rows_at_once rows, a tile of columns at a time so that x^ is converted once, and each sum is fetched once for all rows.
    void add_rows(matrix_view<const float> x, matrix_view<const float> coded, std::size_t first, std::size_t last) noexcept {
        double values[rows_at_once][tile], losses[rows_at_once], sums[lanes];
        for (std::size_t left = 0; left < channels_; left += tile) {
            const std::size_t width = std::min(tile, channels_ - left);
            for (std::size_t r = 0; r < x.rows; ++r) {
                for (std::size_t j = 0; j < tile; ++j)
                    values[r][j] = j < width ? static_cast<double>(made_finite(coded.row(r)[left + j])) : 0.0;
            }
            for (std::size_t i = first; i < last; ++i) {
                for (std::size_t r = 0; r < x.rows; ++r)
                    losses[r] = static_cast<double>(made_finite(x.row(r)[i])) - static_cast<double>(made_finite(coded.row(r)[i]));
                for (std::size_t j = 0; j < width; j += lanes) {
                    double* const all = sums_.data() + i * channels_ + left + j;
                    const std::size_t count = std::min(lanes, width - j);
                    std::copy_n(all, count, sums);
                    std::fill(sums + count, sums + lanes, 0.0);
                    add_products(losses, &values[0][j], x.rows, sums);
                    std::copy_n(sums, count, all);
                }
            }
        }
    }

    /// sums [lanes] += losses[r] times the lanes of row r, for all rows in their order. In pairs: what rounded() sees is no vector that the
    /// compiler could make itself.
    static void add_products(const double* losses, const double* values, std::size_t rows, double* sums) noexcept {
        typedef double pair __attribute__((vector_size(16)));
        pair mine[lanes / 2];
        std::memcpy(mine, sums, sizeof mine);
        for (std::size_t r = 0; r < rows; ++r) {
            pair v[lanes / 2];
            std::memcpy(v, values + r * tile, sizeof v);
            AQ_UNROLL
            for (std::size_t l = 0; l < lanes / 2; ++l) mine[l] += rounded(v[l] * losses[r]);
        }
        std::memcpy(sums, mine, sizeof mine);
    }

    std::size_t channels_ = 0;
    aligned_buffer<double> sums_;
};

/// w [n,k] -> w' in place, in double until the end; columns are channels, whatever order the plan visits them in. `plan`: of the H of the
/// coded activations whose D `loss` is; its damping is that of H'. Channels that are dead to the plan keep their weights. Rows know nothing
/// of each other: threads may each take some. Bits depend on the machine only as far as the plan's factorization does.
/// bad_shape: sizes that differ; bad_stride, null_pointer, out_of_memory.
[[nodiscard]] inline status refit_weights(const coding_loss& loss, const gptq_plan& plan, matrix_view<float> w) noexcept {
    AQ_TRY(check(w));
    const std::size_t k = plan.channels();
    if (w.cols != k || loss.channels() != k) return status::bad_shape;
    aligned_buffer<double> lost, change;  // w D by turn; first by channel, then times H'^-1 by turn
    AQ_TRY(lost.reset(k));
    AQ_TRY(change.reset(k));
    const auto channel_at = [&](std::size_t turn) { return plan.channel(plan.position(turn)); };
    for (std::size_t r = 0; r < w.rows; ++r) {
        float* const row = w.row(r);
        std::fill(change.begin(), change.end(), 0.0);
        for (std::size_t i = 0; i < k; ++i) {
            const double v = static_cast<double>(made_finite(row[i]));
            for (std::size_t j = 0; j < k; ++j) change[j] += rounded(v * loss.row(i)[j]);
        }
        for (std::size_t t = 0; t < k; ++t) lost[t] = change[channel_at(t)];  // 0 where dead: D is
        std::fill(change.begin(), change.end(), 0.0);
        for (std::size_t t = 0; t < k; ++t) {  // H'^-1 = U^T U, a row of U at a time
            const double* const u = plan.factor(t);
            double sum = 0.0;
            for (std::size_t j = t; j < k; ++j) sum += rounded(u[j] * lost[j]);
            for (std::size_t j = t; j < k; ++j) change[j] += rounded(sum * u[j]);
        }
        for (std::size_t t = 0; t < k && !plan.is_dead(t); ++t) {  // dead ones come last, with noise of the factor
            float& v = row[channel_at(t)];
            v = to_finite_float(static_cast<double>(made_finite(v)) + change[t]);
        }
    }
    return status::ok;
}

}  // namespace aq
