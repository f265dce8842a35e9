/// \file
/// Tiny models of every family as a loader would deliver them, and how far one predicts from another: KL divergences by plain sums over the logits.
#pragma once

#include <algorithm>
#include <cmath>

#include "agilequant/model/bloom.hpp"
#include "agilequant/model/opt.hpp"
#include "calibrate/site_shares.hpp"
#include "support/tiny_model.hpp"

namespace aq_test {

struct llama_kind {
    using family = aq::llama_family;
    static constexpr auto id = aq::models::family::llama;
};
struct opt_kind {
    using family = aq::opt_family;
    static constexpr auto id = aq::models::family::opt;
};
struct bloom_kind {
    using family = aq::bloom_family;
    static constexpr auto id = aq::models::family::bloom;
};

/// Weights of tiny_seed as a model of this kind; it borrows the weights.
template <class Kind>
aq::models::loaded_model tiny_loaded(const aq::model_config& c, tiny_weights& weights) {
    aq::models::loaded_model m;
    m.name = "tiny";
    m.family = Kind::id;
    m.config = c;
    m.source = weights.source();
    return m;
}

inline aq::example::walk_options tiny_run(const aq::model_options& formats = {},
                                          const aq::executor& threads = aq::serial_executor()) {
    return {formats, &chosen_kernels(), threads};
}

/// A divergence and how much a single rounding of all logarithms to float may change it, which is 2^-24 times the largest of them, times what it meets.
struct plain_divergence {
    double sum = 0.0, bound = 0.0;
    std::size_t positions = 0;

    [[nodiscard]] double mean() const { return sum / static_cast<double>(positions); }
    [[nodiscard]] double tolerance() const { return bound / static_cast<double>(positions) + 1e-14; }
    /// Logits [vocabulary] of one position, of both models.
    void add(const float* expected, const float* found, std::size_t vocabulary) {
        const double sum_p = log_sum(expected, vocabulary), sum_q = log_sum(found, vocabulary);
        double largest = 0.0, meets = 0.0;
        for (std::size_t i = 0; i < vocabulary; ++i) {
            const double p = static_cast<double>(expected[i]) - sum_p, q = static_cast<double>(found[i]) - sum_q;
            sum += std::exp(p) * (p - q);
            largest = std::max({largest, -p, -q});
            meets += std::exp(p) * std::fabs(p - q) + std::fabs(std::exp(p) - std::exp(q));
        }
        bound += 0x1p-24 * largest * (meets + 0x1p-22 * largest);  // and the square of the rounding
        ++positions;
    }

private:
    static double log_sum(const float* logits, std::size_t count) {
        double s = 0.0;
        for (std::size_t i = 0; i < count; ++i) s += std::exp(static_cast<double>(logits[i]));
        return std::log(s);
    }
};

/// Of a model with these formats and weights from the model without any, over all windows, on the positions that it keeps.
template <class Kind>
plain_divergence divergence_of(const aq::model_config& c, const std::vector<token_list>& windows,
                               const aq::model_options& options, const aq::weight_source& source,
                               const aq::activation_profile* profile) {
    using family = typename Kind::family;
    const aq::transformer<family> in_float = tiny_model<family>(c);
    aq::transformer<family> quantized;
    REQUIRE(quantized.load(c, options, source, profile) == aq::status::ok);
    plain_divergence result;
    for (const token_list& w : windows) {
        auto expecting = session_of(in_float), finding = session_of(quantized);
        const outcome_of_run expected = forward(expecting, w), found = forward(finding, w);
        for (std::size_t r = 0; r < found.kept.size(); ++r)
            result.add(expected.logits.data() + found.kept[r] * c.vocabulary, found.logits.data() + r * c.vocabulary,
                       c.vocabulary);
    }
    return result;
}

/// Two windows of different lengths.
inline std::vector<token_list> tiny_windows(const aq::model_config& c) {
    return {tiny_tokens(c, c.max_length), tiny_tokens(c, c.max_length / 2, 77)};
}

}  // namespace aq_test
