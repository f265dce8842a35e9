/// \file
/// What a case of attention should make, from the definition: in double, for all cases; and bit for bit from integers, for exact ones.
#pragma once

#include <cstdint>

#include "kernels/attention_case.hpp"

namespace aq_test {

/// All numbers that a cache stands for, and the scales of its values.
struct cache_numbers {
    aq::kv_view view;
    std::vector<double> numbers;

    explicit cache_numbers(const aq::kv_view& v) : view(v) {
        for (const aq::kv_side side : {aq::kv_side::key, aq::kv_side::value})
            for (std::size_t h = 0; h < v.kv_heads; ++h)
                for (std::size_t t = 0; t < v.length; ++t)
                    for (std::size_t c = 0; c < v.head_dim; ++c) numbers.push_back(aq::kv_element(v, side, h, t, c));
    }
    const double* row(aq::kv_side side, std::size_t head, std::size_t token) const {
        const std::size_t first = side == aq::kv_side::key ? 0 : view.kv_heads;
        return numbers.data() + ((first + head) * view.length + token) * view.head_dim;
    }
    double value_scale(std::size_t head, std::size_t group, std::size_t token) const {
        return view.bits == 32
                   ? 1.0
                   : aq::bfloat16_to_float(view.value_scales[view.scale_at(head, group * view.group_channels(), token)]);
    }
};

/// One head of one row in double, from the numbers that the cache stands for.
struct expected_row {
    std::vector<double> t, score_error;            // base-2 scores, and a bound of float's error
    std::vector<std::vector<double>> weights;      // [groups][keys] of dequantized values
    std::vector<double> out, magnitude;            // sum of weights * value, of weights * |value|
    double importance = 0, distance_from_tie = 1;  // of the nearest code to a decision
    std::size_t rises = 0;                         // of a reference, from one chunk of keys to the next

    expected_row(const attention_case& c, const attention_operands& o, const cache_numbers& n, std::size_t head,
                 std::size_t row) {
        const aq::kv_view& v = n.view;
        const std::size_t kv_head = head / (c.heads / c.kv_heads), keys = c.length - c.rows + row + 1;
        score(c, o, n, head, kv_head, row, keys);
        for (std::size_t g = 0; g < v.groups(); ++g) weigh(c, n, kv_head, g, keys);
        out.assign(c.head_dim, 0.0);
        magnitude.assign(c.head_dim, 0.0);
        for (std::size_t j = 0; j < keys; ++j)
            for (std::size_t i = 0; i < c.head_dim; ++i) {
                const double value = n.row(aq::kv_side::value, kv_head, j)[i], w = weights[i / v.group_channels()][j];
                out[i] += w * value;
                magnitude[i] += w * std::abs(value);
            }
        for (const std::vector<double>& w : weights) importance += w[0] / static_cast<double>(v.groups());
    }

private:
    void score(const attention_case& c, const attention_operands& o, const cache_numbers& n, std::size_t head,
               std::size_t kv_head, std::size_t row, std::size_t keys) {
        constexpr double u = 0x1p-24;
        std::vector<double> q(c.head_dim);
        float largest = 0;
        for (std::size_t i = 0; i < c.head_dim; ++i) largest = std::max(largest, std::abs(o.q.at(row, head * c.head_dim + i)));
        const float scale = largest == 0.0F ? 1.0F : largest / 127.0F;
        for (std::size_t i = 0; i < c.head_dim; ++i) {
            const float x = o.q.at(row, head * c.head_dim + i);
            q[i] = c.bits == 32 ? static_cast<double>(x) : static_cast<double>(scale) * std::nearbyint(x * (1.0F / scale));
        }
        const double log2e = std::log2(std::exp(1.0));
        const double factor = o.scale == 0.0F ? 1 / std::sqrt(static_cast<double>(c.head_dim)) : static_cast<double>(o.scale);
        for (std::size_t j = 0; j < keys; ++j) {
            double dot = 0, size = 0;
            for (std::size_t i = 0; i < c.head_dim; ++i) {
                const double product = q[i] * n.row(aq::kv_side::key, kv_head, j)[i];
                dot += product;
                size += std::abs(product);
            }
            const double bias = c.has_slopes ? -static_cast<double>(o.slopes[head]) * static_cast<double>(keys - 1 - j) : 0.0;
            t.push_back((dot * factor + bias) * log2e);
            // 16 lanes and 4 halvings of products, or the sum over groups; scale, log2 e and the factor: 4; bias: 3; their sum: 1
            const double sums = static_cast<double>(c.head_dim) / 16 + 5;
            score_error.push_back(1.01 * u * log2e * ((sums + 4) * size * factor + 4 * std::abs(bias)) + u * std::abs(t.back()));
        }
    }

