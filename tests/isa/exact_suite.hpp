/// \file
/// What every instruction set has to pass, wherever its instructions come from: exact_test.cpp runs it on the CPU's own,
/// emulated_exact_test.cpp on emulated ones. Each result is compared with scalar's, or with integers that are known, bit for bit.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "agilequant/kernels/epilogue.hpp"
#include "support/effort.hpp"
#include "support/manual_product.hpp"

namespace aq_test {

struct widths {
    int weights, activations;
};
/// One pair for each kernel of a table.
inline constexpr widths kernel_widths[] = {{2, 4}, {2, 8}, {4, 4}, {4, 8}, {8, 4}, {8, 8}};

/// Of `all` cases of a suite whose cases are short, those that this build runs.
constexpr std::size_t short_cases(std::size_t all, std::size_t least) { return std::max(cases(all), least); }

/// `count` random cases. Mostly small, so that edges of blocks are met often; one in fifty is so large that codes are unpacked first.
inline void random_products(const kernel_list& tables, std::uint64_t first, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t limit = i % 50 == 0 ? 300 : i % 4 == 0 ? 20 : 80;
        check_exact(tables, random_case(first + i, limit));
    }
}

/// An epilogue that looks at blocks on their way: each element of y comes by once, in its place.
struct watch {
    const outcome* expected;
    std::vector<int>* seen;  ///< [m,n]; far beyond 1 where a value is wrong
    std::size_t n;
    void operator()(const aq::output_block& b) const noexcept {
        for (std::size_t r = 0; r < b.rows; ++r) {
            for (std::size_t c = 0; c < b.cols; ++c) {
                const std::size_t at = (b.row + r) * n + b.col + c;
                const bool is_inside = at < seen->size() && b.col + c < n;
                const bool is_right = is_inside && aq::bits_of(b.values[r * b.stride + c]) == aq::bits_of(expected->y[at]);
                (*seen)[is_inside ? at : 0] += is_right ? 1 : 1000;
            }
        }
    }
};

/// One m by one n, with and without scratch; what is open is random.
inline void block_edge(const kernel_list& tables, std::size_t m, std::size_t n, widths pair, std::uint64_t seed) {
    gemm_case c = random_case(seed, 70);
    c.m = m;
    c.n = n;
    set_widths(c, pair.weights, pair.activations);
    const gemm_setup setup(c);
    const outcome expected = setup.run(aq::scalar::table);
    for (const aq::kernel_table* kernels : tables) {
        for (bool has_scratch : {false, true}) {
            INFO(std::string(kernels->isa) << ": " << text(c) << (has_scratch ? " scratch" : ""));
            std::vector<int> seen(m * n, 0);
            const aq::epilogue stages(watch{&expected, &seen, n});
            CHECK(setup.differing(expected, *kernels, setup.whole(has_scratch), stages.ref()) == 0);
            CHECK(seen == std::vector<int>(m * n, 1));
        }
    }
}

/// Numbers of rows and of columns around the edges of small blocks, of halves of panels, and of where codes are unpacked first.
inline constexpr std::size_t small_rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33};
inline constexpr std::size_t most_small_columns = 33;

/// All of them, with one pair of widths after the other.
inline void small_block_edges(const kernel_list& tables, std::uint64_t seed) {
    for (const std::size_t m : small_rows) {
        for (std::size_t n = 1; n <= most_small_columns; ++n, ++seed)
            block_edge(tables, m, n, kernel_widths[seed % std::size(kernel_widths)], seed);
    }
}

/// Every code of the weights by every code of the activations: row r of w is the code r throughout, row r of a one code throughout.
inline void code_pairs(const aq::kernel_table& kernels, widths pair, aq::group_scales scales, std::size_t k) {
    const int low = pair.activations == 8 ? -127 : -7, high = pair.activations == 8 ? 127 : 15;
    const auto m = static_cast<std::size_t>(high - low + 1), n = std::size_t{1} << pair.weights;
    aq::weight_format format{pair.weights, true, 0};
    format.scales = scales;
    const manual_product p(
        m, n, k, format, pair.activations, [](std::size_t r, std::size_t) { return static_cast<int>(r); },
        [&](std::size_t r, std::size_t) { return low + static_cast<int>(r); });
    const int multiplier = scales == aq::group_scales::integers ? manual_product::multiplier(pair.weights) : 1;
    for (bool has_scratch : {false, true}) {
        const matrix y = p.product(kernels, has_scratch);
        std::size_t wrong = 0;
        for (std::size_t r = 0; r < m; ++r) {
            for (std::size_t j = 0; j < n; ++j) {
                const int expected = (low + static_cast<int>(r)) * static_cast<int>(j) * static_cast<int>(k) * multiplier;
                wrong += y.at(r, j) == static_cast<float>(expected) ? 0U : 1U;
            }
        }
        INFO(std::string(kernels.isa) << " W" << pair.weights << "A" << pair.activations << " multiplier " << multiplier);
        CHECK(wrong == 0);
    }
}

