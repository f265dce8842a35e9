/// \file
/// One case of attention, from a seed to every bit that it makes. What it should make: attention_expected.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
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
    std::size_t group = 0;  ///< as kv_cache::reset has it
    aq::probability_coding coding = aq::probability_coding::softmax;
    bool has_slopes = false, has_nan = false;
    bool is_rising = false;  ///< keys grow along the sequence, and with them the maximum
    bool is_exact = false;   ///< codes are chosen, scales are powers of two: every score is exact, and ties are met
    bool is_flat = false;    ///< such that nearly all weights are the largest, and all values large: sums no float holds
    std::uint64_t seed = 1;
};

inline std::string text(const attention_case& c) {
    std::ostringstream s;
    s << "length " << c.length << " rows " << c.rows << " heads " << c.heads << "/" << c.kv_heads << " of " << c.head_dim
      << " bits " << c.bits << " group " << c.group << " coding " << static_cast<int>(c.coding) << (c.has_slopes ? " slopes" : "")
      << (c.has_nan ? " nan" : "") << (c.is_rising ? " rising" : "") << (c.is_exact ? " exact" : "") << (c.is_flat ? " flat" : "")
      << " seed " << c.seed;
    return s.str();
}

/// The operands of a case.
struct attention_operands {
    static constexpr float ln2 = 0.693147182F;  ///< times the float log2 e, and rounded, it is 1
    matrix q, k, v;
    std::vector<float> slopes;
    float scale = 0.0F;
    aq::kv_cache cache;

    explicit attention_operands(const attention_case& c) : q(0, 1), k(0, 1), v(0, 1) {
        random_source random(c.seed);
        if (c.is_exact) fill_exact(random, c);
        else fill(random, c);
        if (c.has_nan) k.at(c.length / 2, 0) = std::numeric_limits<float>::quiet_NaN();
        REQUIRE(cache.reset(c.kv_heads, c.head_dim, c.length, c.bits, c.group) == aq::status::ok);
        REQUIRE(cache.append(k.view(), v.view()) == aq::status::ok);
    }
    aq::attention_job job(const attention_case& c, matrix& out, std::vector<float>& importance) const {
        aq::attention_job j;
        j.q = q.view();
        j.cache = cache.view();
        j.out = out.view();
        j.heads = c.heads;
        j.coding = c.coding;
        j.scale = scale;
        j.slopes = c.has_slopes ? slopes.data() : nullptr;
        j.importance = importance.data();
        return j;
    }

private:
    /// Values differ in size from token to token, as scales that are folded must.
    void fill(random_source& random, const attention_case& c) {
        q = random_matrix(random, c.rows, c.heads * c.head_dim, c.seed % 3);
        k = random_matrix(random, c.length, c.kv_heads * c.head_dim);
        v = random_matrix(random, c.length, c.kv_heads * c.head_dim);
        for (std::size_t t = 0; t < c.length; ++t) {
            const float size = 1.0F + 0.25F * static_cast<float>(random.below(12));
            const float growth = c.is_rising ? 0.25F + 3.0F * static_cast<float>(t) / static_cast<float>(c.length) : 1.0F;
            for (std::size_t i = 0; i < v.cols; ++i) v.at(t, i) *= size, k.at(t, i) *= growth;
        }
        for (std::size_t h = 0; h < c.heads; ++h) slopes.push_back(0.01F * static_cast<float>(h + 1));
    }

    /// The codes of a query fill 8 bits, at scale 1; those of a group of keys or values their width, at a power of two.
    void fill_exact(random_source& random, const attention_case& c) {
        q = matrix(c.rows, c.heads * c.head_dim, c.seed % 3);
        for (std::size_t i = 0; i < c.rows * q.cols; ++i) {
            q.at(i / q.cols, i % q.cols) = static_cast<float>(i % c.head_dim == 0 ? 127 : random.between(-24, 24));
        }
        k = v = matrix(c.length, c.kv_heads * c.head_dim);
        aq::kv_view shape;
        shape.head_dim = c.head_dim, shape.group = c.group == 0 ? aq::usual_kv_group(c.bits) : c.group;
        const std::size_t group = shape.group_channels();
        for (std::size_t t = 0; t < c.length; ++t)
            for (std::size_t first = 0; first < k.cols; first += c.head_dim)
                for (std::size_t i = 0; i < c.head_dim; i += group) {
                    const std::size_t count = std::min(group, c.head_dim - i);
                    fill_codes(random, c, random.between(-1, 0), count, &k.at(t, first + i));
                    fill_codes(random, c, c.is_flat ? 0 : random.between(-2, 2), count, &v.at(t, first + i));
                }
        scale = ln2 * (c.bits == 4 ? 0x1p-7F : 0x1p-11F);
        if (c.is_flat) flatten(c);
        for (std::size_t h = 0; h < c.heads; ++h)
            slopes.push_back(ln2 * (h % 3 == 2 ? -0x1p-6F : h % 3 == 1 ? 0x1p-9F : 0x1p-5F));
    }