    void weigh(const attention_case& c, const cache_numbers& n, std::size_t kv_head, std::size_t group, std::size_t keys) {
        const aq::log2_form form = aq::form_of(c.coding);
        std::vector<double> folded = t, w(keys);  // t + log2 s
        double largest = 0, top = -1e300, sum = 0;
        for (std::size_t j = 0; j < keys; ++j) {
            const double scale = n.value_scale(kv_head, group, j);
            folded[j] += std::log2(scale);
            largest = std::max(largest, scale);
            top = std::max(top, t[j]);
        }
        for (std::size_t j = 0; j < keys; ++j) sum += w[j] = std::exp2(t[j] - top);
        if (form.is_coded) {
            const std::vector<double> over = references(form, folded, top + std::log2(sum) + std::log2(largest));
            sum = 0;
            for (std::size_t j = 0; j < keys; ++j) {
                const std::size_t chunk = j / aq::attention_chunk;
                const double x = form.steps * (over[chunk] - folded[j]), code = std::floor(x + 0.5);
                // the largest key's exponent is 0 on both sides, and what is beyond the codes decides nothing
                if (x < 15) distance_from_tie = std::min(distance_from_tie, std::abs(x - std::floor(x) - 0.5));
                // what was coded against a lower reference is shifted to the last
                const double weight = std::exp2(-std::max(code, 0.0) / form.steps - (over.back() - over[chunk]));
                sum += w[j] = code >= 15 ? 0.0 : weight / n.value_scale(kv_head, group, j);
            }
        }
        for (double& x : w) x = form.is_divided ? x / sum : x * largest;
        weights.push_back(w);
    }

    /// What has exponent 0 in each chunk of keys.
    std::vector<double> references(const aq::log2_form& form, const std::vector<double>& folded, double over_sum) {
        std::vector<double> all((folded.size() + aq::attention_chunk - 1) / aq::attention_chunk, over_sum);
        if (form.over == aq::log2_form::reference::sum) return all;
        const double maximum = *std::max_element(folded.begin(), folded.end());
        double reference = -1e300;
        for (std::size_t b = 0; b < all.size(); ++b) {
            all[b] = maximum;
            if (form.over != aq::log2_form::reference::ceiling) continue;
            const auto begin = folded.begin() + static_cast<std::ptrdiff_t>(b * aq::attention_chunk);
            const auto end = b + 1 == all.size() ? folded.end() : begin + static_cast<std::ptrdiff_t>(aq::attention_chunk);
            const double of_chunk = *std::max_element(begin, end);
            // an integer below the reference so far decides nothing
            if (std::nearbyint(of_chunk) >= reference)
                distance_from_tie = std::min(distance_from_tie, std::abs(of_chunk - std::nearbyint(of_chunk)));
            rises += b != 0 && std::ceil(of_chunk) > reference ? 1 : 0;
            reference = std::max(reference, std::ceil(of_chunk));
            all[b] = reference;
        }
        return all;
    }
};

/// One head of one row of an exact case, coded over a maximum or its ceiling: every bit. Scores are exact in double; weights times
/// codes are integers of 64 bits, which go to float where the definition says, plane by plane; the rest is float in its order.
struct exact_row {
    std::vector<float> out;
    float importance = 0.0F;

    exact_row(const attention_case& c, const attention_operands& o, const cache_numbers& n, std::size_t head, std::size_t row)
        : form_(aq::form_of(c.coding)), out_of_(n), kv_head_(head / (c.heads / c.kv_heads)), keys_(c.length - c.rows + row + 1) {
        bool is_exact = true;
        for (std::size_t j = 0; j < keys_; ++j) {
            double dot = 0;
            for (std::size_t i = 0; i < c.head_dim; ++i)
                dot += static_cast<double>(o.q.at(row, head * c.head_dim + i)) * n.row(aq::kv_side::key, kv_head_, j)[i];
            const double bias =
                c.has_slopes ? power(o.slopes[head]) * (static_cast<double>(j) - static_cast<double>(keys_ - 1)) : 0.0;
            scores_.push_back(dot * power(o.scale) + bias);
            is_exact = is_exact && static_cast<double>(static_cast<float>(scores_[j])) == scores_[j];
        }
        REQUIRE(is_exact);
        out.assign(c.head_dim, 0.0F);
        for (std::size_t g = 0; g < n.view.groups(); ++g) attend(g);
        importance /= static_cast<float>(n.view.groups());
    }

private:
    aq::log2_form form_;
    const cache_numbers& out_of_;
    std::size_t kv_head_, keys_;
    std::vector<double> scores_;

