/// \file
/// One case of a quantized product, from a seed to every bit that it makes, and the comparison that all exact suites use.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

#include "agilequant/dispatch/dispatch.hpp"
#include "agilequant/kernels/gemm.hpp"
#include "support/random.hpp"
#include "support/status_text.hpp"

namespace aq_test {

enum class trip { none, random, falling, all_seven };

struct gemm_case {
    std::size_t m = 1, n = 1, k = 1;
    aq::weight_format weights;
    int activation_bits = 8;
    bool is_asymmetric = false, is_static = false;
    trip exponents = trip::none;
    std::uint64_t seed = 1;
};

inline std::string text(const gemm_case& c) {
    std::ostringstream s;
    s << "m " << c.m << " n " << c.n << " k " << c.k << " W" << c.weights.bits
      << (c.weights.is_asymmetric ? " asymmetric" : " symmetric") << " group " << c.weights.group << " A" << c.activation_bits
      << (c.is_asymmetric ? " asymmetric" : " symmetric") << (c.is_static ? " static" : " per token") << " trip "
      << static_cast<int>(c.exponents) << " seed " << c.seed;
    return s.str();
}

/// Everything that a product computes.
struct outcome {
    std::vector<std::int8_t> codes;
    std::vector<float> scales, y;
    std::vector<std::int32_t> zeros, sums;
};

namespace detail {
template <class T>
std::size_t differing(const std::vector<T>& a, const std::vector<T>& b) {
    std::size_t count = a.size() == b.size() ? 0 : 1;
    for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) count += std::memcmp(&a[i], &b[i], sizeof(T)) == 0 ? 0 : 1;
    return count;
}
}  // namespace detail

/// How many elements differ in any bit.
inline std::size_t differing(const outcome& a, const outcome& b) {
    return detail::differing(a.codes, b.codes) + detail::differing(a.scales, b.scales) + detail::differing(a.zeros, b.zeros) +
           detail::differing(a.sums, b.sums) + detail::differing(a.y, b.y);
}

/// Activations in memory of their own, which held 0xFF before.
struct activation_buffer {
    aq::aligned_buffer<std::byte> storage, scratch;
    aq::activations_view view;

    activation_buffer(std::size_t m, const aq::k_layout_view& layout, const aq::activation_format& format) {
        REQUIRE(storage.reset(aq::activation_bytes(m, layout)) == aq::status::ok);
        REQUIRE(scratch.reset(aq::quantize_scratch_bytes(layout)) == aq::status::ok);
        if (storage.size() != 0) std::memset(storage.data(), 0xFF, storage.size());
        if (scratch.size() != 0) std::memset(scratch.data(), 0xFF, scratch.size());
        REQUIRE(aq::place_activations(m, layout, format, storage.data(), storage.size(), view) == aq::status::ok);
    }
};

/// The inputs of a case.
class gemm_setup {
public:
    gemm_case what;
    std::vector<std::uint8_t> exponents;  ///< [k] or empty
    matrix x, w;
    aq::packed_storage<> packed;
    aq::activation_format format;

    explicit gemm_setup(const gemm_case& c) : what(c), x(0, 0), w(0, 0) {
        random_source random(c.seed);
        if (c.exponents != trip::none) exponents.resize(c.k);
        for (std::size_t i = 0; i < exponents.size(); ++i) {
            const std::size_t falling = 7 - 7 * i / c.k;
            exponents[i] = static_cast<std::uint8_t>(c.exponents == trip::random    ? random.below(8)
                                                     : c.exponents == trip::falling ? falling
                                                                                    : 7);
        }
        x = random_matrix(random, c.m, c.k, random.below(4));
        w = random_matrix(random, c.n, c.k, random.below(4));
        for (std::size_t i = 0; i < exponents.size(); ++i) {  // channels as large as their exponents say
            for (std::size_t r = 0; r < c.m; ++r) x.at(r, i) *= static_cast<float>(1 << exponents[i]);
        }
        REQUIRE(aq::pack(std::as_const(w).view(), c.weights, exponents.empty() ? nullptr : exponents.data(), packed) ==
                aq::status::ok);
        format.bits = c.activation_bits;
        format.is_asymmetric = c.is_asymmetric;
        format.is_static = c.is_static;
        // calibrated on other data: some values lie beyond its range
        const aq::value_range range{-1.75F, 2.25F};
        if (c.is_static)
            format.fixed = aq::fit(range, aq::activation_codes(format.bits, format.is_asymmetric), format.is_asymmetric);
    }

    aq::packed_weights weights() const { return packed.view(); }

    /// Quantizes and multiplies with `kernels`.
    outcome run(const aq::kernel_table& kernels) const {
        const aq::packed_weights packed_w = packed.view();
        activation_buffer a(what.m, packed_w.layout, format);
        matrix y(what.m, what.n);
        REQUIRE(aq::quantize_rows(kernels, x.view(), packed_w.layout, format, {0, what.m}, a.scratch.data(), a.scratch.size(),
                                  a.view) == aq::status::ok);
        REQUIRE(aq::gemm(kernels, {packed_w, a.view, y.view(), {}}) == aq::status::ok);
        return collect(a.view, packed_w.layout, y);
    }

    static outcome collect(const aq::activations_view& a, const aq::k_layout_view& layout, const matrix& y) {
        outcome o;
        o.codes.assign(a.codes, a.codes + a.m * layout.packed);
        o.scales.assign(a.scales, a.scales + a.m);
        o.zeros.assign(a.zeros, a.zeros + a.m);
        o.sums.assign(a.sums, a.sums + a.m * layout.groups);
        for (std::size_t r = 0; r < y.rows; ++r) {
            for (std::size_t c = 0; c < y.cols; ++c) o.y.push_back(y.at(r, c));
        }
        return o;
    }
};

/// In how many elements `actual` differs from `expected` on this case: what every exact suite asks.
inline std::size_t differing(const aq::kernel_table& expected, const aq::kernel_table& actual, const gemm_case& c) {
    const gemm_setup setup(c);
    return differing(setup.run(expected), setup.run(actual));
}

/// The instruction sets that run here.
inline std::vector<const aq::kernel_table*> runnable_kernels() {
    std::vector<const aq::kernel_table*> tables;
    for (const aq::isa_entry& e : aq::isa_entries) {
        if (e.runs_on(aq::isa::this_cpu())) tables.push_back(e.kernels);
    }
    return tables;
}

/// A random case of sizes up to `limit`.
inline gemm_case random_case(std::uint64_t seed, std::size_t limit) {
    random_source random(seed * 7919);
    gemm_case c;
    c.seed = seed;
    c.m = random.below(limit + 1);
    c.n = random.below(limit + 1);
    c.k = random.below(limit + 1);
    c.weights.bits = random.between(2, 8);
    c.weights.is_asymmetric = random.flip();
    constexpr std::size_t groups[] = {0, 1, 3, 5, 16, 17, 32, 100, 128};
    c.weights.group = groups[random.below(std::size(groups))];
    c.activation_bits = random.between(2, 8);
    c.is_asymmetric = random.flip();
    c.is_static = random.flip();
    c.exponents = static_cast<trip>(random.below(4));
    return c;
}

}  // namespace aq_test
