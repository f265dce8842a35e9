#include "agilequant/core/half.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

namespace {

/// What the 16 bits mean, by the definition of the formats: (-1)^s 2^(e - bias) 1.f, or 2^(1 - bias) 0.f.
double meaning(std::uint16_t bits, int exponent_bits) {
    const int fraction_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1);
    const int fraction = bits & ((1 << fraction_bits) - 1);
    const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
    if (exponent == (1 << exponent_bits) - 1) {
        return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
    }
    if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
    return sign * std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
}

/// The nearest 16-bit number, ties to even, found by bisection over all of them; where the largest one's successor would be
/// nearer (its bits are infinity's), infinity.
std::uint16_t nearest(float x, int exponent_bits) {
    const int fraction_bits = 15 - exponent_bits;
    const int infinity = ((1 << exponent_bits) - 1) << fraction_bits;
    const double beyond = 2 * meaning(static_cast<std::uint16_t>(infinity - (1 << fraction_bits)), exponent_bits);
    const auto value = [&](int bits) {
        return bits == infinity ? beyond : meaning(static_cast<std::uint16_t>(bits), exponent_bits);
    };
    const double magnitude = std::fabs(static_cast<double>(x));
    int low = 0, high = infinity;
    if (magnitude >= beyond) low = infinity;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        (value(middle) <= magnitude ? low : high) = middle;
    }
    int result = low;
    if (low != infinity) {
        const double below = magnitude - value(low), above = value(high) - magnitude;
        if (above < below || (above == below && low % 2 != 0)) result = high;
    }
    return static_cast<std::uint16_t>(result | (std::signbit(x) ? 0x8000 : 0));
}

struct format {
    const char* name;
    int exponent_bits;
    float (*widen)(std::uint16_t);
    std::uint16_t (*narrow)(float);
};

const format formats[] = {
    {"half", 5, [](std::uint16_t h) { return aq::half_to_float(h); }, [](float x) { return aq::float_to_half(x); }},
    {"bfloat16", 8, [](std::uint16_t h) { return aq::bfloat16_to_float(h); }, [](float x) { return aq::float_to_bfloat16(x); }}};

bool same(float a, double b) {
    return std::isnan(b) ? std::isnan(a) : static_cast<double>(a) == b && std::signbit(a) == std::signbit(b);
}

}  // namespace

TEST_CASE("every 16-bit pattern widens to its meaning and comes back") {
    for (const format& f : formats) {
        int wrong = 0, changed = 0;
        for (std::uint32_t i = 0; i < 65536; ++i) {
            const auto bits = static_cast<std::uint16_t>(i);
            const double expected = meaning(bits, f.exponent_bits);
            wrong += same(f.widen(bits), expected) ? 0 : 1;
            const auto quiet = static_cast<std::uint16_t>(std::isnan(expected) ? bits | 1 << (14 - f.exponent_bits) : bits);
            changed += f.narrow(f.widen(bits)) == quiet ? 0 : 1;
        }
        CAPTURE(std::string(f.name));
        CHECK(wrong == 0);
        CHECK(changed == 0);
    }
}

TEST_CASE("floats next to every boundary round to the nearest, ties to even") {
    for (const format& f : formats) {
        int wrong = 0;
        const auto compare = [&](float x) { wrong += f.narrow(x) == nearest(x, f.exponent_bits) ? 0 : 1; };
        const std::uint32_t infinity = ((1U << f.exponent_bits) - 1) << (15 - f.exponent_bits);
        for (std::uint32_t i = 0; i < infinity; ++i) {
            const double low = meaning(static_cast<std::uint16_t>(i), f.exponent_bits);
            const double high =
                i + 1 == infinity
                    ? 2 * meaning(static_cast<std::uint16_t>(infinity - (1U << (15 - f.exponent_bits))), f.exponent_bits)
                    : meaning(static_cast<std::uint16_t>(i + 1), f.exponent_bits);
            const auto middle = static_cast<float>((low + high) / 2);  // exact: one bit more than 16
            for (const float x : {static_cast<float>(low), middle}) {
                for (const float y : {std::nextafter(x, 0.0F), x, std::nextafter(x, std::numeric_limits<float>::infinity())}) {
                    compare(y);
                    compare(-y);
                }
            }
        }
        CAPTURE(std::string(f.name));
        CHECK(wrong == 0);
    }
}

TEST_CASE("random floats of all exponents round to the nearest") {
    constexpr unsigned seed = 7;
    CAPTURE(seed);
    for (const format& f : formats) {
        std::mt19937 random(seed);
        int wrong = 0;
        for (int i = 0; i < 300000; ++i) {
            const float x = aq::float_of(static_cast<std::uint32_t>(random()));
            if (!std::isnan(x)) wrong += f.narrow(x) == nearest(x, f.exponent_bits) ? 0 : 1;
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("a NaN stays a NaN with its sign, even where its payload does not fit") {
    for (const std::uint32_t bits : {0x7F800001U, 0xFF800001U, 0x7FFFFFFFU, 0xFFC00000U, 0x7FA00000U}) {
        for (const format& f : formats) {
            const std::uint16_t narrow = f.narrow(aq::float_of(bits));
            CHECK(std::isnan(meaning(narrow, f.exponent_bits)));
            CHECK((narrow >> 15) == static_cast<int>(bits >> 31));
        }
    }
    CHECK(aq::bits_of(aq::half_to_float(0x7C01)) == 0x7FC02000U);  // quiet, payload kept
    CHECK(aq::bits_of(aq::half_to_float(0xFE01)) == 0xFFC02000U);
    CHECK(aq::float_to_half(aq::float_of(0x7FC02000U)) == 0x7E01);
}
