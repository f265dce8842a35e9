// The log2 quantizer against double: exact codes, over every fraction that a float can have.
#include "agilequant/quant/log2.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/effort.hpp"
#include "support/random.hpp"

namespace {

constexpr std::uint32_t fractions = 1U << 23;
constexpr float infinity = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();

/// round(-steps log2 p). A boundary is irrational: the floats beside it are 1e-8 away from it and more, far beyond the error of double.
int expected_exponent(double p, int steps) { return static_cast<int>(std::floor(-steps * std::log2(p) + 0.5)); }

int clipped(int v, int low, int high) { return std::min(std::max(v, low), high); }

}  // namespace

TEST_CASE("exponents are exact for every fraction, and codes for every octave") {
    std::uint32_t wrong = 0;
    for (std::uint32_t fraction = 0; fraction < fractions; ++fraction) {
        const float p = aq::float_of(0x3F000000U | fraction);  // [1/2, 1)
        const int whole = expected_exponent(p, 1), half = expected_exponent(p, 2);
        wrong += aq::nearest_exponent(p) == whole && aq::nearest_half_exponent(p) == half ? 0 : 1;
        const int octave = static_cast<int>(fraction % 24);  // powers of two shift both by whole numbers
        const float smaller = p * aq::power_of_two(-octave);
        wrong += aq::log2_code(smaller) == clipped(whole + octave, 0, 15) ? 0 : 1;
        wrong += aq::log2_code(smaller, 2) == clipped(half + 2 * octave, 0, 15) ? 0 : 1;
        const int state = whole + octave > 15 ? 16 : whole + octave;
        wrong += aq::log2_state(smaller) == state ? 0 : 1;
    }
    CHECK(wrong == 0);
}

TEST_CASE("a code changes between the two floats beside a boundary") {
    for (int steps = 1; steps <= 2; ++steps) {
        for (int code = 0; code < 15; ++code) {
            CAPTURE(code);
            const double boundary = std::exp2(-(code + 0.5) / steps);
            float above = static_cast<float>(boundary);
            if (above < boundary) above = std::nextafterf(above, infinity);
            CHECK(aq::log2_code(above, steps) == code);
            CHECK(aq::log2_code(std::nextafterf(above, 0.0F), steps) == code + 1);
        }
    }
    const float zero_rule = std::nextafterf(static_cast<float>(std::exp2(-15.5)), 1.0F);  // of the paper
    CHECK(aq::log2_state(zero_rule) == 15);
    CHECK(aq::log2_state(std::nextafterf(std::nextafterf(zero_rule, 0.0F), 0.0F)) == 16);
    CHECK(aq::log2_code(zero_rule) == aq::log2_zero);
}

TEST_CASE("codes fall as p grows, and what they stand for is within half a step") {
    aq_test::random_source random(1);
    for (int steps = 1; steps <= 2; ++steps) {
        const double limit = std::exp2(0.5 / steps), smallest = std::exp2(-14.5 / steps);
        int before = 15;
        for (float p = 0x1p-20F; p <= 1.0F; p *= 1.0F + 0x1p-12F * static_cast<float>(random.between(1, 8))) {
            const int code = aq::log2_code(p, steps);
            REQUIRE(code <= before);
            before = code;
            const double ratio = static_cast<double>(aq::log2_value(code, steps)) / static_cast<double>(p);
            if (static_cast<double>(p) < smallest) REQUIRE(ratio == 0.0);
            else REQUIRE((ratio <= limit * (1 + 1e-7) && ratio >= 1 / limit * (1 - 1e-7)));
        }
        CHECK(before == 0);
    }
}

TEST_CASE("values") {
    for (int code = 0; code < 15; ++code) {
        CHECK(aq::log2_value(code) == std::exp2(-static_cast<double>(code)));
        CHECK(aq::log2_value(code, 2) == static_cast<float>(std::exp2(-code / 2.0)));
        CHECK(aq::log2_code(aq::log2_value(code)) == code);
        CHECK(aq::log2_code(aq::log2_value(code, 2), 2) == code);
    }
    CHECK(aq::log2_value(15) == 0.0F);
    CHECK(aq::log2_value(15, 2) == 0.0F);
    CHECK(aq::log2_state_value(15) == 0x1p-15F);
    CHECK(aq::log2_state_value(16) == 0.0F);
}

