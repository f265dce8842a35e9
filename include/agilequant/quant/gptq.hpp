/// \file
/// GPTQ: weights are rounded one column after the other, and what a column's rounding does to the layer's output is made up for by the
/// columns that are still to come. Frantar et al. 2022 (arXiv 2210.17323), algorithm 1; the order of the columns by falling diagonal of
/// H, with groups that stay in place, as their program has it since. Not here: H (quant/hessian.hpp), and linear algebra: the caller
/// brings a factorization.
///
///     H' = H + damping mean(diag H) I,   U^T U = H'^-1,  U upper triangular, in the order of visiting
///     for each column i:   w^_i = value(code(w_i)),   e = (w_i - w^_i) / U_ii,   w_j -= e U_ij for every j > i
///
/// All in double, but for w_i as the quantizer takes it, every product rounded before it is subtracted, and the columns of a block
/// subtracted one after the other from those behind it: neither the block's size, nor how rows are cut into calls, changes a bit. Codes
/// depend on the machine only as far as the caller's factorization does.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/quant/coded_matrix.hpp"
#include "agilequant/quant/hessian.hpp"

namespace aq {

/// When the scale of a group is fitted.
enum class gptq_scales {
    original,  ///< before any column is rounded, to the weights as they are
    current,  ///< when the first of its columns is reached, to what the weights have become; two-level scales are always fitted before
};

struct gptq_settings {
    double damping = 0.01;         ///< share of the mean diagonal of H, over the channels that were ever not zero; >= 0
    bool activation_order = true;  ///< columns by falling diagonal of H; else as they are
    gptq_scales scales = gptq_scales::current;
    std::size_t block = 128;  ///< columns between updates of all that follow: a matter of speed only
};

/// The linear algebra that the caller brings. `factor` gets a symmetric h [k,k] and leaves in it, on and above the diagonal, the upper
/// triangular U with U^T U = h^-1 and a positive diagonal; what is below is not read. not_positive_definite where there is none.
struct inverse_cholesky {
    void* self = nullptr;
    status (*factor)(void* self, matrix_view<double> h) = nullptr;
};

/// What all weights behind one site share: the order of their columns and the factor. Memory: k * k doubles.
class gptq_plan {
public:
    /// `columns` [k]: which channel stands i-th along the depth, as quantize_weights() takes it; null: channel i.
    /// bad_argument: damping or block outside its limits, `columns` is no permutation, or no activations were added; null_pointer: no
    /// factorization; not_positive_definite, also where the factor is not finite: more damping helps; out_of_memory. After a
    /// failure the plan is for 0 channels.
    [[nodiscard]] status make(const hessian& h, const gptq_settings& settings, const inverse_cholesky& cholesky,
                              const std::uint32_t* columns = nullptr) noexcept {
        const status made = try_make(h, settings, cholesky, columns);
        if (made != status::ok) *this = gptq_plan();
        return made;
    }

    [[nodiscard]] std::size_t channels() const noexcept { return order_.size(); }
    [[nodiscard]] const gptq_settings& settings() const noexcept { return settings_; }
    /// Where along the depth the column stands that is visited i-th, and when the one at position p is visited.
    [[nodiscard]] std::size_t position(std::size_t i) const noexcept { return order_[i]; }
    [[nodiscard]] std::size_t turn(std::size_t p) const noexcept { return turns_[p]; }
    [[nodiscard]] std::size_t channel(std::size_t p) const noexcept { return channels_[p]; }
    /// Whether the channel visited i-th was zero in every row: its weights become zero.
    [[nodiscard]] bool is_dead(std::size_t i) const noexcept { return i >= live_; }
    /// Row i of U [k], in the order of visiting.
    [[nodiscard]] const double* factor(std::size_t i) const noexcept { return factor_.data() + i * channels(); }

private:
    [[nodiscard]] status try_make(const hessian& h, const gptq_settings& settings, const inverse_cholesky& cholesky,
                                  const std::uint32_t* columns) noexcept {
        *this = gptq_plan();
        const std::size_t k = h.channels();
        const bool is_damping = settings.damping >= 0.0 && settings.damping <= std::numeric_limits<double>::max();
        if (!is_damping || settings.block == 0 || (k != 0 && h.rows() == 0)) return status::bad_argument;
        if (cholesky.factor == nullptr) return status::null_pointer;
        settings_ = settings;
        AQ_TRY(place(k, columns));
        AQ_TRY(sort(h));
        if (k > static_cast<std::size_t>(-1) / (k + 1)) return status::out_of_memory;
        AQ_TRY(factor_.reset(k * k));
        if (k == 0) return status::ok;
        fill(h);
        AQ_TRY(cholesky.factor(cholesky.self, {factor_.data(), k, k}));
        return has_factor() ? status::ok : status::not_positive_definite;
    }

