// The exact suites can fail: each operation, broken on purpose, is seen by the comparison that they use, on the cases that they use.
#include "support/faulty_isa.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "isa/exact_suite.hpp"
#include "isa/faulty_arm.hpp"
#include "support/source_case.hpp"

using namespace aq_test;
using aq::faulty::fault;

namespace {

/// Whether a case tells `kernels` from scalar, however they are asked.
bool differs(const gemm_setup& setup, const aq::kernel_table& kernels) {
    const outcome expected = setup.run(aq::scalar::table);
    random_source random(setup.what.seed + 1);
    for (const gemm_request& request : {setup.whole(false), setup.whole(true), setup.random_request(random)}) {
        if (setup.differing(expected, kernels, request) != 0) return true;
    }
    return false;
}

/// Whether the cases of the exact suites tell `kernels` from scalar: random ones, a large sum, awkward values, rows that are computed.
bool is_found(const aq::kernel_table& kernels) {
    for (std::uint64_t seed = 10001; seed <= 10200; ++seed) {
        if (differs(gemm_setup(random_case(seed, 70)), kernels)) return true;
    }

    gemm_case c;  // rows against themselves: integer sums beyond 2^24, which a float has to round
    c.m = 8;
    c.k = 30011;
    c.weights = {8, false, 0};
    gemm_setup large(c);
    for (std::size_t i = 0; i < c.m * c.k; ++i)
        large.x.at(i / c.k, i % c.k) = large.w.at(0, i % c.k) * (i % c.k < i / c.k * 37 ? 0.5F : 1.0F);
    if (differs(large, kernels)) return true;

    c.m = 4;  // no tail and no exponents: the quantizer reads x itself
    c.n = 20;
    c.k = 64;
    gemm_setup awkward(c);
    for (std::size_t i = 0; i < c.m * c.k; ++i) {
        float& x = awkward.x.at(i / c.k, i % c.k);
        x = i % 3 == 0   ? std::numeric_limits<float>::quiet_NaN()
            : i % 3 == 1 ? static_cast<float>(static_cast<int>(i % 9) - 4) * 0.5F
                         : x;
    }
    if (differs(awkward, kernels)) return true;
    awkward.format.is_static = true;
    awkward.format.fixed = {1.0F, 0};
    if (differs(awkward, kernels)) return true;

    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        const source_case rows(seed);
        if (!same_bits(rows.written(kernels), rows.defined())) return true;
    }
    return false;
}

/// Whether every fault of an instruction set is found by the cases of the exact suites, and none without a fault.
template <class Fault>
void check_faults(const aq::kernel_table& kernels, Fault& active) {
    CAPTURE(std::string(kernels.isa));
    active = Fault::none;
    for (std::uint64_t seed = 1; seed <= short_cases(600, 100); ++seed)
        check_exact({&kernels}, random_case(seed + 10000, seed % 3 == 0 ? 70 : 35));
    if (slowdown < 20) CHECK_FALSE(is_found(kernels));  // all cases: long, and the same on every processor
    for (int f = 1; f < static_cast<int>(Fault::count); ++f) {
        CAPTURE(f);
        active = static_cast<Fault>(f);
        CHECK(is_found(kernels));
    }
    active = Fault::none;
}

}  // namespace

TEST_CASE("faults: 16-bit pair sums and blocks of three rows cannot be seen in a result, each operation that is broken can") {
    check_faults(aq::faulty::table(), aq::faulty::active);
}

TEST_CASE("faults: halves of panels, centered codes and two steps at once cannot be seen in a result, broken ones can") {
    check_faults(aq::faulty_neon::with_products(aq::scalar::table), aq::faulty_neon::active);
}

TEST_CASE("faults: sums that begin at the bits of a float cannot be seen in a result, broken ones can") {
    check_faults(aq::faulty_dotprod::with_products(aq::scalar::table), aq::faulty_dotprod::active);
}

TEST_CASE("faults: 16-bit sums that hold less than the most that is added to them are found at every pair of widths") {
    const aq::kernel_table kernels = aq::faulty_neon::with_products(aq::scalar::table);
    const auto all_mistakes = [&](widths pair, int magnitude) {
        const int product = magnitude * aq::activation_magnitude(pair.activations), in_16_bits = 32767 / product;
        const int steps = in_16_bits < 4 ? 2 : in_16_bits / 4 * 4;  // two at once, or as many k_steps as there is room for
        mistakes all;
        for (const int largest : {steps * product, steps * product - 1}) {
            aq::faulty_neon::largest_sum = largest;
            all = {};
            for (const std::size_t k : depths_of_16_bits(pair)) {
                const mistakes some = wrong_extremes(kernels, pair, k);
                all = {all.in_rows + some.in_rows, all.in_blocks + some.in_blocks, all.in_unpacked + some.in_unpacked};
            }
            if (largest == steps * product) CHECK((all.in_rows + all.in_blocks) == 0);
        }
        aq::faulty_neon::largest_sum = 32767;
        return all;
    };
    for (const widths pair : kernel_widths) {
        if (slowdown >= 20 && pair.activations == 4) continue;  // the longest ones, and the same on every processor
        INFO("W" << pair.weights << "A" << pair.activations);
        const mistakes packed = all_mistakes(pair, pair.weights == 8 ? 128 : (1 << pair.weights) - 1);
        CHECK(packed.in_rows != 0);
        CHECK(packed.in_blocks != 0);
        CHECK(all_mistakes(pair, pair.weights == 2 ? 3 : 1 << (pair.weights - 1)).in_unpacked != 0);
    }
}

TEST_CASE("exact: small blocks of every kind, each element through the epilogue once") {
    const aq::kernel_table neon = aq::faulty_neon::with_products(aq::scalar::table),
                           dotprod = aq::faulty_dotprod::with_products(aq::scalar::table);
    small_block_edges({&neon, &dotprod}, 80000);
    for (std::size_t m : sizes{1, 3, 5, 10}) {
        for (int sign : {1, -1}) deepest{dotprod, m, sign}.largest_started_sums();
    }
}
