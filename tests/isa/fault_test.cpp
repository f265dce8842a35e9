// The exact suites can fail: each operation, broken on purpose, is seen by the comparison that they use, on the cases that they use.
#include "support/faulty_isa.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "support/gemm_case.hpp"

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

/// Whether the cases of the exact suites tell `kernels` from scalar: random ones, a large sum, awkward values.
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
    return differs(awkward, kernels);
}

}  // namespace

TEST_CASE("exact: 16-bit pair sums and blocks of three rows cannot be seen in a result") {
    aq::faulty::active = fault::none;
    const aq::kernel_table kernels = aq::faulty::table();
    for (std::uint64_t seed = 1; seed <= 600; ++seed) check_exact({&kernels}, random_case(seed + 10000, 70));
    CHECK_FALSE(is_found(kernels));
}

TEST_CASE("faults: every operation that is broken is found") {
    const aq::kernel_table kernels = aq::faulty::table();
    for (int f = 1; f < static_cast<int>(fault::count); ++f) {
        CAPTURE(f);
        aq::faulty::active = static_cast<fault>(f);
        CHECK(is_found(kernels));
    }
    aq::faulty::active = fault::none;
}
