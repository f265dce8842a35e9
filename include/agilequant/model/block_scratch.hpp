/// \file
/// What the parts of a block share: its settings, the memory between its matmuls, and loops over rows.
#pragma once

#include "agilequant/elementwise/hadamard.hpp"
#include "agilequant/elementwise/rope.hpp"
#include "agilequant/kernels/attention.hpp"
#include "agilequant/kernels/write_rows.hpp"
#include "agilequant/model/config.hpp"
#include "agilequant/model/linear.hpp"

namespace aq {

/// What a norm has learned.
struct norm_weights {
    aligned_buffer<float> gain, bias;  ///< [dim]; no bias in an RMSNorm
    [[nodiscard]] std::size_t bytes() const noexcept { return gain.size_bytes() + bias.size_bytes(); }
};

/// Sees the activations of every site before they are rotated or quantized: for calibration.
struct site_observer {
    void* self = nullptr;
    void (*see)(void* self, std::size_t layer, site where, matrix_view<const float> x) = nullptr;
};

/// How one block computes.
struct block_settings {
    model_config config;
    std::size_t layer = 0;
    site_format sites[site_count];
    probability_coding coding = probability_coding::softmax;
    bool rotates_keys = false;            ///< and queries, by a Hadamard matrix, before keys are coded
    matrix_view<const float> rope_table;  ///< where positions are rotary
    const float* slopes = nullptr;        ///< [heads] where they are ALiBi's
    site_observer observer;

    [[nodiscard]] const site_format& format(site s) const noexcept { return sites[static_cast<std::size_t>(s)]; }
    void observe(site s, matrix_view<const float> x) const {
        if (observer.see != nullptr) observer.see(observer.self, layer, s, x);
    }
};

/// Rows between the matmuls of a block, for all blocks of a model. Sized once for a number of rows.
class block_scratch {
public:
    linear_input input;

    [[nodiscard]] status reserve(const model_config& c, std::size_t rows) noexcept {
        config_ = c;
        AQ_TRY(normed_.reserve(rows * c.dim));
        AQ_TRY(queries_.reserve(rows * c.dim));
        AQ_TRY(keys_.reserve(rows * c.kv_dim()));
        AQ_TRY(values_.reserve(rows * c.kv_dim()));
        AQ_TRY(attended_.reserve(rows * c.dim));
        AQ_TRY(gates_.reserve(rows * c.hidden));
        AQ_TRY(middle_.reserve(rows * c.hidden));
        AQ_TRY(kept_.reserve(rows));
        return importance_.reserve(rows * (c.heads + 1));
    }

    [[nodiscard]] matrix_view<float> normed(std::size_t m) noexcept { return {normed_.data(), m, config_.dim}; }
    [[nodiscard]] matrix_view<float> queries(std::size_t m) noexcept { return {queries_.data(), m, config_.dim}; }
    [[nodiscard]] matrix_view<float> keys(std::size_t m) noexcept { return {keys_.data(), m, config_.kv_dim()}; }
    [[nodiscard]] matrix_view<float> values(std::size_t m) noexcept { return {values_.data(), m, config_.kv_dim()}; }
    [[nodiscard]] matrix_view<float> attended(std::size_t m) noexcept { return {attended_.data(), m, config_.dim}; }
    [[nodiscard]] matrix_view<float> gates(std::size_t m) noexcept { return {gates_.data(), m, config_.hidden}; }
    [[nodiscard]] matrix_view<float> middle(std::size_t m) noexcept { return {middle_.data(), m, config_.hidden}; }
    /// [heads, m] column 0 of the probabilities.
    [[nodiscard]] matrix_view<float> first_column(std::size_t m) noexcept { return {importance_.data(), config_.heads, m}; }
    /// [m] its sum over the heads.
    [[nodiscard]] float* importance(std::size_t m) noexcept { return importance_.data() + config_.heads * m; }
    /// [m] the rows that survive pruning.
    [[nodiscard]] std::uint32_t* kept() noexcept { return kept_.data(); }

private:
    model_config config_;
    aligned_buffer<std::uint32_t> kept_;
    aligned_buffer<float> normed_, queries_, keys_, values_, attended_, gates_, middle_, importance_;
};

/// work(row) for every row, cut over the threads; counted as nonlinear.
template <class Work>
[[nodiscard]] status over_rows(run_context& context, std::size_t rows, Work&& work) {
    const part_timer timed(context.times, part::nonlinear);
    const std::size_t pieces = piece_count(context.threads, rows);
    return context.for_each(pieces, [&](std::size_t i, std::size_t) {
        const index_range range = piece(rows, pieces, i);
        for (std::size_t r = range.begin; r < range.end; ++r) AQ_TRY(work(r));
        return status::ok;
    });
}

/// y [m,k] = the rows of a source.
[[nodiscard]] inline status write_rows(run_context& context, const row_source& source, matrix_view<float> y) noexcept {
    const part_timer timed(context.times, part::nonlinear);
    const std::size_t pieces = piece_count(context.threads, y.rows);
    return context.for_each(
        pieces, [&](std::size_t i, std::size_t) { return write_rows(*context.kernels, source, piece(y.rows, pieces, i), y); });
}

/// Prepares scratch.input for the linears of a site from its rows x [m,k], which are rotated in place where the format says so.
[[nodiscard]] inline status prepare_site(run_context& context, const block_settings& settings, block_scratch& scratch, site where,
                                         matrix_view<float> x, const linear& first) noexcept {
    settings.observe(where, x);
    if (settings.format(where).is_rotated)
        AQ_TRY(over_rows(context, x.rows, [&](std::size_t r) { return hadamard(x.rows_from(r, 1)); }));
    return scratch.input.prepare(context, x, settings.format(where), first);
}

/// Prepares scratch.input for the linears of a site, of which `first` is one. Rows that are only quantized are never floats in memory;
/// where somebody looks at them, or a product takes them as they are, they are written to `floats`, which may be one of the source's.
[[nodiscard]] inline status prepare_site(run_context& context, const block_settings& settings, block_scratch& scratch, site where,
                                         const row_source& source, matrix_view<float> floats, const linear& first) noexcept {
    const site_format& format = settings.format(where);
    if (settings.observer.see == nullptr && !format.is_rotated && linear_input::is_quantized(format, first))
        return scratch.input.prepare_codes(context, source, format.activations, first);
    AQ_TRY(write_rows(context, source, floats));
    return prepare_site(context, settings, scratch, where, floats, first);
}

}  // namespace aq
