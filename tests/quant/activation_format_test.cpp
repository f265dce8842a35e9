#include "agilequant/quant/activation_format.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <iterator>
#include <limits>
#include <vector>

#include "support/gemm_case.hpp"

using aq::activation_format;
using aq::affine;
using aq::status;
using namespace aq_test;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();

activation_format format_of(int bits, bool is_asymmetric, float clip = 1.0F) {
    activation_format f;
    f.bits = bits;
    f.is_asymmetric = is_asymmetric;
    f.clip = clip;
    return f;
}

activation_format static_format(int bits, bool is_asymmetric, affine fixed) {
    activation_format f = format_of(bits, is_asymmetric);
    f.is_static = true;
    f.fixed = fixed;
    return f;
}

/// Any format there is.
activation_format random_format(random_source& random) {
    constexpr float clips[] = {1.0F, 0.9F, 0.8F, 0.43F, 1e-6F};
    activation_format f = format_of(random.between(2, 8), random.flip(), clips[random.below(std::size(clips))]);
    f.is_static = random.below(3) == 0;
    const aq::code_range codes = aq::activation_codes(f.bits, f.is_asymmetric);
    if (f.is_static) f.fixed = aq::fit({-0.5F - 0.1F * random.value(), 1.0F}, codes, f.is_asymmetric);
    return f;
}

float awkward_value(random_source& random) {
    constexpr float awkward[] = {not_a_number, infinity, -infinity, 0.0F, -0.0F, 0x1p-149F, 0x1p126F, -0x1p127F, 1e-30F, 1e30F};
    return random.below(4) == 0 ? awkward[random.below(std::size(awkward))] : random.value();
}

std::vector<float> decoded(const std::vector<float>& x, const std::vector<std::uint8_t>& exponents, const activation_format& f) {
    std::vector<float> out(x.size());
    aq::decode_as_coded(x.data(), x.size(), exponents.empty() ? nullptr : exponents.data(), f, out.data());
    return out;
}

}  // namespace

TEST_CASE("is_valid: widths, calibrated scales and zero points, clips") {
    CHECK(aq::is_valid(activation_format{}));
    for (const bool is_asymmetric : {false, true}) {
        for (int bits = -1; bits <= 10; ++bits) CHECK(aq::is_valid(format_of(bits, is_asymmetric)) == (bits >= 2 && bits <= 8));
        for (const float clip : {1.0F, 0.5F, 0x1p-149F}) CHECK(aq::is_valid(format_of(4, is_asymmetric, clip)));
        for (const float clip : {0.0F, -0.0F, -1.0F, 0x1.000002p0F, infinity, not_a_number})
            CHECK_FALSE(aq::is_valid(format_of(4, is_asymmetric, clip)));
        for (const float scale : {0x1p-124F, 1.0F, 0x1p126F}) CHECK(aq::is_valid(static_format(4, is_asymmetric, {scale, 0})));
        for (const float scale : {0.0F, 0x1.fffffep-125F, -1.0F, 0x1.000002p126F, infinity, not_a_number})
            CHECK_FALSE(aq::is_valid(static_format(4, is_asymmetric, {scale, 0})));
        for (const int bits : {2, 5, 8}) {
            const aq::code_range codes = aq::activation_codes(bits, is_asymmetric);
            for (const int zero : {codes.low, codes.high}) CHECK(aq::is_valid(static_format(bits, is_asymmetric, {1.0F, zero})));
            for (const int zero : {codes.low - 1, codes.high + 1})
                CHECK_FALSE(aq::is_valid(static_format(bits, is_asymmetric, {1.0F, zero})));
        }
    }
    activation_format f = static_format(4, true, {1.0F, 3});
    f.clip = 0.0F;  // of no account where the scale is static
    CHECK(aq::is_valid(f));
}

TEST_CASE("is_unsigned: asymmetric codes below 8 bits") {
    for (int bits = 2; bits <= 8; ++bits) {
        CHECK(aq::is_unsigned(format_of(bits, true)) == (bits < 8));
        CHECK_FALSE(aq::is_unsigned(format_of(bits, false)));
    }
}

TEST_CASE("fit_token: a share of the range, all of it at 1, and what is calibrated where static") {
    const aq::value_range range{-1.0F, 3.0F};
    for (const bool is_asymmetric : {false, true}) {
        const aq::code_range codes = aq::activation_codes(4, is_asymmetric);
        for (const float clip : {1.0F, 0.75F, 0.5F}) {
            const affine a = aq::fit_token(range, format_of(4, is_asymmetric, clip), codes);
            const affine expected = aq::fit({-1.0F * clip, 3.0F * clip}, codes, is_asymmetric);
            CHECK(a.scale == expected.scale);
            CHECK(a.zero == expected.zero);
        }
    }
    const affine a = aq::fit_token(range, static_format(4, true, {0.125F, 7}), aq::activation_codes(4, true));
    CHECK(a.scale == 0.125F);
    CHECK(a.zero == 7);
}

