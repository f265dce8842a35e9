/// \file
/// Models of any size with random weights, for tests: the same bits on every machine, printed by their seed. Large enough to attend to
/// something, small enough to run in a moment.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "agilequant/dispatch/dispatch.hpp"
#include "agilequant/model/llama.hpp"
#include "agilequant/quant/trip_calibrator.hpp"
#include "support/random.hpp"
#include "support/status_text.hpp"

namespace aq_test {

using token_list = std::vector<std::uint32_t>;

inline aq::model_config tiny_config(std::size_t vocabulary, std::size_t dim, std::size_t hidden, std::size_t layers,
                                    std::size_t heads, std::size_t kv_heads, std::size_t max_length,
                                    aq::rope_pairing rope = aq::rope_pairing::halves) {
    aq::model_config c;
    c.vocabulary = vocabulary;
    c.dim = dim;
    c.hidden = hidden;
    c.layers = layers;
    c.heads = heads;
    c.kv_heads = kv_heads;
    c.max_length = max_length;
    c.rope = rope;
    return c;
}

/// Grouped heads, one of keys for all, none grouped; both pairings; sizes that are no multiple of anything.
inline std::vector<aq::model_config> tiny_configs() {
    return {tiny_config(37, 32, 172, 3, 4, 2, 40), tiny_config(50, 48, 40, 2, 6, 1, 33, aq::rope_pairing::interleaved),
            tiny_config(17, 20, 7, 2, 2, 2, 24), tiny_config(64, 144, 96, 1, 4, 4, 20, aq::rope_pairing::interleaved)};
}

inline std::string text(const aq::model_config& c) {
    return "vocabulary " + std::to_string(c.vocabulary) + " dim " + std::to_string(c.dim) + " hidden " +
           std::to_string(c.hidden) + " layers " + std::to_string(c.layers) + " heads " + std::to_string(c.heads) + " / " +
           std::to_string(c.kv_heads) + (c.rope == aq::rope_pairing::halves ? " halves" : " interleaved");
}

/// Bell-shaped weights whose products keep the size of their input. In every 16th channel the gain of a norm is 16 times as large, and
/// the columns of the weights behind it as much smaller: outliers in the activations, as large models have them.
class tiny_weights {
public:
    explicit tiny_weights(std::uint64_t seed) : seed_(seed) {}
    [[nodiscard]] aq::weight_source source() { return {this, read}; }
    /// From the n-th read on (from 0), every one fails.
    void fail_from(std::size_t n) { fails_from_ = n; }
    [[nodiscard]] std::size_t reads() const { return reads_; }

private:
    static aq::status read(void* self, aq::weight_id id, std::size_t layer, aq::matrix_view<float> out) {
        auto& w = *static_cast<tiny_weights*>(self);
        if (w.reads_++ >= w.fails_from_) return aq::status::source_failed;
        const bool is_gain = id == aq::weight_id::final_norm || id == aq::weight_id::attention_norm ||
                             id == aq::weight_id::mlp_norm || id == aq::weight_id::embedding_norm;
        random_source random(w.seed_ * 1000003 + static_cast<std::uint64_t>(id) * 1009 + layer);
        std::size_t root = 1;
        while (root * root < out.cols) root *= 2;
        const bool is_embedded = id == aq::weight_id::embedding || id == aq::weight_id::positions;
        const float size = is_embedded ? 1.0F : 2.0F / static_cast<float>(root);
        const bool grows = id == aq::weight_id::attention_norm || id == aq::weight_id::mlp_norm ||
                           id == aq::weight_id::attention_norm_bias || id == aq::weight_id::mlp_norm_bias;
        const bool shrinks = id == aq::weight_id::q || id == aq::weight_id::k || id == aq::weight_id::v ||
                             id == aq::weight_id::gate || id == aq::weight_id::up;
        for (std::size_t r = 0; r < out.rows; ++r) {
            for (std::size_t c = 0; c < out.cols; ++c) {
                const float outlier = c % 16 != 5 ? 1.0F : grows ? 16.0F : shrinks ? 0x1p-4F : 1.0F, x = random.value();
                out.row(r)[c] = (is_gain ? 1.0F + x * 0.125F : x * size) * outlier;
            }
        }
        return aq::status::ok;
    }