    /// As exact cases choose factors: a power of two, once it is multiplied by the float log2 e.
    static double power(float factor) { return static_cast<double>(factor / attention_operands::ln2); }

    /// Two planes of whole weights, and what they are worth.
    struct whole {
        std::int64_t first, second;
        float value;
    };
    whole weight_of(double x) const {
        const int code = static_cast<int>(std::nearbyint(std::min(std::max(x, 0.0), 15.0)));  // half to even
        if (code == 15) return {0, 0, 0.0F};
        if (form_.steps == 1) return {(32768 >> code) / 256, (32768 >> code) % 256, static_cast<float>(32768 >> code)};
        const std::int64_t w = 128 >> code / 2;
        if (code % 2 == 0) return {w, 0, static_cast<float>(w)};
        return {0, w, static_cast<float>(w) * aq::inverse_sqrt2};
    }

    struct channel_sum {
        std::int64_t first = 0, second = 0;
        float result = 0.0F;
    };
    void take(channel_sum& s, float factor) const {
        const float first = aq::rounded(static_cast<float>(s.first) * (form_.steps == 1 ? 256.0F : 1.0F));
        const float second = aq::rounded(static_cast<float>(s.second) * (form_.steps == 1 ? 1.0F : aq::inverse_sqrt2));
        s = {0, 0, (s.result + (first + second)) * factor};
    }

    void attend(std::size_t group) {
        const aq::kv_view& v = out_of_.view;
        const std::size_t begin = group * v.group_channels(), end = std::min(begin + v.group_channels(), out.size());
        std::vector<channel_sum> sums(end > begin ? end - begin : 0);
        std::vector<double> folded = scores_;
        bool is_exact = true;
        for (std::size_t j = 0; j < keys_; ++j) {
            const double log_scale = std::log2(out_of_.value_scale(kv_head_, group, j));
            is_exact = is_exact && log_scale == std::nearbyint(log_scale);
            folded[j] += log_scale;
        }
        REQUIRE(is_exact);
        double reference = -std::numeric_limits<double>::infinity();
        float lanes[16] = {}, first_weight = 0.0F;
        for (std::size_t j = 0; j < keys_; ++j) {
            if (j % aq::attention_chunk == 0) {
                const bool is_one_pass = form_.over == aq::log2_form::reference::ceiling;
                const std::size_t last = is_one_pass ? std::min(j + aq::attention_chunk, keys_) : keys_;
                double over = *std::max_element(folded.data() + j, folded.data() + last);
                if (is_one_pass) over = std::ceil(over);
                if (over > reference && (is_one_pass || j == 0)) {
                    const float factor = reference - over < -126.0 ? 0.0F : static_cast<float>(std::exp2(reference - over));
                    for (channel_sum& s : sums) take(s, factor);
                    for (float& lane : lanes) lane *= factor;
                    first_weight *= factor;
                    reference = over;
                }
            }
            const double scale = out_of_.value_scale(kv_head_, group, j);
            const whole w = weight_of(form_.steps * (reference - folded[j]));
            const float share = w.value * static_cast<float>(1 / scale);
            lanes[j % 16] += share;
            if (j == 0) first_weight = share;
            for (std::size_t i = begin; i < end; ++i) {
                const double value = out_of_.row(aq::kv_side::value, kv_head_, j)[i];
                channel_sum& s = sums[i - begin];
                if (v.bits == 32) {
                    s.result += aq::rounded(w.value * static_cast<float>(value));
                } else {
                    s.first += w.first * static_cast<std::int64_t>(value / scale);
                    s.second += w.second * static_cast<std::int64_t>(value / scale);
                }
            }
        }
        for (int half = 8; half > 0; half /= 2)
            for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
        for (std::size_t i = begin; i < end; ++i) {
            take(sums[i - begin], 1.0F);
            out[i] = sums[i - begin].result * (1.0F / lanes[0]);
        }
        importance += first_weight / lanes[0];
    }
};

}  // namespace aq_test
