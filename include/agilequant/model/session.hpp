/// \file
/// A conversation with a model: caches, memory and the forward pass over new tokens. One session, one sequence.
#pragma once

#include <numeric>

#include "agilequant/model/transformer.hpp"

namespace aq {

/// What one forward pass leaves behind; borrowed from the session until the next one.
struct forward_result {
    matrix_view<const float> logits;      ///< [rows,vocabulary]: of every token that was kept, or of the last only
    const std::uint32_t* kept = nullptr;  ///< [kept_count] which of the tokens given are left after the last layer, ascending
    std::size_t kept_count = 0;
    double sparsity = 0.0;  ///< share of token-layers that pruning saved (Agile-Quant section 4)
};

enum class logits_of { last, all };

template <class Family>
class session {
public:
    run_context context;

    /// Empty caches for `capacity` tokens (0: the model's max_length). The model stays borrowed.
    /// bad_argument: the model is empty, the capacity is beyond max_length, or the pruning plan names a layer that is not there;
    /// unsupported_format: kv_bits; out_of_memory. After a failure the session has no model.
    [[nodiscard]] status reset(const transformer<Family>& model, const kernel_table& kernels, const executor& threads,
                               std::size_t capacity = 0) noexcept {
        const model_config& c = model.config();
        model_ = nullptr;
        if (model.is_empty() || capacity > c.max_length) return status::bad_argument;
        AQ_TRY(validate(model.options().pruning, c.layers));
        context.kernels = &kernels;
        context.threads = threads;
        caches_.reset(new (std::nothrow) kv_cache[c.layers]);
        if (caches_ == nullptr) return status::out_of_memory;
        for (std::size_t layer = 0; layer < c.layers; ++layer) {
            const std::size_t tokens = capacity == 0 ? c.max_length : capacity;
            AQ_TRY(caches_[layer].reset(c.kv_heads, c.head_dim(), tokens, model.options().kv_bits, model.options().kv_group));
        }
        model_ = &model;
        return status::ok;
    }

    /// Forgets the sequence.
    void clear() noexcept {
        for (std::size_t layer = 0; layer < layers(); ++layer) caches_[layer].clear();
    }

    /// tokens [count] follow what the caches hold. A prompt is pruned where the model's plan says so, if it is the first thing that
    /// the session sees; later tokens never are. bad_argument: no model, no token, or one beyond the vocabulary; cache_full: both leave
    /// the sequence as it was. After any other failure, such as out_of_memory, clear() it.
    [[nodiscard]] status forward(const std::uint32_t* tokens, std::size_t count, logits_of which,
                                 forward_result& result) noexcept {
        if (model_ == nullptr || count == 0 || tokens == nullptr) return status::bad_argument;
        const model_config& c = model_->config();
        if (count > caches_[0].capacity() - caches_[0].length()) return status::cache_full;
        AQ_TRY(embed(tokens, count));
        const bool first = caches_[0].length() == 0;
        std::size_t rows = count, token_layers = 0;
        for (std::size_t layer = 0; layer < c.layers; ++layer) {
            block_settings settings = model_->settings(layer);
            settings.observer = observer_;
            const double ratio = first ? model_->options().pruning.ratio(layer) : 0.0;
            AQ_TRY(model_->block_at(layer).forward(context, settings, scratch_, caches_[layer], ratio, which == logits_of::last,
                                                   {x_.data(), rows, c.dim}, kept_.data(), rows));
            token_layers += rows;
        }
        const std::size_t asked = which == logits_of::all ? rows : 1;
        AQ_TRY(project(rows - asked, asked));
        result.logits = {logits_.data(), asked, c.vocabulary};
        result.kept = kept_.data();
        result.kept_count = rows;
        result.sparsity = 1.0 - static_cast<double>(token_layers) / static_cast<double>(c.layers * count);
        return status::ok;
    }

    /// Every forward pass from now on shows the activations of all sites to `observer`.
    void observe(site_observer observer) noexcept { observer_ = observer; }

    [[nodiscard]] const kv_cache& cache(std::size_t layer) const noexcept { return caches_[layer]; }
    /// Bytes that the tokens in all caches occupy.
    [[nodiscard]] std::size_t cache_bytes() const noexcept {
        std::size_t sum = 0;
        for (std::size_t layer = 0; layer < layers(); ++layer) sum += caches_[layer].bytes().used;
        return sum;
    }

private:
    [[nodiscard]] std::size_t layers() const noexcept { return model_ == nullptr ? 0 : model_->config().layers; }

    [[nodiscard]] status embed(const std::uint32_t* tokens, std::size_t count) noexcept {
        const model_config& c = model_->config();
        AQ_TRY(x_.reserve(count * c.dim));
        AQ_TRY(kept_.reserve(count));
        AQ_TRY(scratch_.reserve(c, count));
        std::iota(kept_.begin(), kept_.begin() + count, 0U);
        return model_->embed(context, tokens, caches_[0].length(), {x_.data(), count, c.dim});
    }

    /// Logits of rows first .. first + count.
    [[nodiscard]] status project(std::size_t first, std::size_t count) noexcept {
        const model_config& c = model_->config();
        AQ_TRY(logits_.reserve(count * c.vocabulary));
        const matrix_view<float> normed = scratch_.normed(count);
        const matrix_view<const float> x(x_.data() + first * c.dim, count, c.dim);
        AQ_TRY(write_rows(context, Family::normalized(model_->settings(0), model_->final_norm(), x), normed));
        AQ_TRY(scratch_.input.prepare(context, normed, site_format{}, model_->head()));
        return multiply(context, scratch_.input, model_->head(), {logits_.data(), count, c.vocabulary});
    }

    const transformer<Family>* model_ = nullptr;
    std::unique_ptr<kv_cache[]> caches_;
    block_scratch scratch_;
    site_observer observer_;
    aligned_buffer<float> x_, logits_;
    aligned_buffer<std::uint32_t> kept_;
};

}  // namespace aq