    [[nodiscard]] status place(std::size_t k, const std::uint32_t* columns) noexcept {
        AQ_TRY(channels_.reset(k));
        AQ_TRY(turns_.reset(k));
        for (std::size_t p = 0; p < k; ++p) {
            channels_[p] = columns == nullptr ? static_cast<std::uint32_t>(p) : columns[p];
            if (channels_[p] >= k || turns_[channels_[p]]++ != 0) return status::bad_argument;
        }
        return status::ok;
    }

    /// Live columns first, by falling diagonal or as they stand; dead ones last, where they wait for nobody.
    [[nodiscard]] status sort(const hessian& h) noexcept {
        AQ_TRY(order_.reset(h.channels()));
        for (std::size_t p = 0; p < channels(); ++p) order_[p] = static_cast<std::uint32_t>(p);
        const auto diagonal = [&](std::uint32_t p) { return h(channels_[p], channels_[p]); };
        const bool by_size = settings_.activation_order;
        std::sort(order_.begin(), order_.end(), [&](std::uint32_t a, std::uint32_t b) {
            const double first = diagonal(a), second = diagonal(b);
            if (by_size ? first != second : (first == 0.0) != (second == 0.0)) return first > second;
            return a < b;
        });
        for (std::size_t i = 0; i < channels(); ++i) {
            turns_[order_[i]] = static_cast<std::uint32_t>(i);
            live_ += diagonal(order_[i]) > 0.0 ? 1 : 0;
        }
        return status::ok;
    }

    /// H' in the order of visiting. A dead channel, whose row is zero, gets the mean: any positive number would do.
    void fill(const hessian& h) noexcept {
        double sum = 0.0;
        for (std::size_t i = 0; i < live_; ++i) sum += h(visited(i), visited(i));
        const double mean = live_ == 0 ? 1.0 : sum / static_cast<double>(live_);
        const double damping = settings_.damping * mean;
        for (std::size_t i = 0; i < channels(); ++i) {
            double* const row = factor_.data() + i * channels();
            for (std::size_t j = 0; j < channels(); ++j) row[j] = h(visited(i), visited(j));
            row[i] = is_dead(i) ? mean : row[i] + rounded(damping);
        }
    }

    [[nodiscard]] std::size_t visited(std::size_t i) const noexcept { return channels_[order_[i]]; }

    [[nodiscard]] bool has_factor() const noexcept {
        constexpr double most = std::numeric_limits<double>::max();
        bool is_good = true;
        for (std::size_t i = 0; i < channels(); ++i) {
            is_good = is_good && factor(i)[i] > 0.0;
            for (std::size_t j = i; j < channels(); ++j) is_good = is_good && factor(i)[j] <= most && factor(i)[j] >= -most;
        }
        return is_good;
    }

    gptq_settings settings_;
    std::size_t live_ = 0;
    aligned_buffer<std::uint32_t> channels_, turns_;  // by position
    aligned_buffer<std::uint32_t> order_;             // by turn
    aligned_buffer<double> factor_;
};

namespace detail {

/// A few rows on their way through the columns: enough of them to use a piece of U while it is in the cache.
class gptq_batch {
public:
    static constexpr std::size_t most_rows = 16;

