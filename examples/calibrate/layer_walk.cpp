#include "calibrate/layer_walk.hpp"

#include <agilequant/model/bloom.hpp>
#include <agilequant/model/llama.hpp>
#include <agilequant/model/opt.hpp>
#include <algorithm>
#include <numeric>

namespace aq::example {

namespace {

/// One layer of a model as a model of its own, with a vocabulary of one zero token where only the layer is wanted.
struct one_layer {
    weight_source inner;
    std::size_t layer = 0;
    bool has_tokens = false;

    [[nodiscard]] weight_source source() noexcept { return {this, read, packed}; }

    static status read(void* self, weight_id id, std::size_t layer, matrix_view<float> out) {
        const auto& s = *static_cast<const one_layer*>(self);
        if (id == weight_id::head || (id == weight_id::embedding && !s.has_tokens)) return zero(out);
        return s.inner.read(s.inner.self, id, layer + s.layer, out);
    }
    static status packed(void* self, weight_id id, std::size_t layer, packed_weights& out) {
        const auto& s = *static_cast<const one_layer*>(self);
        return s.inner.packed == nullptr ? status::ok : s.inner.packed(s.inner.self, id, layer + s.layer, out);
    }
    static status zero(matrix_view<float> out) {
        for (std::size_t r = 0; r < out.rows; ++r) std::fill(out.row(r), out.row(r) + out.cols, 0.0F);
        return status::ok;
    }
};

struct window_rows {
    aligned_buffer<float> values;  // [kept,dim]
    std::vector<std::uint32_t> kept;
};

/// Takes over what a block shows of one site.
struct site_taker {
    site where;
    site_rows& out;

    [[nodiscard]] site_observer observer() noexcept { return {this, take}; }
    static void take(void* self, std::size_t, site where, matrix_view<const float> x) {
        const auto& s = *static_cast<const site_taker*>(self);
        if (where != s.where) return;
        s.out.channels = x.cols;
        s.out.values.resize(x.rows * x.cols);
        for (std::size_t r = 0; r < x.rows; ++r) std::copy(x.row(r), x.row(r) + x.cols, s.out.row(r));
    }
};

template <class Family>
class walk_of final : public layer_walk {
public:
    walk_of(const model_config& config, const weight_source& original, const walk_options& options)
        : config_(config), original_(original), options_(options) {
        context_.kernels = options.kernels;
        context_.threads = options.threads;
    }

    status begin(const token_windows& windows) override {
        const status begun = try_begin(windows);
        if (begun != status::ok) windows_.clear();
        return begun;
    }

    status set(const layer_state& state) override {
        if (windows_.empty() || layer_ >= config_.layers) return status::bad_argument;
        model_config config = config_;
        config.layers = 1;
        config.vocabulary = 1;
        AQ_TRY(profile_.reset(config, state.sites));
        one_layer only{state.weights, layer_, false};
        return model_.load(config, options_.formats, only.source(), &profile_);
    }

    status look(std::size_t window, site where, site_rows& out) override {
        if (window >= windows_.size() || model_.is_empty()) return status::bad_argument;
        const window_rows& w = windows_[window];
        AQ_TRY(copy_.reserve(w.values.size()));
        std::copy(w.values.begin(), w.values.begin() + w.kept.size() * config_.dim, copy_.begin());
        out.tokens = w.kept;
        out.values.reserve(w.kept.size() * std::max(config_.dim, config_.hidden));  // the observer must not fail
        site_taker taker{where, out};
        AQ_TRY(run(copy_.data(), out.tokens, taker.observer()));
        // Sites before the layer prunes have seen all rows, those behind it what is left.
        if (out.values.size() != out.tokens.size() * out.channels) out.tokens = w.kept;
        return status::ok;
    }

    status advance() override {
        if (model_.is_empty()) return status::bad_argument;
        for (window_rows& w : windows_) AQ_TRY(run(w.values.data(), w.kept, {}));
        model_ = {};
        ++layer_;
        return status::ok;
    }

    std::size_t layer() const noexcept override { return layer_; }
    std::size_t windows() const noexcept override { return windows_.size(); }

private:
    [[nodiscard]] status try_begin(const token_windows& windows) {
        layer_ = 0;
        windows_.clear();
        model_ = {};
        if (options_.kernels == nullptr || windows.empty()) return status::bad_argument;
        AQ_TRY(validate(options_.formats.pruning, config_.layers));
        transformer<Family> model;
        model_options in_float;
        one_layer first{original_, 0, true};
        model_config config = config_;
        config.layers = 1;
        AQ_TRY(model.load(config, in_float, first.source()));
        for (const auto& tokens : windows) {
            if (tokens.empty() || tokens.size() > config_.max_length) return status::bad_argument;
            window_rows& w = windows_.emplace_back();
            AQ_TRY(w.values.reset(tokens.size() * config_.dim));
            AQ_TRY(model.embed(context_, tokens.data(), 0, {w.values.data(), tokens.size(), config_.dim}));
            w.kept.resize(tokens.size());
            std::iota(w.kept.begin(), w.kept.end(), 0U);
        }
        return cache_.reset(config_.kv_heads, config_.head_dim(), config_.max_length, options_.formats.kv_bits,
                            options_.formats.kv_group);
    }

    /// The rows x [kept,dim] of one window through the layer; `kept` becomes what is left.
    [[nodiscard]] status run(float* x, std::vector<std::uint32_t>& kept, site_observer observer) {
        AQ_TRY(scratch_.reserve(config_, kept.size()));
        cache_.clear();
        block_settings settings = model_.settings(0);
        settings.layer = layer_;
        settings.observer = observer;
        std::size_t rows = kept.size();
        AQ_TRY(model_.block_at(0).forward(context_, settings, scratch_, cache_, options_.formats.pruning.ratio(layer_), false,
                                          {x, rows, config_.dim}, kept.data(), rows));
        kept.resize(rows);
        return status::ok;
    }

    model_config config_;
    weight_source original_;
    walk_options options_;
    std::size_t layer_ = 0;
    std::vector<window_rows> windows_;
    run_context context_;
    transformer<Family> model_;
    activation_profile profile_;
    kv_cache cache_;
    block_scratch scratch_;
    aligned_buffer<float> copy_;
};

}  // namespace

std::unique_ptr<layer_walk> make_walk(models::family family, const model_config& config, const weight_source& original,
                                      const walk_options& options) {
    switch (family) {
        case models::family::llama: return std::make_unique<walk_of<llama_family>>(config, original, options);
        case models::family::opt: return std::make_unique<walk_of<opt_family>>(config, original, options);
        default: return std::make_unique<walk_of<bloom_family>>(config, original, options);
    }
}

}  // namespace aq::example
