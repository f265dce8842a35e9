/// \file
/// One case of attention, from a seed to every bit that it makes, and what it should make, in double from the definition.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "agilequant/dispatch/dispatch.hpp"
#include "agilequant/kernels/attention.hpp"
#include "agilequant/model/kv_cache.hpp"
#include "support/random.hpp"
#include "support/status_text.hpp"

namespace aq_test {

constexpr aq::probability_coding all_codings[] = {
    aq::probability_coding::softmax,          aq::probability_coding::log2_paper,   aq::probability_coding::log2_normalized,
    aq::probability_coding::log2_maximum,     aq::probability_coding::log2_ceiling, aq::probability_coding::log2_half_maximum,
    aq::probability_coding::log2_half_ceiling};

struct attention_case {
    std::size_t length = 1, rows = 1, heads = 1, kv_heads = 1, head_dim = 16;
    int bits = 32;
    aq::probability_coding coding = aq::probability_coding::softmax;
    bool has_slopes = false, has_nan = false;
    std::uint64_t seed = 1;
};

inline std::string text(const attention_case& c) {
    std::ostringstream s;
    s << "length " << c.length << " rows " << c.rows << " heads " << c.heads << "/" << c.kv_heads << " of " << c.head_dim
      << " bits " << c.bits << " coding " << static_cast<int>(c.coding) << (c.has_slopes ? " slopes" : "") << " seed " << c.seed;
    return s.str();
}

/// The operands of a case. Values differ in size from token to token, as scales that are folded must.
struct attention_operands {
    matrix q, k, v;
    std::vector<float> slopes;
    aq::kv_cache cache;

    explicit attention_operands(const attention_case& c) : q(0, 1), k(0, 1), v(0, 1) {
        random_source random(c.seed);
        q = random_matrix(random, c.rows, c.heads * c.head_dim, c.seed % 3);
        k = random_matrix(random, c.length, c.kv_heads * c.head_dim);
        v = random_matrix(random, c.length, c.kv_heads * c.head_dim);
        for (std::size_t t = 0; t < c.length; ++t) {
            const float size = 1.0F + 0.25F * static_cast<float>(random.below(12));
            for (std::size_t i = 0; i < v.cols; ++i) v.at(t, i) *= size;
        }
        if (c.has_nan) k.at(c.length / 2, 0) = std::numeric_limits<float>::quiet_NaN();
        for (std::size_t h = 0; h < c.heads; ++h) slopes.push_back(0.01F * static_cast<float>(h + 1));
        REQUIRE(cache.reset(c.kv_heads, c.head_dim, c.length, c.bits) == aq::status::ok);
        REQUIRE(cache.append(k.view(), v.view()) == aq::status::ok);
    }
    aq::attention_job job(const attention_case& c, matrix& out, std::vector<float>& importance) const {
        aq::attention_job j;
        j.q = q.view();
        j.cache = cache.view();
        j.out = out.view();
        j.heads = c.heads;
        j.coding = c.coding;
        j.slopes = c.has_slopes ? slopes.data() : nullptr;
        j.importance = importance.data();
        return j;
    }
};

struct attention_outcome {
    matrix out;
    std::vector<float> importance;
};

inline aq::status run(const aq::kernel_table& kernels, const aq::attention_job& job) {
    aq::aligned_buffer<std::byte> scratch;
    REQUIRE(scratch.reset(aq::attention_scratch_bytes(job.cache)) == aq::status::ok);
    std::memset(scratch.data(), 0xFF, scratch.size());
    return aq::attention(kernels, job, scratch.data(), scratch.size());
}

inline attention_outcome attend(const aq::kernel_table& kernels, const attention_case& c, const attention_operands& o) {
    attention_outcome r{matrix(c.rows, c.heads * c.head_dim, 3), std::vector<float>(c.heads * c.rows)};
    REQUIRE(run(kernels, o.job(c, r.out, r.importance)) == aq::status::ok);
    return r;
}
inline attention_outcome attend(const aq::kernel_table& kernels, const attention_case& c) {
    return attend(kernels, c, attention_operands(c));
}

/// How many numbers differ in any bit; what is between the rows counts too.
inline std::size_t differing(const std::vector<float>& a, const std::vector<float>& b) {
    std::size_t count = a.size() == b.size() ? 0 : 1;
    for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) count += std::memcmp(&a[i], &b[i], sizeof(float)) == 0 ? 0 : 1;
    return count;
}
inline std::size_t differing(const attention_outcome& a, const attention_outcome& b) {
    return differing(a.out.data, b.out.data) + differing(a.importance, b.importance);
}

/// One head of one row in double, from the numbers that the cache stands for.
struct expected_row {
    std::vector<double> t, score_error;            // base-2 scores, and a bound of float's error
    std::vector<std::vector<double>> weights;      // [planes][keys] of dequantized values
    std::vector<double> out, magnitude;            // sum of weights * value, of weights * |value|
    double importance = 0, distance_from_tie = 1;  // of the nearest code to a decision