/// A weight that is extreme: the highest code, the lowest (which is the farther one from where codes are centered), both in turn. In columns
/// 16 and 17 only odd positions count.
inline int extreme_weight(std::size_t column, std::size_t channel, int highest) {
    switch (column < 16 ? column % 4 : column) {
        case 0: return highest;
        case 1: return 0;
        case 2: return channel % 2 == 0 ? highest : 0;
        case 3: return channel % 8 < 4 ? highest : 0;  // steps of four in turn
        default: return (column - 16 + channel) % 2 == 0 ? 0 : highest;
    }
}

/// How many results are wrong, row by row, in blocks, and unpacked before.
struct mistakes {
    std::size_t in_rows = 0, in_blocks = 0, in_unpacked = 0;
};

/// Extreme codes of a depth: all of one sign, alternating, in pairs, one-hot; with zero points at either end.
inline mistakes wrong_extremes(const aq::kernel_table& kernels, widths pair, std::size_t k, int zero = 0,
                               aq::group_scales scales = aq::group_scales::floats) {
    const int w_high = (1 << pair.weights) - 1, a_high = pair.activations == 8 ? 127 : 15,
              a_low = pair.activations == 8 ? -127 : -7;
    constexpr std::size_t patterns = 12, m = 3 * patterns, n = 18;
    const auto activation = [&](std::size_t r, std::size_t c) {
        switch (r % patterns) {
            case 0: return a_high;
            case 1: return a_low;
            case 2: return c % 2 == 0 ? a_high : a_low;
            case 3: return c % 4 < 2 ? a_high : a_low;
            default: return c == (r % patterns - 4) * 7 ? a_low : 0;
        }
    };
    const auto weight = [&](std::size_t r, std::size_t c) { return extreme_weight(r, c, w_high); };
    aq::weight_format format{pair.weights, true, 0};
    format.scales = scales;
    const manual_product p(m, n, k, format, pair.activations, weight, activation, nullptr, zero);
    const int multiplier = scales == aq::group_scales::integers ? manual_product::multiplier(pair.weights) : 1;
    const matrix blocks = p.product(kernels), unpacked = p.product(kernels, true);
    mistakes wrong;
    for (std::size_t r = 0; r < m; ++r) {
        const matrix row = p.product(kernels, {false, 0, {r, r + 1}, {0, p.w.panels()}});
        for (std::size_t j = 0; j < n; ++j) {
            std::int64_t sum = 0;
            for (std::size_t c = 0; c < k; ++c) sum += (weight(j, c) - zero) * activation(r, c);
            const auto expected = static_cast<float>(sum * multiplier);
            wrong.in_rows += row.at(r, j) == expected ? 0U : 1U;
            wrong.in_blocks += blocks.at(r, j) == expected ? 0U : 1U;
            wrong.in_unpacked += unpacked.at(r, j) == expected ? 0U : 1U;
        }
    }
    return wrong;
}

inline void extremes(const aq::kernel_table& kernels, widths pair, std::size_t k, int zero = 0,
                     aq::group_scales scales = aq::group_scales::floats) {
    INFO(std::string(kernels.isa) << " W" << pair.weights << "A" << pair.activations << " k " << k << " zero " << zero
                                  << (scales == aq::group_scales::integers ? " two-level" : ""));
    const mistakes wrong = wrong_extremes(kernels, pair, k, zero, scales);
    CHECK(wrong.in_rows == 0);
    CHECK(wrong.in_blocks == 0);
    CHECK(wrong.in_unpacked == 0);
}

/// The depths around which 16-bit sums of some instruction set are full, by the bound and in whole k_steps, up to a k_step more: sums of
/// pairs, where a step of four positions adds two products to each, and sums of single products, where it adds one; of codes as they
/// are stored, and centered.
inline std::vector<std::size_t> depths_of_16_bits(widths pair) {
    const int highest = (1 << pair.weights) - 1, centered = 1 << (pair.weights - 1);
    std::vector<std::size_t> depths{1024};
    for (const int magnitude : {highest, centered}) {
        const std::int64_t products = aq::products_in_16_bits(magnitude, pair.activations);
        for (const std::int64_t steps : {products / 2, products}) {
            const auto bound = static_cast<std::size_t>(4 * steps);
            for (const std::size_t full : {bound, bound / aq::k_step * aq::k_step})
                depths.insert(depths.end(), {full == 0 ? 0 : full - 1, full, full + 1, full + 16});
        }
    }
    std::sort(depths.begin(), depths.end());
    depths.erase(std::unique(depths.begin(), depths.end()), depths.end());
    return depths;
}

