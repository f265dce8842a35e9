#include "agilequant/quant/two_level.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "agilequant/pack/float_panels.hpp"
#include "agilequant/pack/packed_matrix.hpp"
#include "support/random.hpp"
#include "support/status_text.hpp"

using aq::status;
using aq_test::matrix;

namespace {

aq::weight_format format_of(int bits, bool is_asymmetric, std::size_t group, aq::group_scales scales) {
    aq::weight_format f;
    f.bits = bits;
    f.is_asymmetric = is_asymmetric;
    f.group = group;
    f.scales = scales;
    return f;
}

/// Groups of very different size, as trained weights have them.
matrix uneven(aq_test::random_source& random, std::size_t n, std::size_t k, std::size_t group) {
    matrix w = aq_test::random_matrix(random, n, k, 0);
    for (std::size_t r = 0; r < n; ++r) {
        for (std::size_t c = 0; c < k; ++c) w.at(r, c) *= 1.0F + static_cast<float>((r * 7 + c / group * 5) % 8);
    }
    return w;
}

double squared_distance(const aq::coded_matrix& q, const matrix& w) {
    double sum = 0.0;
    for (std::size_t r = 0; r < q.n; ++r) {
        for (std::size_t c = 0; c < q.k; ++c) {
            const double e = static_cast<double>(q.value(r, c)) - static_cast<double>(w.at(r, c));
            sum += e * e;
        }
    }
    return sum;
}

}  // namespace

static_assert(aq::largest_multiplier(aq::unsigned_codes(4), 0) == 8 && aq::largest_multiplier(aq::unsigned_codes(4), 7) == 15);
static_assert(aq::largest_multiplier({1, 15}, 8) == 18, "symmetric 4-bit codes");
static_assert(aq::largest_multiplier(aq::unsigned_codes(7), 0) == 1, "7 bits are the widest codes that allow any multiplier");

TEST_CASE("two-level: every scaled code fits 8 bits, at every width, symmetric or not") {
    aq_test::random_source random(11);
    for (int bits = 2; bits <= 7; ++bits) {
        for (bool is_asymmetric : {false, true}) {
            CAPTURE(bits);
            CAPTURE(is_asymmetric);
            matrix w = uneven(random, 9, 200, 32);
            for (std::size_t c = 0; c < w.cols; ++c) w.at(3, c) = std::fabs(w.at(3, c));  // zero points at the end of the range
            for (std::size_t c = 0; c < w.cols; ++c) w.at(4, c) += 40.0F;
            aq::coded_matrix q;
            const auto format = format_of(bits, is_asymmetric, 32, aq::group_scales::integers);
            REQUIRE(aq::quantize_weights(w.view(), format, nullptr, q) == status::ok);
            std::size_t beyond = 0;
            for (std::size_t r = 0; r < q.n; ++r) {
                CHECK(q.scales[r] > 0.0F);
                for (std::size_t c = 0; c < q.k; ++c) {
                    const std::size_t g = r * q.groups + c / 32;
                    const int scaled = q.multipliers[g] * (q.codes[r * q.k + c] - q.zeros[g]);
                    beyond += scaled < -127 || scaled > 127 || q.multipliers[g] < 1 ? 1U : 0U;
                    CHECK(q.value(r, c) == q.scales[r] * static_cast<float>(scaled));
                }
            }
            CHECK(beyond == 0);
        }
    }
}

TEST_CASE("two-level: hardly worse than a float for each group, and much better than one a row") {
    aq_test::random_source random(5);
    const matrix w = uneven(random, 16, 1024, 128);
    const auto error = [&](std::size_t group, aq::group_scales scales) {
        aq::coded_matrix q;
        REQUIRE(aq::quantize_weights(w.view(), format_of(4, true, group, scales), nullptr, q) == status::ok);
        return squared_distance(q, w);
    };
    const double floats = error(128, aq::group_scales::floats), integers = error(128, aq::group_scales::integers);
    const double row = error(0, aq::group_scales::floats);
    MESSAGE("squared error of two-level scales: " << integers / floats
                                                  << " of float groups; of one scale a row: " << row / floats);
    CHECK(integers < 1.1 * floats);
    CHECK(row > 1.5 * floats);
}

TEST_CASE("two-level: groups of zeros are exact and leave the others alone") {
    matrix w(2, 96);
    for (std::size_t c = 0; c < 96; ++c) w.at(0, c) = w.at(1, c) = 0.0F;
    for (std::size_t c = 0; c < 32; ++c) w.at(0, c) = 1e-3F * static_cast<float>(static_cast<int>(c) - 15);  // then zeros
    aq::coded_matrix q;
    REQUIRE(aq::quantize_weights(w.view(), format_of(4, true, 32, aq::group_scales::integers), nullptr, q) == status::ok);
    for (std::size_t c = 0; c < 96; ++c) {
        CHECK(std::fabs(q.value(0, c) - w.at(0, c)) <= 0.0012F);  // half a step is 0.001
        CHECK(q.value(1, c) == 0.0F);
        if (c >= 32) CHECK(q.value(0, c) == 0.0F);
    }
}