    /// All scores become 0, but those of some keys 6.9 octaves less.
    void flatten(const attention_case& c) {
        for (std::size_t i = 0; i < c.rows * q.cols; ++i)
            if (i % c.head_dim != 0) q.at(i / q.cols, i % q.cols) = 0.0F;
        for (std::size_t t = 0; t < c.length; ++t)
            for (std::size_t first = 0; first < k.cols; first += c.head_dim) {
                std::fill_n(&k.at(t, first), c.head_dim, 0.0F);
                if (t % 16 != 5) continue;
                k.at(t, first) = c.bits == 4 ? -7.0F : -112.0F;
                k.at(t, first + 1) = c.bits == 4 ? 8.0F : 127.0F;
            }
    }

    static void fill_codes(random_source& random, const attention_case& c, int exponent, std::size_t count, float* x) {
        const int zero = random.between(0, 15), last = c.bits == 4 ? 15 - zero : 127,
                  first = c.bits == 4 ? -zero
                          : c.is_flat ? 100
                                      : -127;
        const std::size_t a = random.below(count), b = count == 1 ? a : (a + 1 + random.below(count - 1)) % count;
        const float unit = std::ldexp(1.0F, exponent);
        for (std::size_t i = 0; i < count; ++i) x[i] = unit * static_cast<float>(random.between(first, last));
        if (c.bits == 4) x[b] = unit * static_cast<float>(first);
        x[a] = unit * static_cast<float>(c.bits != 4 ? (c.is_flat || random.flip() ? 127 : -127) : a == b ? 15 : last);
    }
};

struct attention_outcome {
    matrix out;
    std::vector<float> importance;
};

inline aq::status run(const aq::kernel_table& kernels, const aq::attention_job& job) {
    aq::aligned_buffer<std::byte> scratch;
    REQUIRE(scratch.reset(aq::attention_scratch_bytes(job.cache, job.coding)) == aq::status::ok);
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

/// Case number i of a walk through all codings and widths, with shapes that fit no register, no block and no chunk.
inline attention_case case_number(std::size_t i) {
    random_source random(1000 + i);
    constexpr int widths[] = {32, 8, 4};
    constexpr std::size_t dims[] = {1, 8, 15, 16, 17, 32, 40, 64, 80, 100, 128, 256}, groups[] = {0, 16, 32, 48, 64, 256},
                          near_a_chunk[] = {255, 256, 257, 258, 271, 273, 511, 512, 513},
                          primes[] = {263, 307, 401, 521, 613, 769};
    attention_case c;
    c.coding = all_codings[i % 7];
    c.bits = widths[i / 7 % 3];
    c.head_dim = dims[random.below(12)];
    c.group = groups[random.below(6)];
    c.kv_heads = 1 + random.below(3);
    c.heads = c.kv_heads * (1 + random.below(random.below(4) == 0 ? 8 : 3));
    const std::size_t kind = random.below(12);
    c.length = kind == 0   ? near_a_chunk[random.below(std::size(near_a_chunk))]
               : kind == 1 ? primes[random.below(std::size(primes))]
                           : 1 + random.below(kind < 6 ? 90 : 40);
    c.rows = 1 + random.below(std::min<std::size_t>(c.length, 6));
    if (kind == 2) {  // more queries than are worked on together, in chunks that some of them do not see
        c.kv_heads = 1, c.heads = 1 + random.below(4);
        c.head_dim = dims[random.below(7)];
        c.rows = 49 + random.below(270);
        c.length = c.rows + random.below(300);
    }
    c.has_slopes = random.flip();
    c.is_rising = c.length > 90 && random.flip();
    c.is_exact = random.below(4) == 0;
    if (i % 60 == 22) {  // 8 bits, half octaves: sums beyond what a float holds
        c.is_exact = c.is_flat = true;
        c.coding = aq::probability_coding::log2_half_maximum, c.bits = 8;
        c.length = 1531, c.rows = 2, c.kv_heads = 1, c.heads = 2, c.head_dim = 40;
    }
    c.seed = 1000 + i;
    return c;
}

}  // namespace aq_test