/// At the depths where 16-bit sums are full.
inline void bounds_of_16_bits(const kernel_list& tables) {
    for (const aq::kernel_table* kernels : tables) {
        for (const widths pair : kernel_widths) {
            for (const std::size_t k : depths_of_16_bits(pair)) extremes(*kernels, pair, k);
            for (int zero : {0, (1 << pair.weights) - 1}) {
                for (std::size_t k : sizes{16, 128, 1024}) {
                    extremes(*kernels, pair, k, zero);
                    if (pair.weights < 8) extremes(*kernels, pair, k, zero, aq::group_scales::integers);
                }
            }
        }
    }
}

/// The largest sums that 32 bits hold: `m` rows, every code at its extreme, at the largest depth that is accepted.
struct deepest {
    const aq::kernel_table& kernels;
    std::size_t m;
    int sign;

    /// The largest code over a zero point of 0, and the code 0 under the largest zero point.
    void check(std::size_t k, aq::weight_format format, const std::uint8_t* exponents, std::int64_t depth) const {
        const int largest = (1 << format.bits) - 1;
        const bool is_two_level = format.scales == aq::group_scales::integers;
        const int factor = is_two_level ? manual_product::multiplier(format.bits) : 1;
        for (int zero : {0, largest}) {
            const manual_product p(
                m, 1, k, format, 8, [&](std::size_t, std::size_t) { return largest - zero; },
                [&](std::size_t, std::size_t) { return sign * 127; }, exponents, zero);
            CHECK(static_cast<std::int64_t>(is_two_level ? p.w.layout.total_depth : p.w.layout.depth) == depth);
            for (bool has_scratch : {false, true}) {
                const matrix y = p.product(kernels, has_scratch);
                INFO(std::string(kernels.isa) << " W" << format.bits << " k " << k << " m " << m << " zero " << zero);
                CHECK(y.at(m - 1, 0) == static_cast<float>(sign * depth * (largest - 2 * zero) * factor * 127));
            }
        }
    }

    /// Around 258 channels, whose activations add up to no more than 16 bits: above, zero points are multiplied differently.
    void sums_of_activations() const {
        aq::weight_format two_level{7, true, 0};
        two_level.scales = aq::group_scales::integers;
        const std::uint8_t exponents[] = {7, 7, 0, 0, 0};
        for (const aq::weight_format& format : {aq::weight_format{4, true, 0}, aq::weight_format{8, true, 0}, two_level}) {
            for (std::size_t k : sizes{257, 258, 259, 300}) check(k, format, nullptr, static_cast<std::int64_t>(k));
            check(4, format, exponents, 258);
            check(5, format, exponents, 259);
        }
    }

    /// Around 129 channels of 8-bit weights: from there on, a sum may exceed the 2^22 up to which some instruction sets convert it faster.
    void largest_started_sums() const {
        for (std::size_t k : sizes{128, 129, 130, 131}) check(k, {8, true, 0}, nullptr, static_cast<std::int64_t>(k));
        const std::uint8_t exponents[] = {1, 0, 0, 0};
        check(4, {8, true, 0}, exponents, 5);
    }

    /// Weights that are stored wider than they are may be multiplied as far more than they are, code - 8 or code - 128: then a sum leaves
    /// the 32 bits on its way, and has to come back when the zero point is taken away.
    void narrow_codes() const {
        for (int bits : {2, 3, 5, 6}) {
            const std::int64_t depth = aq::max_k(bits, 8);
            const auto largest = static_cast<std::size_t>(depth / 128), rest = static_cast<std::size_t>(depth % 128);
            std::vector<std::uint8_t> exponents(largest + rest, 7);
            std::fill(exponents.begin() + static_cast<std::ptrdiff_t>(largest), exponents.end(), std::uint8_t{0});
            check(exponents.size(), {bits, true, 0}, exponents.data(), depth);
        }
        aq::weight_format two_level{5, true, 32};
        two_level.scales = aq::group_scales::integers;
        check(4096, two_level, nullptr, 4096);
    }

    void plain() const { check(66311, {8, true, 0}, nullptr, 66311); }

    /// In Horner form: 518 channels of 2^7 and 7 of 2^0; of 4-bit weights, 8806 of 2^7 and 120 of 2^0.
    void horner() const {
        std::vector<std::uint8_t> exponents(8926, 7);
        for (std::size_t i = 518; i < 525; ++i) exponents[i] = 0;
        check(525, {8, true, 0}, exponents.data(), 66311);
        for (std::size_t i = 0; i < 8926; ++i) exponents[i] = i < 8806 ? 7 : 0;
        check(8926, {4, true, 0}, exponents.data(), 1127288);
    }

    /// Over all groups: 1040 channels of 2^7 and 24 of 2^0, and as many of 2^0 alone.
    void two_level() const {
        aq::weight_format format{7, true, 128};
        format.scales = aq::group_scales::integers;
        check(133144, format, nullptr, 133144);
        std::vector<std::uint8_t> exponents(1064, 7);
        for (std::size_t i = 1040; i < 1064; ++i) exponents[i] = 0;
        format.group = 32;
        check(1064, format, exponents.data(), 133144);
    }
};

}  // namespace aq_test
