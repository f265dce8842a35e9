// Every instruction set that runs here computes what scalar computes, bit for bit: codes, scales, zero points, sums, results.
#include <doctest/doctest.h>

#include <limits>

#include "support/gemm_case.hpp"

using namespace aq_test;

TEST_CASE("exact: random shapes, formats, strides and layouts") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
            const gemm_case c = random_case(seed + 10000, 70);
            INFO(std::string(kernels->isa) << ": " << text(c));
            CHECK(differing(aq::scalar::table, *kernels, c) == 0);
        }
    }
}

TEST_CASE("exact: primes, powers of two and their neighbours, one long depth") {
    constexpr std::size_t sizes[][3] = {{1, 1, 4099},  {2, 17, 4099}, {3, 16, 1024}, {13, 31, 257},
                                        {7, 127, 509}, {64, 64, 64},  {5, 33, 896},  {1, 48, 11008}};
    std::uint64_t seed = 77;
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (const auto& size : sizes) {
            for (int bits : {2, 4, 8}) {
                for (int activation_bits : {4, 8}) {
                    gemm_case c = random_case(++seed, 10);
                    c.m = size[0];
                    c.n = size[1];
                    c.k = size[2];
                    c.weights.bits = bits;
                    c.activation_bits = activation_bits;
                    INFO(std::string(kernels->isa) << ": " << text(c));
                    CHECK(differing(aq::scalar::table, *kernels, c) == 0);
                }
            }
        }
    }
}

TEST_CASE("exact: activations that are not numbers, infinite, denormal, or huge") {
    constexpr float inf = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();
    constexpr float awkward[] = {not_a_number, -not_a_number,    inf,     -inf,    0.0F, -0.0F, 0x1p-149F, -0x1p-126F, 0x1p-124F,
                                 0x1p126F,     -0x1.fffffep127F, 0x1p60F, 0x1p-60F};
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (std::uint64_t seed = 1; seed <= 200; ++seed) {
            gemm_case c = random_case(seed + 20000, 50);
            c.m = 1 + seed % 5;
            gemm_setup setup(c);
            random_source random(seed);
            const std::size_t kinds = 1 + random.below(std::size(awkward));  // few kinds, so that rows of one kind occur
            for (std::size_t i = 0; i < c.m * c.k; ++i) {
                if (random.flip()) setup.x.at(i / c.k, i % c.k) = awkward[random.below(kinds)];
            }
            INFO(std::string(kernels->isa) << ": " << text(c));
            const outcome expected = setup.run(aq::scalar::table), actual = setup.run(*kernels);
            CHECK(differing(expected, actual) == 0);
            std::size_t not_numbers = 0;
            for (float v : expected.y) not_numbers += v == v ? 0U : 1U;
            CHECK(not_numbers == 0);  // results may be too large for a float, but weights of ordinary size never make a NaN
        }
    }
}