    expected_row(const attention_case& c, const attention_operands& o, std::size_t head, std::size_t row) {
        const aq::kv_view v = o.cache.view();
        const std::size_t kv_head = head / (c.heads / c.kv_heads), keys = c.length - c.rows + row + 1;
        score(c, o, v, head, kv_head, row, keys);
        for (std::size_t p = 0; p < v.planes(); ++p) weigh(c, v, kv_head, p, keys);
        out.assign(c.head_dim, 0.0);
        magnitude.assign(c.head_dim, 0.0);
        for (std::size_t i = 0; i < c.head_dim; ++i)
            for (std::size_t j = 0; j < keys; ++j) {
                const double value = aq::kv_element(v, aq::kv_side::value, kv_head, j, i), w = weights[i / v.plane_channels()][j];
                out[i] += w * value;
                magnitude[i] += w * std::abs(value);
            }
        for (const std::vector<double>& w : weights) importance += w[0] / static_cast<double>(v.planes());
    }

private:
    void score(const attention_case& c, const attention_operands& o, const aq::kv_view& v, std::size_t head, std::size_t kv_head,
               std::size_t row, std::size_t keys) {
        constexpr double u = 0x1p-24;
        std::vector<double> q(c.head_dim);
        float largest = 0;
        for (std::size_t i = 0; i < c.head_dim; ++i) largest = std::max(largest, std::abs(o.q.at(row, head * c.head_dim + i)));
        const float scale = largest == 0.0F ? 1.0F : largest / 127.0F;
        for (std::size_t i = 0; i < c.head_dim; ++i) {
            const float x = o.q.at(row, head * c.head_dim + i);
            q[i] = c.bits == 32 ? static_cast<double>(x) : static_cast<double>(scale) * std::nearbyint(x * (1.0F / scale));
        }
        const double factor = std::log2(std::exp(1.0)), root = std::sqrt(static_cast<double>(c.head_dim));
        for (std::size_t j = 0; j < keys; ++j) {
            double dot = 0, size = 0;
            for (std::size_t i = 0; i < c.head_dim; ++i) {
                const double product = q[i] * static_cast<double>(aq::kv_element(v, aq::kv_side::key, kv_head, j, i));
                dot += product;
                size += std::abs(product);
            }
            const double bias = c.has_slopes ? -static_cast<double>(o.slopes[head]) * static_cast<double>(keys - 1 - j) : 0.0;
            t.push_back((dot / root + bias) * factor);
            // 16 lanes and 4 halvings of products, or the sum over planes; scale, log2 e and the factor: 4; bias: 3; their sum: 1
            const double sums = static_cast<double>(c.head_dim) / 16 + 5;
            score_error.push_back(1.01 * u * factor * ((sums + 4) * size / root + 4 * std::abs(bias)) + u * std::abs(t.back()));
        }
    }

    void weigh(const attention_case& c, const aq::kv_view& v, std::size_t kv_head, std::size_t plane, std::size_t keys) {
        const aq::log2_form form = aq::form_of(c.coding);
        std::vector<double> scales(keys, 1.0), w(keys);
        for (std::size_t j = 0; c.bits != 32 && j < keys; ++j) {
            scales[j] = aq::bfloat16_to_float(v.value_scales[(kv_head * v.planes() + plane) * v.capacity + j]);
        }
        const double top = *std::max_element(t.begin(), t.end()), largest = *std::max_element(scales.begin(), scales.end());
        double sum = 0;
        for (std::size_t j = 0; j < keys; ++j) sum += w[j] = std::exp2(t[j] - top);
        if (form.is_coded) {
            double over = top + std::log2(sum) + std::log2(largest);
            if (form.over != aq::log2_form::reference::sum) {
                over = -1e300;
                for (std::size_t j = 0; j < keys; ++j) over = std::max(over, t[j] + std::log2(scales[j]));
            }
            if (form.over == aq::log2_form::reference::ceiling) {
                distance_from_tie = std::min(distance_from_tie, std::abs(over - std::nearbyint(over)));
                over = std::ceil(over);
            }
            sum = 0;
            for (std::size_t j = 0; j < keys; ++j) {
                const double x = form.steps * (over - t[j] - std::log2(scales[j])), code = std::floor(x + 0.5);
                // the largest key's exponent is 0 on both sides, and what is far beyond the codes decides nothing
                distance_from_tie = std::min(distance_from_tie, std::abs(x - std::floor(x) - 0.5));
                w[j] = code >= 15 ? 0.0 : std::exp2(-std::max(code, 0.0) / form.steps) / scales[j];
                sum += w[j];
            }
        }
        for (double& x : w) x = form.is_divided ? x / sum : x * largest;
        weights.push_back(w);
    }
};

}  // namespace aq_test
