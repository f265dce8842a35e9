// Sums and multiples: exactly the float operation, in place or not.
#include "agilequant/elementwise/arithmetic.hpp"

#include <doctest/doctest.h>

#include "elementwise/samples.hpp"

using namespace aq_test;

TEST_CASE("add") {
    const auto a = numbers(15).take_mixed(67, 8.0F, true), b = numbers(16).take_mixed(67, 8.0F, true);
    std::vector<float> y(67), in_a = a, in_b = b;
    aq::add(a.data(), b.data(), 67, y.data());
    aq::add(in_a.data(), b.data(), 67, in_a.data());
    aq::add(a.data(), in_b.data(), 67, in_b.data());
    for (std::size_t i = 0; i < 67; ++i) CHECK(bits(y[i]) == bits(a[i] + b[i]));
    CHECK(same_bits(in_a, y));
    CHECK(same_bits(in_b, y));
}

TEST_CASE("scale") {
    const auto x = numbers(17).take_mixed(67, 8.0F, true);
    std::vector<float> y(67), in_x = x;
    aq::scale(x.data(), 0.37F, 67, y.data());
    aq::scale(in_x.data(), 0.37F, 67, in_x.data());
    for (std::size_t i = 0; i < 67; ++i) CHECK(bits(y[i]) == bits(x[i] * 0.37F));
    CHECK(same_bits(in_x, y));
}

// A compiler that sees both calls must not turn them into one fused multiply and add.
TEST_CASE("a product that is stored is rounded") {
    volatile float factor = 1.0F + 0x1p-12F;  // unknown to the compiler
    const float x[4] = {factor, factor, factor, factor}, minus_one[4] = {-1.0F, -1.0F, -1.0F, -1.0F};
    float y[4];
    aq::scale(x, factor, 4, y);
    aq::add(y, minus_one, 4, y);
    for (const float v : y) CHECK(v == 0x1p-11F);  // fused: 2^-11 + 2^-24
}