    gptq_batch(const gptq_plan& plan, coded_matrix& out) noexcept : plan_(plan), out_(out), k_(plan.channels()) {}

    [[nodiscard]] status reserve() noexcept {
        block_ = std::min(plan_.settings().block, k_);
        group_ = out_.format.group == 0 || out_.format.group > k_ ? k_ : out_.format.group;
        AQ_TRY(weights_.reset(most_rows * k_));
        AQ_TRY(errors_.reset(most_rows * block_));
        AQ_TRY(piece_.reset(block_ * lanes));
        AQ_TRY(row_.reset(k_));
        return fits_.reset(most_rows * out_.groups);
    }

    /// Rows first .. first + w.rows of `out`, at most most_rows.
    void run(matrix_view<const float> w, std::size_t first) noexcept {
        first_ = first;
        for (std::size_t r = 0; r < w.rows; ++r) load(w.row(r), r);
        for (begin_ = 0; begin_ < k_; begin_ = end_) {
            end_ = begin_ + std::min(block_, k_ - begin_);
            for (std::size_t r = 0; r < w.rows; ++r)
                for (std::size_t i = begin_; i < end_; ++i) visit(r, i);
            update_rest(w.rows);
        }
    }

private:
    static constexpr std::size_t lanes = 8;

    void load(const float* w, std::size_t r) noexcept {
        for (std::size_t p = 0; p < k_; ++p) {
            const std::size_t i = plan_.turn(p);
            row_[p] = plan_.is_dead(i) ? 0.0F : made_finite(w[plan_.channel(p)]);
            weights_[r * k_ + i] = static_cast<double>(row_[p]);
        }
        affine* const fits = fits_.data() + r * out_.groups;
        if (plan_.settings().scales == gptq_scales::original || out_.is_two_level()) fit_row(row_.data(), first_ + r, out_, fits);
        else std::fill(fits, fits + out_.groups, affine{0.0F, 0});  // scale 0: not fitted yet
    }

    /// Rounds column i of a row, and lets those behind it in the block make up for it.
    void visit(std::size_t r, std::size_t i) noexcept {
        const std::size_t p = plan_.position(i);
        affine& a = fits_[r * out_.groups + p / group_];
        if (a.scale == 0.0F) a = fit_current(r, p / group_, i);
        double* const w = weights_.data() + r * k_;
        const double* const u = plan_.factor(i);
        if (plan_.is_dead(i)) w[i] = 0.0;  // whatever noise the factor may have
        const int code = encode(to_finite_float(w[i]), 1.0F / a.scale, a.zero, stored_codes(out_.format));
        out_.codes[(first_ + r) * k_ + p] = static_cast<std::uint8_t>(code);
        const double error = (w[i] - static_cast<double>(decode(code, a))) / u[i];
        errors_[r * block_ + i - begin_] = error;
        for (std::size_t j = i + 1; j < end_; ++j) w[j] -= rounded(error * u[j]);
    }

    /// Scale and zero point of a group from its weights as they are at turn `now`. Those behind the block have not heard of the errors in it yet.
    [[nodiscard]] affine fit_current(std::size_t r, std::size_t g, std::size_t now) noexcept {
        const std::size_t first = g * group_, count = std::min(group_, k_ - first);
        for (std::size_t c = 0; c < count; ++c) {
            const std::size_t turn = plan_.turn(first + c);
            double w = weights_[r * k_ + turn];
            for (std::size_t i = begin_; turn >= end_ && i < now; ++i)
                w -= rounded(errors_[r * block_ + i - begin_] * plan_.factor(i)[turn]);
            row_[c] = plan_.is_dead(turn) ? 0.0F : to_finite_float(w);
        }
        const affine a = fit_weights(row_.data(), count, out_.format);
        out_.scales[(first_ + r) * out_.groups + g] = a.scale;
        out_.zeros[(first_ + r) * out_.groups + g] = static_cast<std::uint8_t>(a.zero);
        return a;
    }

