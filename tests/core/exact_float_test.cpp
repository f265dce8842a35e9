#include "agilequant/core/exact_float.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>

TEST_CASE("round_half_even is nearbyint below 2^22") {
    int wrong = 0;
    const auto compare = [&](float x) { wrong += aq::round_half_even(x) == std::nearbyint(x) ? 0 : 1; };
    for (int i = -70000; i <= 70000; ++i) {  // whole numbers, ties, and their neighbours
        for (const float x : {static_cast<float>(i), static_cast<float>(i) + 0.5F}) {
            compare(x);
            compare(std::nextafter(x, -1e9F));
            compare(std::nextafter(x, 1e9F));
        }
    }
    std::mt19937 random(1);
    std::uniform_real_distribution<float> wide(-4194303.9F, 4194303.9F), narrow(-300.0F, 300.0F);
    for (int i = 0; i < 500000; ++i) {
        compare(wide(random));
        compare(narrow(random));
    }
    for (const float x : {0.0F, -0.0F, 4194303.5F, -4194303.5F, 4194302.5F, -4194302.5F, std::numeric_limits<float>::denorm_min(),
                          -std::numeric_limits<float>::min(), 0.49999997F, -0.49999997F}) {
        compare(x);
    }
    CHECK(wrong == 0);
    CHECK(aq::round_half_even(0.5F) == 0.0F);
    CHECK(aq::round_half_even(1.5F) == 2.0F);
    CHECK(aq::round_half_even(2.5F) == 2.0F);
    CHECK(aq::round_half_even(-2.5F) == -2.0F);
    CHECK(aq::round_half_even(-3.5F) == -4.0F);
}

TEST_CASE("power_of_two is exact at every exponent of a normal float") {
    for (int e = -126; e <= 127; ++e) CHECK(aq::power_of_two(e) == std::ldexp(1.0F, e));
}

TEST_CASE("multiply_add rounds twice") {
    // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24: the last term is lost in the product and would survive a fused operation.
    volatile float a = 1.0F + 0x1p-12F, c = -1.0F - 0x1p-11F;
    CHECK(aq::multiply_add(a, a, c) == 0.0F);
    CHECK(std::fma(a, a, c) == 0x1p-24F);
}

TEST_CASE("bits_of and float_of are inverse") {
    for (const std::uint32_t u : {0U, 0x80000000U, 0x3F800000U, 0x7F800000U, 0xFFC00001U, 1U})
        CHECK(aq::bits_of(aq::float_of(u)) == u);
    CHECK(aq::bits_of(1.0F) == 0x3F800000U);
}