TEST_CASE("numbers that are no probabilities") {
    for (const float p : {0.0F, -0.0F, -1.0F, not_a_number, 1e-40F, 0x1p-126F}) {
        CHECK(aq::log2_code(p) == aq::log2_zero);
        CHECK(aq::log2_code(p, 2) == aq::log2_zero);
        CHECK(aq::log2_state(p) == 16);
    }
    for (const float p : {1.0F, 1.3F, 3.0F, 1e30F, infinity}) CHECK(aq::log2_code(p) == 0);
}

TEST_CASE("codes of exponents: ties to even, clipped, NaN is zero") {
    CHECK(aq::log2_code_of_exponent(0.5F) == 0);
    CHECK(aq::log2_code_of_exponent(1.5F) == 2);
    CHECK(aq::log2_code_of_exponent(2.5F) == 2);
    CHECK(aq::log2_code_of_exponent(14.4F) == 14);
    CHECK(aq::log2_code_of_exponent(14.6F) == aq::log2_zero);
    CHECK(aq::log2_code_of_exponent(-3.0F) == 0);
    CHECK(aq::log2_code_of_exponent(1e30F) == aq::log2_zero);
    CHECK(aq::log2_code_of_exponent(infinity) == aq::log2_zero);
    CHECK(aq::log2_code_of_exponent(not_a_number) == aq::log2_zero);
    CHECK(aq::log2_code_of_exponent(-infinity) == 0);
}

TEST_CASE("the signed form") {
    for (const int width : {2, 4, 8}) {
        const int last = (1 << (width - 1)) - 1;
        for (const float x : {1.0F, -1.0F, 0.71F, -0.70F, 0.25F, -0.03F, 1e-30F, 0.0F}) {
            CAPTURE(x);
            const float magnitude = 3.0F;
            const aq::signed_log2 code = aq::encode_signed_log2(x * magnitude, magnitude, width);
            const double size = std::abs(static_cast<double>(x * magnitude)) / magnitude;
            CHECK(code.exponent == (size == 0 ? last : clipped(expected_exponent(size, 1), 0, last)));
            CHECK(code.is_negative == (x < 0.0F));
            const float value = aq::decode_signed_log2(code, magnitude, width);
            CHECK(value == (code.exponent == last ? 0.0F : std::copysign(std::ldexp(magnitude, -code.exponent), x)));
        }
        CHECK(aq::decode_signed_log2(aq::encode_signed_log2(0.0F, 0.0F, width), 0.0F, width) == 0.0F);
    }
}

TEST_CASE("log2 against double") {
    double worst = 0;
    for (std::uint32_t fraction = 0; fraction < fractions; fraction += aq_test::slowdown | 1U) {
        for (const std::uint32_t exponent : {126U, 127U, 1U + fraction % 254U}) {
            const float x = aq::float_of(exponent << 23 | fraction);
            const double exact = std::log2(static_cast<double>(x)), size = std::abs(exact);
            const double unit = size < 2 ? 0x1p-23 : std::exp2(std::floor(std::log2(size)) - 23);
            worst = std::max(worst, std::abs(static_cast<double>(aq::log2(x)) - exact) / unit);
        }
    }
    CHECK(worst <= 1.1);
    for (int e = -126; e <= 127; ++e) CHECK(aq::log2(aq::power_of_two(e)) == static_cast<float>(e));
}

TEST_CASE("ceiling") {
    for (const float x :
         {-3.0F, -2.5F, -0.1F, 0.0F, 0.1F, 0.5F, 1.5F, 2.0F, 2.5F, 1e6F, 4194303.5F, 4194304.0F, -1e30F, infinity, -infinity}) {
        CAPTURE(x);
        CHECK(aq::ceiling(x) == std::ceil(x));
    }
    CHECK(std::isnan(aq::ceiling(not_a_number)));
}

TEST_CASE("codings are told apart by their properties") {
    using coding = aq::probability_coding;
    CHECK_FALSE(aq::form_of(coding::softmax).is_coded);
    CHECK_FALSE(aq::form_of(coding::log2_paper).is_divided);
    CHECK(aq::form_of(coding::log2_normalized).is_divided);
    CHECK(aq::form_of(coding::log2_maximum).over == aq::log2_form::reference::maximum);
    CHECK(aq::form_of(coding::log2_ceiling).over == aq::log2_form::reference::ceiling);
    CHECK(aq::form_of(coding::log2_half_maximum).steps == 2);
    CHECK(aq::form_of(coding::log2_half_ceiling).over == aq::log2_form::reference::ceiling);
}