TEST_CASE("two-level: zeros beside very small weights, and rows of nothing else") {
    for (float size : {1e-3F, 1e-8F, 1e-30F}) {
        matrix w(2, 64);
        for (std::size_t c = 0; c < 64; ++c) {
            w.at(0, c) = c < 32 ? 0.0F : size * static_cast<float>(static_cast<int>(c) - 48);
            w.at(1, c) = 0.0F;
        }
        aq::coded_matrix q;
        REQUIRE(aq::quantize_weights(w.view(), format_of(4, true, 32, aq::group_scales::integers), nullptr, q) == status::ok);
        for (std::size_t c = 0; c < 64; ++c) {
            CHECK(std::fabs(q.value(0, c) - w.at(0, c)) <= 1.2F * size);
            CHECK(q.value(1, c) == 0.0F);
            if (c < 32) CHECK(q.value(0, c) == 0.0F);
        }
    }
}

TEST_CASE("two-level: one group is no worse than one float scale, which is among the candidates") {
    aq_test::random_source random(3);
    const matrix w = aq_test::random_matrix(random, 4, 64, 0);
    aq::coded_matrix one, two;
    REQUIRE(aq::quantize_weights(w.view(), format_of(4, true, 0, aq::group_scales::floats), nullptr, one) == status::ok);
    REQUIRE(aq::quantize_weights(w.view(), format_of(4, true, 0, aq::group_scales::integers), nullptr, two) == status::ok);
    CHECK(squared_distance(two, w) <= 1.00001 * squared_distance(one, w));
}

TEST_CASE("two-level: packed weights stand for the same values, in any layout") {
    aq_test::random_source random(8);
    const std::size_t n = 19, k = 77;
    const matrix w = uneven(random, n, k, 16);
    std::vector<std::uint8_t> exponents(k);
    for (std::uint8_t& e : exponents) e = static_cast<std::uint8_t>(random.below(4));
    for (const std::uint8_t* e :
         {static_cast<const std::uint8_t*>(nullptr), static_cast<const std::uint8_t*>(exponents.data())}) {
        aq::packed_storage<> packed;
        REQUIRE(aq::pack(w.view(), format_of(4, true, 16, aq::group_scales::integers), e, packed) == status::ok);
        const aq::packed_weights p = packed.view();
        CHECK(p.multipliers != nullptr);
        std::vector<float> panel(k * aq::panel_rows);
        double error = 0.0, size = 0.0;
        for (std::size_t r = 0; r < n; ++r) {
            if (r % aq::panel_rows == 0) aq::unpack_panel(p, r / aq::panel_rows, panel.data());
            for (std::size_t c = 0; c < k; ++c) {
                const double d =
                    static_cast<double>(panel[c * aq::panel_rows + r % aq::panel_rows]) - static_cast<double>(w.at(r, c));
                error += d * d;
                size += static_cast<double>(w.at(r, c)) * static_cast<double>(w.at(r, c));
            }
        }
        CHECK(error < 0.01 * size);
    }
}

TEST_CASE("two-level: fewer bytes than float groups; 8 bits and too great a depth are refused") {
    aq_test::random_source random(2);
    const matrix w = aq_test::random_matrix(random, 16, 4096, 0);
    aq::packed_matrix<aq::uniform<4, aq::asymmetric, aq::two_level_group<128>>> two;
    aq::packed_matrix<aq::uniform<4, aq::asymmetric, aq::group<128>>> floats;
    REQUIRE(two.assign(w.view()) == status::ok);
    REQUIRE(floats.assign(w.view()) == status::ok);
    const double weights = 16.0 * 4096.0;
    CHECK(static_cast<double>(two.view().weights.bytes()) * 8.0 / weights < 4.15);
    CHECK(static_cast<double>(floats.view().weights.bytes()) * 8.0 / weights > 4.3);
    aq::packed_storage<> refused;
    CHECK(aq::pack(w.view(), format_of(8, true, 128, aq::group_scales::integers), nullptr, refused) ==
          status::unsupported_format);
    const std::size_t bound = static_cast<std::size_t>(aq::max_two_level_k(8));
    for (std::size_t depth : {bound, bound + 1}) {
        const matrix deep = aq_test::random_matrix(random, 1, depth, 0);
        CHECK(aq::pack(deep.view(), format_of(4, true, 128, aq::group_scales::integers), nullptr, refused) ==
              (depth == bound ? status::ok : status::depth_over_limit));
    }
}