TEST_CASE("decode_as_coded: a row by hand") {
    // Codes -1, 0, 1. Half of the range: steps of 2, and what is beyond takes the end codes.
    CHECK(decoded({4.0F, 1.25F, -0.75F, -4.0F}, {}, format_of(2, false, 0.5F)) == std::vector<float>{2.0F, 2.0F, 0.0F, -2.0F});
    // Divided by 2^exponent the range is 0..3, in steps of 1; a channel of exponent 2 has steps of 4.
    CHECK(decoded({12.0F, 5.0F, 3.0F, 1.25F}, {2, 2, 0, 0}, format_of(2, true)) == std::vector<float>{12.0F, 4.0F, 3.0F, 1.0F});
    // The same without exponents: steps of 4 for all.
    CHECK(decoded({12.0F, 5.0F, 3.0F, 1.25F}, {}, format_of(2, true)) == std::vector<float>{12.0F, 4.0F, 4.0F, 0.0F});
    // Static: codes 0..3 about the zero point 1 are -1/2, 0, 1/2, 1, and twice that for a channel of exponent 1.
    CHECK(decoded({-9.0F, 0.3F, 9.0F, 1.1F}, {0, 0, 1, 1}, static_format(2, true, {0.5F, 1})) ==
          std::vector<float>{-0.5F, 0.5F, 2.0F, 1.0F});
    CHECK(decoded({not_a_number, infinity, 0.0F}, {}, format_of(4, false)) == std::vector<float>{0.0F, 0x1p126F, 0.0F});
    CHECK(decoded({0.0F, -0.0F, 0.0F}, {}, format_of(4, true)) == std::vector<float>(3, 0.0F));
    aq::decode_as_coded(nullptr, 0, nullptr, format_of(4, true), nullptr);
}

TEST_CASE("exact: decode_as_coded is what the codes of quantize_rows stand for, on every instruction set") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (std::uint64_t seed = 1; seed <= 200; ++seed) {
            random_source random(seed);
            const std::size_t k = random.below(seed % 50 == 0 ? 1000 : 80);
            const activation_format format = random_format(random);
            std::vector<std::uint8_t> exponents(random.flip() ? k : 0);
            for (std::uint8_t& e : exponents) e = static_cast<std::uint8_t>(random.below(7));
            std::vector<float> x(k);
            const bool is_awkward = random.flip();
            for (float& v : x) v = is_awkward ? awkward_value(random) : random.value();
            INFO(std::string(kernels->isa) << " seed " << seed << " k " << k << " bits " << format.bits);

            aq::k_layout layout;
            REQUIRE(layout.make(k, random.below(40), exponents.empty() ? nullptr : exponents.data()) == status::ok);
            const aq::k_layout_view l = layout.view();
            activation_buffer a(1, l, format);
            REQUIRE(aq::quantize_rows(*kernels, {x.data(), 1, k}, l, format, {0, 1}, a.scratch.data(), a.scratch.size(),
                                      a.view) == status::ok);
            std::vector<float> expected(k, not_a_number);
            for (std::size_t i = 0; i < l.run_count; ++i) {
                for (std::size_t p = l.runs[i].begin; p < l.runs[i].end; ++p) {
                    if (l.channel(p) == aq::padding) continue;
                    const auto steps = static_cast<float>(a.view.codes[p] - a.view.zeros[0]);
                    expected[l.channel(p)] = std::ldexp(a.view.scales[0] * steps, static_cast<int>(l.runs[i].exponent));
                }
            }
            std::vector<float> out = decoded(x, exponents, format);
            CHECK(aq_test::detail::differing(out, expected) == 0);
            aq::decode_as_coded(x.data(), k, exponents.empty() ? nullptr : exponents.data(), format, x.data());
            CHECK(aq_test::detail::differing(x, expected) == 0);  // in place
        }
    }
}

TEST_CASE("numeric: without a clip a value comes back within a step of its channel") {
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        random_source random(seed);
        const activation_format format = format_of(random.between(2, 8), random.flip());
        std::vector<float> x(1 + random.below(60));
        std::vector<std::uint8_t> exponents(x.size());
        aq::value_range range;
        for (std::size_t c = 0; c < x.size(); ++c) {
            exponents[c] = static_cast<std::uint8_t>(random.below(7));
            x[c] = random.value();
            range = aq::including(range, std::ldexp(x[c], -exponents[c]));
        }
        const aq::code_range codes = aq::activation_codes(format.bits, format.is_asymmetric);
        // Half a step of rounding, and half a step that the zero point may be off from where it clips. x / s, below 2^8, is off by 2^-15 of a step
        // for each of the roundings of s, 1 / s and their product, and the value that comes back by as much again.
        const double step = static_cast<double>(aq::fit(range, codes, format.is_asymmetric).scale) * (1.0 + 4 * 0x1p-15);
        const std::vector<float> out = decoded(x, exponents, format);
        int wrong = 0;
        for (std::size_t c = 0; c < x.size(); ++c) {
            const double error = std::fabs(static_cast<double>(x[c]) - static_cast<double>(out[c]));
            wrong += error <= std::ldexp(format.is_asymmetric ? step : step / 2, exponents[c]) ? 0 : 1;
        }
        CAPTURE(seed);
        CHECK(wrong == 0);
    }
}