    std::uint64_t seed_;
    std::size_t reads_ = 0, fails_from_ = static_cast<std::size_t>(-1);
};

inline constexpr std::uint64_t tiny_seed = 20231;

template <class Family = aq::llama_family>
aq::transformer<Family> tiny_model(const aq::model_config& c, const aq::model_options& options = {},
                                   const aq::activation_profile* profile = nullptr, std::uint64_t seed = tiny_seed) {
    tiny_weights weights(seed);
    aq::transformer<Family> model;
    REQUIRE(model.load(c, options, weights.source(), profile) == aq::status::ok);
    return model;
}

inline token_list tiny_tokens(const aq::model_config& c, std::size_t count, std::uint64_t seed = 5) {
    random_source random(seed);
    token_list tokens;
    for (std::size_t i = 0; i < count; ++i) tokens.push_back(static_cast<std::uint32_t>(random.below(c.vocabulary)));
    return tokens;
}

/// bits of weights (16: float), of activations (16: float), of the cache; groups of 16 asymmetric weights.
inline aq::model_options tiny_options(int weight_bits, int activation_bits, int kv_bits = 32,
                                      aq::probability_coding coding = aq::probability_coding::softmax) {
    aq::model_options o;
    o.float_weights = weight_bits > 8;
    o.weights.bits = weight_bits > 8 ? 4 : weight_bits;
    o.weights.group = 16;
    for (aq::site_format& f : o.sites) {
        f.is_float = activation_bits > 8;
        f.activations.bits = f.is_float ? 8 : activation_bits;
        f.activations.is_asymmetric = activation_bits < 8;
    }
    o.kv_bits = kv_bits;
    o.coding = coding;
    return o;
}

/// The kernels that the environment asks for, or the best.
inline const aq::kernel_table& chosen_kernels() {
    const aq::kernel_table* kernels = nullptr;
    REQUIRE(aq::choose_kernels(kernels) == aq::status::ok);
    return *kernels;
}

template <class Family>
aq::session<Family> session_of(const aq::transformer<Family>& model, const aq::executor& threads = aq::serial_executor(),
                               std::size_t capacity = 0, const aq::kernel_table& kernels = chosen_kernels()) {
    aq::session<Family> session;
    REQUIRE(session.reset(model, kernels, threads, capacity) == aq::status::ok);
    return session;
}

/// What a forward pass leaves, copied.
struct outcome_of_run {
    std::vector<float> logits;
    token_list kept;
    double sparsity = 0.0;
};

template <class Family>
outcome_of_run forward(aq::session<Family>& session, const token_list& tokens, aq::logits_of which = aq::logits_of::all) {
    aq::forward_result r;
    REQUIRE(session.forward(tokens.data(), tokens.size(), which, r) == aq::status::ok);
    REQUIRE(r.logits.stride == r.logits.cols);
    return {{r.logits.data, r.logits.data + r.logits.rows * r.logits.cols}, {r.kept, r.kept + r.kept_count}, r.sparsity};
}

inline token_list part_of(const token_list& tokens, std::size_t first, std::size_t count) {
    return {tokens.begin() + static_cast<std::ptrdiff_t>(first), tokens.begin() + static_cast<std::ptrdiff_t>(first + count)};
}

/// Logits of every token, `step` tokens a call.
template <class Family>
std::vector<float> run_in_steps(aq::session<Family>& session, const token_list& tokens, std::size_t step) {
    std::vector<float> all;
    for (std::size_t i = 0; i < tokens.size(); i += step) {
        const outcome_of_run o = forward(session, part_of(tokens, i, std::min(step, tokens.size() - i)));
        all.insert(all.end(), o.logits.begin(), o.logits.end());
    }
    return all;
}

inline bool is_same(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

/// TRIP's exponents and static scales, learned from what the model in float computes on some tokens.
template <class Family = aq::llama_family>
aq::activation_profile tiny_profile(const aq::model_config& c, const aq::model_options& options, const token_list& tokens) {
    struct calibrators {
        std::vector<aq::trip_calibrator> sites;
        static void see(void* self, std::size_t layer, aq::site where, aq::matrix_view<const float> x) {
            auto& all = static_cast<calibrators*>(self)->sites;
            CHECK(all[layer * aq::site_count + static_cast<std::size_t>(where)].add(x) == aq::status::ok);
        }
    } seen;
    aq::activation_profile profile;
    REQUIRE(profile.reset(c, options.sites) == aq::status::ok);
    seen.sites.resize(c.layers * aq::site_count);
    for (std::size_t i = 0; i < seen.sites.size(); ++i) {
        REQUIRE(seen.sites[i].reset(profile.channels(static_cast<aq::site>(i % aq::site_count))) == aq::status::ok);
    }
    const aq::transformer<Family> model = tiny_model<Family>(c);
    aq::session<Family> session = session_of(model);
    session.observe({&seen, calibrators::see});
    forward(session, tokens);
    for (std::size_t layer = 0; layer < c.layers; ++layer) {
        for (std::size_t i = 0; i < aq::site_count; ++i) {
            const aq::activation_format& f = options.sites[i].activations;
            const auto where = static_cast<aq::site>(i);
            const aq::trip_format format{f.bits, f.is_asymmetric, 3, aq::exponent_choice::mean_square};
            REQUIRE(seen.sites[layer * aq::site_count + i].fit(format, profile.exponents(layer, where),
                                                               profile.format(layer, where).activations.fixed) == aq::status::ok);
        }
    }
    return profile;
}

}  // namespace aq_test
