// Every instruction set that runs here computes what scalar computes, bit for bit: codes, scales, zero points, sums, results.
#include <doctest/doctest.h>

#include <limits>

#include "isa/exact_suite.hpp"
#include "isa/guarded_product.hpp"
#include "support/skip.hpp"

using namespace aq_test;

TEST_CASE("exact: what this CPU lacks is named") {
    for (const std::string& name : absent_kernels()) skip(name + " neither runs here nor can be emulated");
    CHECK(runnable_kernels().front() == &aq::scalar::table);
}

TEST_CASE("exact: random shapes, formats, strides, layouts, pieces and scratch") {
    random_products(runnable_kernels(), 10000, short_cases(10000, 1000));
}

TEST_CASE("exact: every edge of a block, each element through the epilogue once") {
    std::uint64_t seed = 50000;
    for (std::size_t m : sizes{1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16,
                               17, 18, 19, 20, 23, 24, 25, 31, 32, 33, 40, 63, 64, 65, 70}) {
        for (std::size_t n : sizes{1, 15, 16, 17, 47, 48, 49, 64, 127, 128, 129, 130}) {
            for (const widths pair : kernel_widths) {
                if (++seed % (slowdown < 6 ? 1 : 7) == 0) block_edge(runnable_kernels(), m, n, pair, seed);
            }
        }
    }
}

TEST_CASE("exact: every number of rows and columns around small blocks, each element through the epilogue once") {
    small_block_edges(runnable_kernels(), 70000);
}

TEST_CASE("exact: every pair of codes, at every width") {
    constexpr std::size_t k = 80;  // more than the 16-bit sums of W4A8 hold
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (int weight_bits : {2, 3, 4, 8}) {
            for (int activation_bits : {4, 8}) {
                code_pairs(*kernels, {weight_bits, activation_bits}, aq::group_scales::floats, k);
                if (weight_bits < 8) code_pairs(*kernels, {weight_bits, activation_bits}, aq::group_scales::integers, k);
            }
        }
    }
}

TEST_CASE("exact: 16-bit partial sums at their bound: extreme codes, all of one sign, alternating, one-hot") {
    bounds_of_16_bits(runnable_kernels());
}

TEST_CASE("exact: 32-bit sums hold at the largest depth, 16-bit sums of activations where they are used") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (int sign : {1, -1}) {
            for (std::size_t m : sizes{1, 6, 40}) {
                const deepest sums{*kernels, m, sign};
                sums.horner();
                sums.sums_of_activations();
                sums.largest_started_sums();
                if (m != 6) sums.narrow_codes();
                if (m == 40) continue;
                sums.plain();
                sums.two_level();
            }
        }
    }
}

TEST_CASE("exact: no byte beyond any buffer is touched, and padding is of no account") {
    guarded<float> after(5, guard::after), before(5, guard::before);
    CHECK(is_readable(after.data()));
    CHECK_FALSE(is_readable(after.data() + 5));
    CHECK_FALSE(is_readable(reinterpret_cast<const char*>(before.data()) - 1));
    guarded_products(runnable_kernels(), 900, short_cases(500, 100));
}

TEST_CASE("exact: primes, powers of two and their neighbours, one long depth") {
    constexpr std::size_t shapes[][3] = {{1, 1, 4099},  {2, 17, 4099}, {3, 16, 1024}, {13, 31, 257},
                                         {7, 127, 509}, {64, 64, 64},  {5, 33, 896},  {1, 48, 11008}};
    std::uint64_t seed = 77;
    for (const auto& shape : shapes) {
        for (const widths pair : kernel_widths) {
            for (int i = 0; i < (slowdown < 20 ? 4 : 2); ++i) {
                gemm_case c = random_case(++seed, 10);
                c.m = shape[0];
                c.n = shape[1];
                c.k = shape[2];
                set_widths(c, pair.weights, pair.activations);
                const bool is_two_level = c.weights.scales == aq::group_scales::integers;
                const std::int64_t deepest = is_two_level ? aq::max_two_level_k(8) : aq::max_k(pair.weights, 8);
                if (static_cast<std::int64_t>(c.k << aq::max_exponent) > deepest) c.exponents = trip::none;
                check_exact(runnable_kernels(), c);
            }
        }
    }
}

TEST_CASE("exact: activations that are not numbers, infinite, denormal, or huge") {
    constexpr float inf = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();
    constexpr float awkward[] = {not_a_number,    -not_a_number,    inf,        -inf,      0.0F,
                                 -0.0F,           0x1p-149F,        -0x1p-126F, 0x1p-124F, 0x1p126F,
                                 0x1.000002p126F, -0x1.fffffep127F, 0x1p60F,    0x1p-60F};
    for (std::uint64_t seed = 1; seed <= short_cases(1000, 100); ++seed) {
        gemm_case c = random_case(seed + 20000, 50);
        c.m = 1 + seed % 5;
        if (seed % 2 == 0) {  // a layout that leaves channels where they are: the quantizer reads x itself
            c.k = aq::round_up(c.k, aq::k_step);
            c.weights.group = 16;
            c.exponents = trip::none;
        }
        gemm_setup setup(c);
        random_source random(seed);
        // one kind of value among ordinary ones, so that it alone decides the range, or several
        const std::size_t first = random.below(std::size(awkward));
        const std::size_t kinds = random.flip() ? 1 : 1 + random.below(std::size(awkward) - first);
        for (std::size_t i = 0; i < c.m * c.k; ++i) {
            if (random.flip()) setup.x.at(i / c.k, i % c.k) = awkward[first + random.below(kinds)];
        }
        const outcome expected = setup.run(aq::scalar::table);
        for (const aq::kernel_table* kernels : runnable_kernels()) {
            INFO(std::string(kernels->isa) << ": " << text(c));
            CHECK(differing(expected, setup.run(*kernels)) == 0);
        }
        std::size_t not_numbers = 0;
        for (float v : expected.y) not_numbers += v == v ? 0U : 1U;
        CHECK(not_numbers == 0);  // results may be too large for a float, but weights of ordinary size never make a NaN
    }
}
