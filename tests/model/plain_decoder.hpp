/// \file
/// A decoder once more, in the plainest loops and in a type of choice, with token pruning: the oracle in double, and in float the measure
/// of what float can do. Shares nothing with the library but the config and the source of weights. What families differ in is virtual:
/// plain_llama.hpp, plain_families.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "support/tiny_model.hpp"

namespace aq_test {

template <class T>
class plain_decoder {
public:
    using row = std::vector<T>;

    plain_decoder(const aq::model_config& config, aq::weight_source source) : c_(config), keys_(c_.layers), values_(c_.layers) {
        for (std::size_t id = 0; id < ids; ++id)
            for (std::size_t layer = 0; layer < c_.layers; ++layer) {
                const aq::matrix_shape s = aq::shape_of(c_, static_cast<aq::weight_id>(id));
                std::vector<float> w(s.rows * s.cols);
                REQUIRE(source.read(source.self, static_cast<aq::weight_id>(id), layer, {w.data(), s.rows, s.cols}) ==
                        aq::status::ok);
                weights_[id].emplace_back(w.begin(), w.end());
            }
    }

    plain_decoder(const plain_decoder&) = delete;
    plain_decoder& operator=(const plain_decoder&) = delete;
    virtual ~plain_decoder() = default;

    /// Logits of the tokens that are left, row after row; `ratios` [layers] of tokens to drop, or none.
    row forward(const token_list& tokens, const std::vector<double>& ratios = {}, bool keep_last = false) {
        std::vector<row> x;
        kept.clear();
        for (const std::uint32_t t : tokens) {
            x.push_back(embed(t, keys_[0].size() + kept.size()));
            kept.push_back(static_cast<std::uint32_t>(kept.size()));
        }
        for (std::size_t layer = 0; layer < c_.layers; ++layer) {
            row importance;
            for (row& r : x) importance.push_back(attend(layer, r));
            if (!ratios.empty() && x.size() > 1) prune(ratios[layer], keep_last, importance, x);
            for (row& r : x) add(mlp(layer, norm(aq::weight_id::mlp_norm, layer, r)), r);
        }
        row logits;
        for (const row& r : x) {
            const row y = product(aq::weight_id::head, 0, norm(aq::weight_id::final_norm, 0, r));
            logits.insert(logits.end(), y.begin(), y.end());
        }
        return logits;
    }

    token_list kept;
    [[nodiscard]] std::size_t length(std::size_t layer) const { return keys_[layer].size(); }

protected:
    const row& weight(aq::weight_id id, std::size_t layer) const { return weights_[static_cast<std::size_t>(id)][layer]; }

    /// The embedding of a token at a position of the sequence.
    virtual row embed(std::uint32_t token, std::size_t position) const = 0;
    virtual row norm(aq::weight_id id, std::size_t layer, const row& x) const = 0;
    /// Queries or keys, at a place in the layer's cache.
    virtual void place(row& heads, std::size_t position) const = 0;
    /// What is added to the score of a key so many places back.
    virtual T bias_of_score(std::size_t head, std::size_t distance) const = 0;
    /// What the MLP adds, from its normed input.
    virtual row mlp(std::size_t layer, const row& n) const = 0;
    virtual bool has_biases() const = 0;

    row row_of(aq::weight_id id, std::size_t r) const {
        const auto from = weight(id, 0).begin() + static_cast<std::ptrdiff_t>(r * c_.dim);
        return row(from, from + static_cast<std::ptrdiff_t>(c_.dim));
    }

    row product(aq::weight_id id, std::size_t layer, const row& x) const {
        const row& w = weight(id, layer);
        row y(w.size() / x.size());
        for (std::size_t r = 0; r < y.size(); ++r)
            for (std::size_t i = 0; i < x.size(); ++i) y[r] += w[r * x.size() + i] * x[i];
        if (has_biases() && id != aq::weight_id::head) add(weight(aq::bias_of(id), layer), y);
        return y;
    }

    static void add(const row& y, row& x) {
        for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
    }

    aq::model_config c_;

private:
    static constexpr std::size_t ids = aq::weight_count;

    /// Adds the attention of one token at the end of the layer's cache; returns what it pays to the first token, over all heads.
    T attend(std::size_t layer, row& x) {
        const row n = norm(aq::weight_id::attention_norm, layer, x);
        row q = product(aq::weight_id::q, layer, n), k = product(aq::weight_id::k, layer, n);
        std::vector<row>&keys = keys_[layer], &values = values_[layer];
        place(q, keys.size());
        place(k, keys.size());
        keys.push_back(k);
        values.push_back(product(aq::weight_id::v, layer, n));
        row all(c_.dim);
        T to_first = 0;
        const std::size_t dim = c_.head_dim();
        for (std::size_t h = 0; h < c_.heads; ++h) {
            const std::size_t kv = h / (c_.heads / c_.kv_heads) * dim;
            row p;
            for (std::size_t j = 0; j < keys.size(); ++j) {
                T score = 0;
                for (std::size_t i = 0; i < dim; ++i) score += q[h * dim + i] * keys[j][kv + i];
                p.push_back(score / std::sqrt(static_cast<T>(dim)) + bias_of_score(h, keys.size() - 1 - j));
            }
            const T top = *std::max_element(p.begin(), p.end());
            for (T& v : p) v = std::exp(v - top);
            const T sum = std::accumulate(p.begin(), p.end(), T{0});
            to_first += p[0] / sum;
            for (std::size_t j = 0; j < p.size(); ++j)
                for (std::size_t i = 0; i < dim; ++i) all[h * dim + i] += p[j] / sum * values[j][kv + i];
        }
        add(product(aq::weight_id::o, layer, all), x);
        return to_first;
    }

    void prune(double ratio, bool keep_last, row importance, std::vector<row>& x) {
        const auto dropped = static_cast<std::size_t>(std::floor(static_cast<double>(x.size()) * ratio));
        importance.front() = std::numeric_limits<T>::infinity();
        if (keep_last) importance.back() = std::numeric_limits<T>::infinity();
        std::vector<std::size_t> order(x.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return importance[a] > importance[b]; });
        order.resize(x.size() - dropped);
        std::sort(order.begin(), order.end());
        std::vector<row> left;
        token_list left_tokens;
        for (const std::size_t i : order) {
            left.push_back(x[i]);
            left_tokens.push_back(kept[i]);
        }
        x = left;
        kept = left_tokens;
    }

    std::vector<row> weights_[ids];
    std::vector<std::vector<row>> keys_, values_;
};

/// How far a library's logits are from double: largest difference, that of the plain loops in float, and the size of the logits.
struct float_error {
    double library = 0.0, plain = 0.0, size = 0.0;

    float_error(const std::vector<float>& logits, const std::vector<float>& in_float, const std::vector<double>& in_double) {
        REQUIRE(logits.size() == in_double.size());
        REQUIRE(in_float.size() == in_double.size());
        for (std::size_t i = 0; i < logits.size(); ++i) {
            library = std::max(library, std::abs(static_cast<double>(logits[i]) - in_double[i]));
            plain = std::max(plain, std::abs(static_cast<double>(in_float[i]) - in_double[i]));
            size = std::max(size, std::abs(in_double[i]));
        }
        CAPTURE(library);
        CAPTURE(plain);
        CAPTURE(size);
        // Plain float is the yardstick: another order of sums may be several times worse on the worst number, not more. NaN fails.
        CHECK(library <= 4.0 * plain);
        CHECK(plain <= 2e-5 * size);
    }
};

}  // namespace aq_test
