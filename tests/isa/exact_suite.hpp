/// \file
/// What every instruction set has to pass, wherever its instructions come from: exact_test.cpp runs it on the CPU's own,
/// emulated_exact_test.cpp on emulated ones. Each result is compared with scalar's, or with integers that are known, bit for bit.
#pragma once

#include <doctest/doctest.h>

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

/// Extreme codes of a depth: all of one sign, alternating, in pairs, one-hot; in the last columns only odd positions count. Row by row,
/// in blocks, and unpacked before.
inline void extremes(const aq::kernel_table& kernels, widths pair, std::size_t k) {
    const int w_high = (1 << pair.weights) - 1, a_high = pair.activations == 8 ? 127 : 15,
              a_low = pair.activations == 8 ? -127 : -7;
    constexpr std::size_t patterns = 12, m = 3 * patterns, n = 17;
    const auto activation = [&](std::size_t r, std::size_t c) {
        switch (r % patterns) {
            case 0: return a_high;
            case 1: return a_low;
            case 2: return c % 2 == 0 ? a_high : a_low;
            case 3: return c % 4 < 2 ? a_high : a_low;
            default: return c == (r % patterns - 4) * 7 ? a_low : 0;
        }
    };
    const auto weight = [&](std::size_t r, std::size_t c) { return r == 16 ? static_cast<int>(c % 2) * w_high : w_high; };
    const manual_product p(m, n, k, {pair.weights, true, 0}, pair.activations, weight, activation);
    const matrix blocks = p.product(kernels), unpacked = p.product(kernels, true);
    std::size_t wrong = 0;
    for (std::size_t r = 0; r < m; ++r) {
        std::int64_t plain = 0, odd = 0;
        for (std::size_t c = 0; c < k; ++c) {
            plain += w_high * activation(r, c);
            odd += c % 2 != 0 ? w_high * activation(r, c) : 0;
        }
        const matrix row = p.product(kernels, {false, 0, {r, r + 1}, {0, p.w.panels()}});
        for (std::size_t j = 0; j < n; ++j) {
            const float expected = static_cast<float>(j == 16 ? odd : plain);
            for (const matrix* y : {&row, &blocks, &unpacked}) wrong += y->at(r, j) == expected ? 0U : 1U;
        }
    }
    INFO(std::string(kernels.isa) << " W" << pair.weights << "A" << pair.activations << " k " << k);
    CHECK(wrong == 0);
}

/// At the depths where 16-bit sums are full, by the bound and in whole k_steps, and around them.
inline void bounds_of_16_bits(const kernel_list& tables) {
    for (const aq::kernel_table* kernels : tables) {
        for (const widths pair : kernel_widths) {
            // a pair sum has two of a step's four products, so `steps` of them take 4 * steps positions
            const auto bound = static_cast<std::size_t>(4 * aq::pair_sums_in_16_bits(pair.weights, pair.activations));
            const std::size_t in_k_steps = bound / aq::k_step * aq::k_step;
            for (std::size_t full : {bound, in_k_steps, 2 * in_k_steps}) {
                for (std::size_t k : {full == 0 ? 0 : full - 1, full, full + 1, full + 16}) extremes(*kernels, pair, k);
            }
            extremes(*kernels, pair, 1024);
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
        for (int zero : {0, largest}) {
            const manual_product p(
                m, 1, k, format, 8, [&](std::size_t, std::size_t) { return largest - zero; },
                [&](std::size_t, std::size_t) { return sign * 127; }, exponents, zero);
            const bool is_two_level = format.scales == aq::group_scales::integers;
            CHECK(static_cast<std::int64_t>(is_two_level ? p.w.layout.total_depth : p.w.layout.depth) == depth);
            for (bool has_scratch : {false, true}) {
                const matrix y = p.product(kernels, has_scratch);
                INFO(std::string(kernels.isa) << " W" << format.bits << " k " << k << " m " << m << " zero " << zero);
                CHECK(y.at(m - 1, 0) == static_cast<float>(sign * depth * (largest - 2 * zero) * 127));
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
