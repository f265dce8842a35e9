// Activations against double.
#include "agilequant/elementwise/activation.hpp"

#include <doctest/doctest.h>

#include "elementwise/samples.hpp"

using namespace aq_test;

namespace {

float relu(float x) {
    aq::relu(&x, 1, &x);
    return x;
}
float silu(float x) {
    aq::silu(&x, 1, &x);
    return x;
}
float gelu(float x) {
    aq::gelu(&x, 1, &x);
    return x;
}

const double smallest = 0x1p-125;  // below, e^t overflows and the result is 0

}  // namespace

// exp 1.99 u, the sum and the quotient u each.
TEST_CASE("silu against double") {
    for (float x = -95.0F; x < 95.0F; x += 0.00173F) {
        const double exact = x / (1 + std::exp(-static_cast<double>(x)));
        REQUIRE(std::abs(silu(x) - exact) <= 4.1 * u * std::abs(exact) + (std::abs(exact) < 91 * smallest ? 91 * smallest : 0));
    }
}

// As silu, and |t| times the relative error of t: both of its constants, three products and a sum of positive terms, 5 u.
TEST_CASE("gelu against double") {
    const double pi = 3.14159265358979323846;
    for (float x = -12.0F; x < 12.0F; x += 0.000173F) {
        const double t = 2 * std::sqrt(2 / pi) * (x + 0.044715 * std::pow(static_cast<double>(x), 3)),
                     exact = x / (1 + std::exp(-t));
        REQUIRE(std::abs(gelu(x) - exact) <= (4.1 + 5 * std::min(std::abs(t), 90.0)) * u * std::abs(exact) +
                                                 (std::abs(exact) < 12 * smallest ? 12 * smallest : 0));
    }
}

TEST_CASE("activations of special values") {
    CHECK(relu(-1.0F) == 0.0F);
    CHECK(relu(2.0F) == 2.0F);
    CHECK(relu(-denormal) == 0.0F);
    CHECK(relu(denormal) == denormal);
    CHECK(bits(relu(-0.0F)) == bits(-0.0F));
    CHECK(relu(-infinity) == 0.0F);
    CHECK(relu(infinity) == infinity);
    CHECK(std::isnan(relu(quiet_nan)));
    CHECK(bits(silu(0.0F)) == bits(0.0F));
    CHECK(bits(silu(-0.0F)) == bits(-0.0F));
    CHECK(silu(denormal) == denormal / 2);
    CHECK(silu(-infinity) == 0.0F);
    CHECK(silu(-3e38F) == 0.0F);
    CHECK(silu(infinity) == infinity);
    CHECK(std::isnan(silu(quiet_nan)));
    CHECK(bits(gelu(0.0F)) == bits(0.0F));
    CHECK(bits(gelu(-0.0F)) == bits(-0.0F));
    CHECK(gelu(denormal) == denormal / 2);
    CHECK(gelu(-infinity) == 0.0F);
    CHECK(gelu(-3e38F) == 0.0F);
    CHECK(gelu(3e38F) == 3e38F);
    CHECK(gelu(infinity) == infinity);
    CHECK(std::isnan(gelu(quiet_nan)));
}

TEST_CASE("silu_gate is the product, in place of either") {
    const auto gate = numbers(13).take(45, 8.0F), up = numbers(14).take(45, 8.0F);
    std::vector<float> y(45), in_gate = gate, in_up = up;
    aq::silu_gate(gate.data(), up.data(), 45, y.data());
    aq::silu_gate(in_gate.data(), up.data(), 45, in_gate.data());
    aq::silu_gate(gate.data(), in_up.data(), 45, in_up.data());
    for (std::size_t i = 0; i < 45; ++i) CHECK(bits(y[i]) == bits(silu(gate[i]) * up[i]));
    CHECK(same_bits(in_gate, y));
    CHECK(same_bits(in_up, y));
}
