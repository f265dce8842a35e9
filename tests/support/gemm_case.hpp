/// \file
/// One case of a quantized product, from a seed to every bit that it makes, and the comparison that all exact suites use.
/// What is computed (gemm_case) is apart from how it is asked for (gemm_request): the latter must not be seen in a result.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

#include "agilequant/kernels/gemm.hpp"
#include "support/guarded.hpp"
#include "support/kernel_lists.hpp"
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
      << (c.weights.is_asymmetric ? " asymmetric" : " symmetric") << " group " << c.weights.group
      << (c.weights.scales == aq::group_scales::integers ? " two-level" : "") << " A" << c.activation_bits
      << (c.is_asymmetric ? " asymmetric" : " symmetric") << (c.is_static ? " static" : " per token") << " trip "
      << static_cast<int>(c.exponents) << " seed " << c.seed;
    return s.str();
}

/// How a product is asked for.
struct gemm_request {
    bool has_scratch = false;
    std::size_t gap = 0;  ///< between the rows of y
    aq::index_range rows, panels;
};

inline std::string text(const gemm_request& q) {
    std::ostringstream s;
    s << "rows " << q.rows.begin << ".." << q.rows.end << " panels " << q.panels.begin << ".." << q.panels.end << " gap " << q.gap
      << (q.has_scratch ? " scratch" : "");
    return s.str();
}

/// Everything that a product computes.
struct outcome {
    std::vector<std::int8_t> codes;  ///< [m, packed]
    std::vector<std::int8_t> tails;  ///< what is behind the last position of each row of codes
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
    return detail::differing(a.codes, b.codes) + detail::differing(a.tails, b.tails) + detail::differing(a.scales, b.scales) +
           detail::differing(a.zeros, b.zeros) + detail::differing(a.sums, b.sums) + detail::differing(a.y, b.y);
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

/// y as `kernels` make it; what they were not asked for is NaN, as every element of a new matrix is. The scratch held 0xFF before,
/// is no byte larger than gemm_scratch_bytes says, and ends at an unreadable page.
inline matrix product(const aq::kernel_table& kernels, const aq::packed_weights& w, const aq::activations_view& a,
                      const gemm_request& request, aq::epilogue_ref epilogue = {}) {
    matrix y(a.m, w.n, request.gap);
    const std::size_t bytes = request.has_scratch ? aq::gemm_scratch_bytes(kernels, w) : 0;
    guarded<std::byte> scratch(aq::round_up(bytes, aq::cache_line_bytes), guard::after);
    REQUIRE(aq::gemm(kernels, {w, a, y.view(), epilogue}, request.rows, request.panels,
                     request.has_scratch ? scratch.data() : nullptr, bytes) == aq::status::ok);
    return y;
}

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

    /// All of y, without a gap, with or without scratch.
    gemm_request whole(bool has_scratch = false) const { return {has_scratch, 0, {0, what.m}, {0, packed.view().panels()}}; }

    /// A request of this case; half of them ask for a part of y.
    gemm_request random_request(random_source& random) const {
        gemm_request q = whole(random.flip());
        q.gap = random.below(4);
        if (random.flip()) {
            q.rows.begin = random.below(q.rows.end + 1);
            q.rows.end = q.rows.begin + random.below(what.m - q.rows.begin + 1);
            q.panels.begin = random.below(q.panels.end + 1);
            q.panels.end = q.panels.begin + random.below(weights().panels() - q.panels.begin + 1);
        }
        return q;
    }

    /// x as `kernels` quantize it.
    activation_buffer activations(const aq::kernel_table& kernels) const {
        const aq::k_layout_view layout = packed.view().layout;
        activation_buffer a(what.m, layout, format);
        REQUIRE(aq::quantize_rows(kernels, x.view(), layout, format, {0, what.m}, a.scratch.data(), a.scratch.size(), a.view) ==
                aq::status::ok);
        return a;
    }

    /// Quantizes and multiplies with `kernels`.
    outcome run(const aq::kernel_table& kernels, bool has_scratch = false) const {
        const activation_buffer a = activations(kernels);
        return collect(a.view, packed.view().layout, product(kernels, packed.view(), a.view, whole(has_scratch)));
    }

    /// In how many elements `kernels`, asked like this, differ from `expected`, the outcome of the whole product.
    std::size_t differing(const outcome& expected, const aq::kernel_table& kernels, const gemm_request& request,
                          aq::epilogue_ref epilogue = {}) const {
        const activation_buffer a = activations(kernels);
        const matrix y = product(kernels, packed.view(), a.view, request, epilogue);
        outcome actual = collect(a.view, packed.view().layout, y);
        std::size_t outside = 0;  // what was not asked for, and the gaps, must be as they were
        const std::uint32_t untouched = aq::bits_of(matrix(1, 1).data[0]);
        for (std::size_t r = 0; r < what.m; ++r) {
            for (std::size_t c = 0; c < y.stride; ++c) {
                const bool in_rows = r >= request.rows.begin && r < request.rows.end;
                if (in_rows && c < what.n && c / 16 >= request.panels.begin && c / 16 < request.panels.end) continue;
                outside += aq::bits_of(y.data[r * y.stride + c]) == untouched ? 0 : 1;
                if (c < what.n) actual.y[r * what.n + c] = expected.y[r * what.n + c];
            }
        }
        return outside + aq_test::differing(expected, actual);
    }

    static outcome collect(const aq::activations_view& a, const aq::k_layout_view& layout, const matrix& y) {
        outcome o;
        for (std::size_t r = 0; r < a.m; ++r) {
            const std::int8_t* const row = a.codes + r * a.stride;
            o.codes.insert(o.codes.end(), row, row + layout.packed);
            o.tails.insert(o.tails.end(), row + layout.packed, row + a.stride);
        }
        o.scales.assign(a.scales, a.scales + a.m);
        o.zeros.assign(a.zeros, a.zeros + a.m);
        o.sums.assign(a.sums, a.sums + a.m * layout.groups);
        for (std::size_t r = 0; r < y.rows; ++r) {
            for (std::size_t c = 0; c < y.cols; ++c) o.y.push_back(y.at(r, c));
        }
        return o;
    }
};

/// Checks every table on a case against scalar's plain product, which is computed once; each is asked in a way of its own.
inline void check_exact(const kernel_list& tables, const gemm_case& c) {
    const gemm_setup setup(c);
    const outcome expected = setup.run(aq::scalar::table);
    random_source random(c.seed + 1);
    for (const aq::kernel_table* kernels : tables) {
        const gemm_request request = setup.random_request(random);
        INFO(std::string(kernels->isa) << ": " << text(c) << ", " << text(request));
        CHECK(setup.differing(expected, *kernels, request) == 0);
    }
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
    const bool is_two_level = random.flip() && c.weights.bits < 8;
    c.weights.scales = is_two_level ? aq::group_scales::integers : aq::group_scales::floats;
    return c;
}

/// Other widths for a case; two-level scales are for 7 bits and fewer.
inline void set_widths(gemm_case& c, int weight_bits, int activation_bits) {
    c.weights.bits = weight_bits;
    c.activation_bits = activation_bits;
    if (weight_bits == 8) c.weights.scales = aq::group_scales::floats;
}

}  // namespace aq_test
