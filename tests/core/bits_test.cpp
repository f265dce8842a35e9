#include "agilequant/core/bits.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>

TEST_CASE("ranges of codes by width") {
    for (int width = 2; width <= 8; ++width) {
        CAPTURE(width);
        const aq::code_range u = aq::unsigned_codes(width), s = aq::signed_codes(width);
        CHECK((u == aq::code_range{0, (1 << width) - 1}));
        CHECK(s.low == -s.high);
        CHECK(s.high == (1 << (width - 1)) - 1);
        CHECK(s.steps() == 2 * s.high);
        CHECK(u.magnitude() == u.high);
        CHECK(aq::activation_codes(width, false) == s);
        CHECK(aq::activation_codes(width, true) == (width < 8 ? u : s));
        for (const bool is_asymmetric : {false, true}) {
            const aq::code_range a = aq::activation_codes(width, is_asymmetric);
            CHECK(a.low >= -127);  // one signed byte without -128
            CHECK(a.high <= 127);
            CHECK(a.magnitude() <= aq::activation_magnitude(width));
        }
    }
    CHECK(aq::bits<4>::unsigned_range == aq::unsigned_codes(4));
    CHECK(aq::bits<8>::signed_range == aq::signed_codes(8));
    CHECK((aq::code_range{-9, 3}.magnitude() == 9));
}

TEST_CASE("max_k is the last depth that 32 bits hold, pair_sums_in_16_bits the last count of pairs that 16 bits hold") {
    for (int w = 2; w <= 8; ++w) {
        for (int a = 2; a <= 8; ++a) {
            CAPTURE(w);
            CAPTURE(a);
            const std::int64_t product =
                std::int64_t{aq::weight_codes(w).high} *
                std::max(aq::activation_codes(a, true).magnitude(), aq::activation_codes(a, false).magnitude());
            CHECK(aq::max_k(w, a) * product <= INT32_MAX);
            CHECK((aq::max_k(w, a) + 1) * product > INT32_MAX);
            CHECK(aq::pair_sums_in_16_bits(w, a) * 2 * product <= INT16_MAX);
            CHECK((aq::pair_sums_in_16_bits(w, a) + 1) * 2 * product > INT16_MAX);
        }
    }
}
