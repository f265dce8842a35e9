#include "agilequant/quant/uniform.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "agilequant/quant/all.hpp"

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
const float nan_value = std::numeric_limits<float>::quiet_NaN();

/// The value that code q stands for, in double.
double meaning(int code, aq::affine a) { return static_cast<double>(a.scale) * (code - a.zero); }

/// The quantizer in double: the nearest step, ties to even, of the value itself and not of a product with a reciprocal.
int oracle_code(float x, aq::affine a, aq::code_range codes) {
    const double v = std::min(std::max(std::nearbyint(static_cast<double>(x) / static_cast<double>(a.scale)), -1e9), 1e9);
    return static_cast<int>(std::min(std::max(v + a.zero, static_cast<double>(codes.low)), static_cast<double>(codes.high)));
}

/// How far, in steps, the float code may be from the exact one: the reciprocal and the product round once each, the value's
/// decoding once, and the range's scale once, each by 2^-24 of at most 255 steps; twice that for good measure.
constexpr double slack = 8 * 255 * 0x1p-24;

std::vector<float> random_values(std::mt19937& random, std::size_t count) {
    std::normal_distribution<float> normal;
    const float size = std::ldexp(1.0F, static_cast<int>(random() % 60) - 30), shift = normal(random) * 2;
    std::vector<float> x(count);
    for (float& v : x) v = size * (normal(random) + shift);
    return x;
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("the contract of every quantizer", Q, quantizer_contract) {
    std::mt19937 random(21);
    for (int round = 0; round < 60; ++round) {
        std::vector<float> x = random_values(random, 64);
        const aq::affine a = Q::fit(aq::range_of(x.data(), x.size()));
        CHECK(a.scale > 0.0F);
        CHECK(a.zero >= Q::codes.low);
        CHECK(a.zero <= Q::codes.high);
        CHECK(Q::encode(0.0F, a) == a.zero);  // zero is exact
        CHECK(Q::decode(a.zero, a) == 0.0F);
        std::sort(x.begin(), x.end());
        int last = Q::codes.low;
        for (const float v : x) {
            const int code = Q::encode(v, a);
            CHECK(code >= last);  // monotone
            CHECK(code <= Q::codes.high);
            last = code;
            const int exact = oracle_code(v, a, Q::codes);
            if (code != exact) {  // only next to a tie
                const double steps = static_cast<double>(v) / static_cast<double>(a.scale);
                CHECK(std::fabs(std::fabs(steps - std::trunc(steps)) - 0.5) < slack);
            }
            const double low = meaning(Q::codes.low, a), high = meaning(Q::codes.high, a);
            const double clipped = std::min(std::max(static_cast<double>(v), low), high);
            CHECK(std::fabs(static_cast<double>(Q::decode(code, a)) - clipped) <= static_cast<double>(a.scale) * (0.5 + slack));
            CHECK(Q::encode(Q::decode(code, a), a) == code);  // idempotent
        }
        for (int code = Q::codes.low; code <= Q::codes.high; ++code) {
            CHECK(static_cast<double>(Q::decode(code, a)) == static_cast<double>(static_cast<float>(meaning(code, a))));
            CHECK(Q::encode(Q::decode(code, a), a) == code);
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(quantizer_contract, aq::quant::all);

TEST_CASE_TEMPLATE_DEFINE("uniform: at most half a step inside the range, extremes at the ends", Q, uniform_accuracy) {
    std::mt19937 random(22);
    for (int round = 0; round < 100; ++round) {
        const std::vector<float> x = random_values(random, 50);
        const aq::value_range r = aq::range_of(x.data(), x.size());
        const aq::affine a = Q::fit(r);
        for (const float v : x) {
            const double e = std::fabs(static_cast<double>(v) - static_cast<double>(Q::decode(Q::encode(v, a), a)));
            CHECK(e <= static_cast<double>(a.scale) * (0.5 + slack));
        }
        if (Q::is_asymmetric) {
            CHECK(Q::encode(r.low, a) - Q::codes.low <= 1);  // the rounded zero point may cost an end one code
            CHECK(Q::codes.high - Q::encode(r.high, a) <= 1);
        } else {
            CHECK(Q::encode(r.magnitude(), a) == Q::codes.high);
            CHECK(Q::encode(-r.magnitude(), a) == Q::codes.low);
            CHECK(a.zero == 0);
        }
    }
    // One-sided ranges: the code of the far end is exactly the end, zero is the other.
    const aq::affine up = Q::fit({0.0F, 3.0F}), down = Q::fit({-3.0F, 0.0F});
    CHECK(Q::encode(3.0F, up) == Q::codes.high);
    CHECK(Q::encode(-3.0F, down) == Q::codes.low);
    CHECK(up.zero == (Q::is_asymmetric ? Q::codes.low : 0));
    CHECK(down.zero == (Q::is_asymmetric ? Q::codes.high : 0));
    CHECK(Q::encode(1000.0F, up) == Q::codes.high);  // beyond the range: the end
    CHECK(Q::encode(-1000.0F, up) == Q::codes.low);
}
TEST_CASE_TEMPLATE_APPLY(uniform_accuracy, aq::quant::uniforms);

TEST_CASE_TEMPLATE_DEFINE("uniform: slices and values that are not ordinary", Q, uniform_edges) {
    const auto fit = [](std::vector<float> x) { return Q::fit(aq::range_of(x.data(), x.size())); };
    for (const aq::affine a : {fit({}), fit({0.0F, -0.0F, 0.0F}), fit({nan_value, nan_value}), fit({1e-45F, -1e-45F}),
                               fit({0x1p-126F}), fit({0.999F * 0x1p-124F, 0.0F})}) {
        CHECK(a.scale == 1.0F);  // as good as all zero
        CHECK(Q::decode(Q::encode(1e-40F, a), a) == 0.0F);
        CHECK(Q::decode(Q::encode(0.0F, a), a) == 0.0F);
    }
    for (const float value : {3.7F, -3.7F, 0x1p-110F, -0x1p-110F, 1e30F}) {  // a constant slice gives the constant back
        const aq::affine a = fit({value, value, value});
        CHECK(std::fabs(Q::decode(Q::encode(value, a), a) - value) <= std::fabs(value) * 0x1p-22F);
    }
    // NaN is 0, and what is too large is 2^126; neither spoils the others
    CHECK(fit({1.0F, nan_value, 2.0F}).scale == fit({1.0F, 2.0F}).scale);
    CHECK(fit({-infinity, infinity}).scale == fit({-0x1p126F, 0x1p126F}).scale);
    const std::vector<float> huge = {infinity, -infinity, std::numeric_limits<float>::max(), -std::numeric_limits<float>::max()};
    for (const aq::affine a :
         {fit(huge), fit({huge[2], huge[3]}), fit({infinity}), fit({-infinity}), fit({1.0F}), fit({0x1p-110F})}) {
        CHECK(std::isfinite(a.scale));
        CHECK(std::isnormal(1.0F / a.scale));
        CHECK(Q::encode(nan_value, a) == a.zero);
        CHECK(Q::encode(-nan_value, a) == a.zero);
        for (const float v : huge) {
            CHECK(Q::encode(v, a) >= Q::codes.low);
            CHECK(Q::encode(v, a) <= Q::codes.high);
            CHECK(std::isfinite(Q::decode(Q::encode(v, a), a)));
        }
    }
    CHECK(Q::encode(infinity, fit({1.0F, -1.0F})) == Q::codes.high);
    CHECK(Q::encode(-infinity, fit({1.0F, -1.0F})) == Q::codes.low);
}
TEST_CASE_TEMPLATE_APPLY(uniform_edges, aq::quant::uniforms);

TEST_CASE("ties go to the even step, and only then comes the zero point") {
    constexpr aq::code_range codes = aq::unsigned_codes(8);
    for (const int zero : {0, 100, 101}) {
        for (int step = -100; step < 100; ++step) {
            const int even = step % 2 == 0 ? step : step + 1;
            CHECK(aq::encode((static_cast<float>(step) + 0.5F) * 0.25F, 4.0F, zero, codes) == aq::clip(even + zero, codes));
        }
    }
}

TEST_CASE("a known slice, by hand") {
    // -1 .. 2 in 4 bits: s = 3 / 15 = .2, z = round(1 / .2) = 5
    using q4 = aq::uniform<4>;
    const aq::affine a = q4::fit({-1.0F, 2.0F});
    CHECK(a.scale == 0.2F);
    CHECK(a.zero == 5);
    CHECK(q4::encode(-1.0F, a) == 0);
    CHECK(q4::encode(2.0F, a) == 15);
    CHECK(q4::encode(0.31F, a) == 7);
    // and symmetric: s = 2 / 7
    using q4s = aq::uniform<4, aq::symmetric>;
    const aq::affine b = q4s::fit({-1.0F, 2.0F});
    CHECK(b.scale == 2.0F / 7.0F);
    CHECK(q4s::encode(-1.1F, b) == -4);
    CHECK(q4s::encode(2.0F, b) == 7);
    // 8-bit asymmetric activations: 255 codes from -127
    const aq::affine c = aq::fit_asymmetric({-1.0F, 1.54F}, aq::activation_codes(8, true));
    CHECK(c.scale == 2.54F / 254.0F);
    CHECK(c.zero == -27);
}

TEST_CASE("the range always includes zero, and knows strides") {
    const float x[] = {5.0F, -9.0F, 7.0F, 1.0F, 6.0F};
    CHECK(aq::range_of(x, 5).low == -9.0F);
    CHECK(aq::range_of(x, 3, 2).low == 0.0F);
    CHECK(aq::range_of(x, 3, 2).high == 7.0F);
    CHECK(aq::range_of(x, 0).high == 0.0F);
    CHECK(aq::value_range{-9.0F, 7.0F}.magnitude() == 9.0F);
}
