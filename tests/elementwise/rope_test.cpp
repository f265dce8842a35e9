// Tables and rotation against double.
#include "agilequant/elementwise/rope.hpp"

#include <doctest/doctest.h>

#include "elementwise/samples.hpp"

using namespace aq_test;
using aq::matrix_view;
using aq::rope_pairing;
using aq::status;

namespace {

struct table {
    std::size_t head_dim, max_length;
    std::vector<float> data = std::vector<float>(head_dim * max_length);
    table(std::size_t d, std::size_t n, float theta = 10000.0F) : head_dim(d), max_length(n) {
        CHECK(aq::make_rope_table(theta, view()) == status::ok);
    }
    matrix_view<float> view() { return {data.data(), max_length, head_dim}; }
};

}  // namespace

// Rounded from a double angle whose error is small against u: half an ulp and a little.
TEST_CASE("the table holds cosines and sines") {
    for (const std::size_t d : sizes{2, 8, 64, 128}) {
        table t(d, 300);
        for (std::size_t p = 0; p < 300; ++p)
            for (std::size_t c = 0; c < d / 2; ++c) {
                const double angle =
                    static_cast<double>(p) * std::pow(10000.0, -2.0 * static_cast<double>(c) / static_cast<double>(d));
                REQUIRE(std::abs(t.view().row(p)[c] - std::cos(angle)) <= 1.001 * u / 2 + 1e-12);
                REQUIRE(std::abs(t.view().row(p)[d / 2 + c] - std::sin(angle)) <= 1.001 * u / 2 + 1e-12);
            }
    }
}

TEST_CASE("a few bits of the table") {
    table t(64, 5001);
    CHECK(t.view().row(0)[0] == 1.0F);
    CHECK(t.view().row(0)[63] == 0.0F);
    CHECK(t.view().row(1)[0] == 0x1.14a28p-1F);
    CHECK(t.view().row(1)[32] == 0x1.aed548p-1F);
}

// Two products and a sum: u for each product, u for the sum, half an ulp of each table entry.
TEST_CASE("rope against double") {
    for (const auto pairing : {rope_pairing::halves, rope_pairing::interleaved})
        for (const std::size_t d : sizes{2, 6, 30, 34, 64, 66, 128}) {
            table t(d, 50);
            const std::size_t heads = 3, position = 41, half = d / 2;
            const auto x = numbers(18).take(heads * d, 3.0F);
            auto y = x;
            CHECK(aq::rope(t.view(), position, pairing, {y.data(), heads, d}) == status::ok);
            for (std::size_t h = 0; h < heads; ++h)
                for (std::size_t c = 0; c < half; ++c) {
                    const std::size_t i = h * d + (pairing == rope_pairing::halves ? c : 2 * c),
                                      j = pairing == rope_pairing::halves ? i + half : i + 1;
                    const double angle = 41 * std::pow(10000.0, -static_cast<double>(c) / static_cast<double>(half)),
                                 cosine = std::cos(angle), sine = std::sin(angle);
                    const double bound = 3 * u * (std::abs(x[i]) + std::abs(x[j]));
                    REQUIRE(std::abs(y[i] - (x[i] * cosine - x[j] * sine)) <= bound);
                    REQUIRE(std::abs(y[j] - (x[i] * sine + x[j] * cosine)) <= bound);
                }
        }
}

TEST_CASE("the two pairings are one rotation of permuted channels") {
    const std::size_t d = 38;
    table t(d, 10);
    const auto x = numbers(19).take(d, 3.0F);
    std::vector<float> halves(d), interleaved = x;
    for (std::size_t c = 0; c < d / 2; ++c) halves[c] = x[2 * c], halves[c + d / 2] = x[2 * c + 1];
    CHECK(aq::rope(t.view(), 9, rope_pairing::halves, {halves.data(), 1, d}) == status::ok);
    CHECK(aq::rope(t.view(), 9, rope_pairing::interleaved, {interleaved.data(), 1, d}) == status::ok);
    for (std::size_t c = 0; c < d / 2; ++c) {
        CHECK(bits(halves[c]) == bits(interleaved[2 * c]));
        CHECK(bits(halves[c + d / 2]) == bits(interleaved[2 * c + 1]));
    }
}

TEST_CASE("rope at position 0 changes nothing") {
    table t(16, 1);
    const auto x = numbers(20).take(32, 3.0F);
    auto y = x;
    CHECK(aq::rope(t.view(), 0, rope_pairing::halves, {y.data(), 2, 16}) == status::ok);
    CHECK(same_bits(x, y));
}

TEST_CASE("rope keeps NaN and infinity in their pair") {
    table t(8, 4);
    std::vector<float> x(8, 1.0F);
    x[1] = quiet_nan, x[2] = infinity;
    CHECK(aq::rope(t.view(), 3, rope_pairing::halves, {x.data(), 1, 8}) == status::ok);
    CHECK(std::isnan(x[1]));
    CHECK(std::isnan(x[5]));
    CHECK(std::isinf(x[2]));
    CHECK(std::isinf(x[6]));
    CHECK(std::isfinite(x[0] + x[3] + x[4] + x[7]));
}

TEST_CASE("rope leaves the padding of a stride alone") {
    table t(6, 4);
    std::vector<float> x(2 * 9, 1.0F);
    CHECK(aq::rope(t.view(), 3, rope_pairing::halves, {x.data(), 2, 6, 9}) == status::ok);
    for (const std::size_t i : sizes{6, 7, 8, 15, 16, 17}) CHECK(x[i] == 1.0F);
    CHECK(x[9] == x[0]);
    CHECK(x[9] != 1.0F);
}

TEST_CASE("rope refuses what does not fit") {
    table t(8, 4);
    float x[16] = {};
    CHECK(aq::rope(t.view(), 4, rope_pairing::halves, {x, 2, 8}) == status::bad_argument);
    CHECK(aq::rope(t.view(), 0, rope_pairing::halves, {x, 2, 6}) == status::bad_shape);
    CHECK(aq::rope({x, 1, 7}, 0, rope_pairing::halves, {x, 1, 7}) == status::bad_shape);
    CHECK(aq::rope({nullptr, 4, 8}, 0, rope_pairing::halves, {x, 2, 8}) == status::null_pointer);
    CHECK(aq::rope(t.view(), 0, rope_pairing::halves, {nullptr, 2, 8}) == status::null_pointer);
    CHECK(aq::rope(t.view(), 0, rope_pairing::halves, {x, 2, 8, 7}) == status::bad_stride);
    CHECK(aq::rope(t.view(), 9, rope_pairing::halves, {nullptr, 0, 8}) == status::ok);
    CHECK(aq::make_rope_table(10000.0F, {x, 2, 7}) == status::bad_shape);
    CHECK(aq::make_rope_table(0.0F, {x, 2, 8}) == status::bad_argument);
    CHECK(aq::make_rope_table(quiet_nan, {x, 2, 8}) == status::bad_argument);
    CHECK(aq::make_rope_table(10000.0F, {nullptr, 2, 8}) == status::null_pointer);
}
