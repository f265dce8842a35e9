// The rotation against its matrix, and what it is for: products stay, and extremes shrink.
#include "agilequant/elementwise/hadamard.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "elementwise/samples.hpp"
#include "support/guarded.hpp"
#include "support/random.hpp"

using namespace aq_test;
using aq::status;

namespace {

/// (-1)^(bits that i and j have in common).
double sign(std::size_t i, std::size_t j) {
    int common = 0;
    for (std::size_t both = i & j; both != 0; both >>= 1) common += static_cast<int>(both & 1);
    return common % 2 == 0 ? 1.0 : -1.0;
}

}  // namespace

// log2 b additions deep, each rounded once, then one product and the rounded factor.
TEST_CASE("hadamard: the matrix, block by block") {
    random_source random(5);
    for (const std::size_t cols : sizes{1, 2, 3, 4, 8, 12, 40, 64, 80, 96, 128, 256}) {
        CAPTURE(cols);
        const std::size_t block = aq::hadamard_block(cols);
        REQUIRE(cols % block == 0);
        CHECK(cols / block % 2 == 1);
        const matrix x = random_matrix(random, 3, cols, 2);
        matrix y = x, again = x;
        REQUIRE(aq::hadamard(y.view()) == status::ok);
        REQUIRE(aq::hadamard<float>(again.view()) == status::ok);
        for (std::size_t r = 0; r < x.rows; ++r) {
            for (std::size_t c = 0; c < cols; ++c) {
                double expected = 0, size = 0;
                for (std::size_t k = 0; k < block; ++k) {
                    const double v = x.at(r, c / block * block + k);
                    expected += v * sign(k, c % block);
                    size += std::abs(v);
                }
                const double root = std::sqrt(static_cast<double>(block)), depth = std::log2(static_cast<double>(block)) + 3;
                REQUIRE(std::abs(y.at(r, c) - expected / root) <= depth * 0x1p-24 * size / root);
                REQUIRE(std::memcmp(&y.data[r * y.stride + c], &again.data[r * again.stride + c], sizeof(float)) == 0);
            }
        }
    }
}

TEST_CASE("hadamard: twice is nothing, one large channel is spread over all, products stay") {
    matrix x(2, 64);
    for (std::size_t c = 0; c < 64; ++c) x.at(0, c) = c == 37 ? 64.0F : 0.0F, x.at(1, c) = static_cast<float>(c % 5) - 2.0F;
    const matrix before = x;
    REQUIRE(aq::hadamard(x.view()) == status::ok);
    double product = 0;
    for (std::size_t c = 0; c < 64; ++c) {
        CHECK(std::abs(x.at(0, c)) == 8.0F);
        product += static_cast<double>(x.at(0, c)) * static_cast<double>(x.at(1, c));
    }
    CHECK(product == 64.0 * static_cast<double>(before.at(1, 37)));
    REQUIRE(aq::hadamard(x.view()) == status::ok);
    for (std::size_t c = 0; c < 64; ++c) CHECK(x.at(1, c) == before.at(1, c));
}

TEST_CASE("hadamard: nothing outside the rows, nothing refused silently") {
    for (const guard side : {guard::before, guard::after}) {
        guarded<float> x(3 * 40, side);
        for (std::size_t i = 0; i < 120; ++i) x.data()[i] = static_cast<float>(i);
        CHECK(aq::hadamard(aq::matrix_view<float>(x.data(), 3, 40)) == status::ok);
    }
    float x[8] = {};
    CHECK(aq::hadamard(aq::matrix_view<float>(nullptr, 2, 4)) == status::null_pointer);
    CHECK(aq::hadamard(aq::matrix_view<float>(x, 2, 4, 3)) == status::bad_stride);
    CHECK(aq::hadamard(aq::matrix_view<float>(nullptr, 0, 4)) == status::ok);
}