    /// What all columns of the block did to those behind it: a few of these at a time, copied together so that they stay in the cache
    /// for all rows, whatever power of two k is.
    void update_rest(std::size_t rows) noexcept {
        for (std::size_t left = end_; left < k_; left += lanes) {
            const std::size_t width = std::min(lanes, k_ - left);
            for (std::size_t i = begin_; i < end_; ++i)
                std::copy_n(plan_.factor(i) + left, width, piece_.data() + (i - begin_) * lanes);
            for (std::size_t r = 0; r < rows; ++r) {
                double w[lanes] = {};
                std::copy_n(weights_.data() + r * k_ + left, width, w);
                subtract_all(w, errors_.data() + r * block_, end_ - begin_);
                std::copy_n(w, width, weights_.data() + r * k_ + left);
            }
        }
    }

    /// w [lanes] -= errors[i] times row i of the piece, for all i in their order. In pairs: what rounded() sees is no vector that the
    /// compiler could make itself.
    void subtract_all(double* w, const double* errors, std::size_t count) const noexcept {
        typedef double pair __attribute__((vector_size(16)));
        pair sums[lanes / 2];
        std::memcpy(sums, w, sizeof sums);
        for (std::size_t i = 0; i < count; ++i) {
            pair u[lanes / 2];
            std::memcpy(u, piece_.data() + i * lanes, sizeof u);
            AQ_UNROLL
            for (std::size_t l = 0; l < lanes / 2; ++l) sums[l] -= rounded(u[l] * errors[i]);
        }
        std::memcpy(w, sums, sizeof sums);
    }

    const gptq_plan& plan_;
    coded_matrix& out_;
    std::size_t k_, block_ = 0, group_ = 0, first_ = 0, begin_ = 0, end_ = 0;
    aligned_buffer<double> weights_, errors_;  // [most_rows,k] by turn, [most_rows,block]
    aligned_buffer<double> piece_;             // [block,lanes] of U
    aligned_buffer<float> row_;                // [k] by position
    aligned_buffer<affine> fits_;              // [most_rows,groups]
};

}  // namespace detail

/// Rows first .. last of w [n,k] -> the same rows of `out`, on which reset(format, n, k) was called. Rows know nothing of each other:
/// threads may each take a range. Column i of `out` is channel columns[i] of the plan. bad_stride, null_pointer; bad_shape: sizes that
/// differ, or a range that is none; out_of_memory.
[[nodiscard]] inline status quantize_gptq(matrix_view<const float> w, const gptq_plan& plan, std::size_t first, std::size_t last,
                                          coded_matrix& out) noexcept {
    AQ_TRY(check(w));
    if (w.cols != plan.channels() || out.n != w.rows || out.k != w.cols || first > last || last > w.rows)
        return status::bad_shape;
    if (w.cols == 0) return status::ok;
    detail::gptq_batch batch(plan, out);
    AQ_TRY(batch.reserve());
    for (; first < last; first += std::min(batch.most_rows, last - first))
        batch.run(w.rows_from(first, std::min(batch.most_rows, last - first)), first);
    return status::ok;
}

/// w [n,k] -> codes of any format, as quantize_weights() makes them by round-to-nearest. unsupported_format, and as above.
[[nodiscard]] inline status quantize_gptq(matrix_view<const float> w, const weight_format& format, const gptq_plan& plan,
                                          coded_matrix& out) noexcept {
    AQ_TRY(check(w));
    if (w.cols != plan.channels()) return status::bad_shape;
    AQ_TRY(out.reset(format, w.rows, w.cols));
    return quantize_gptq(w, plan, 0, w.rows, out);
}

}  // namespace aq
