#include "agilequant/prune/compact.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <vector>

TEST_CASE("compact_rows moves the survivors together and touches nothing else") {
    std::mt19937 random(11);
    for (int round = 0; round < 300; ++round) {
        const std::size_t rows = 1 + random() % 20, cols = random() % 9, stride = cols + random() % 4;
        std::vector<std::uint32_t> kept;
        for (std::size_t r = 0; r < rows; ++r) {
            if (random() % 3 != 0) kept.push_back(static_cast<std::uint32_t>(r));
        }
        std::vector<float> x(rows * stride + 1);
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
        std::vector<float> expected = x;
        for (std::size_t i = 0; i < kept.size(); ++i) {
            for (std::size_t c = 0; c < cols; ++c) expected[i * stride + c] = x[kept[i] * stride + c];
        }
        CAPTURE(round);
        REQUIRE(aq::compact_rows(aq::matrix_view<float>(x.data(), rows, cols, stride), kept.data(), kept.size()) ==
                aq::status::ok);
        CHECK(x == expected);
    }
}

TEST_CASE("positions are a matrix of one column") {
    std::uint32_t positions[] = {0, 1, 2, 3, 4};
    const std::uint32_t kept[] = {0, 2, 4};
    REQUIRE(aq::compact_rows(aq::matrix_view<std::uint32_t>(positions, 5, 1), kept, 3) == aq::status::ok);
    CHECK(positions[0] == 0);
    CHECK(positions[1] == 2);
    CHECK(positions[2] == 4);
}

TEST_CASE("a list that does not rise or leaves the matrix is refused, and nothing moves") {
    float x[3] = {0, 1, 2};
    const aq::matrix_view<float> view(x, 3, 1);
    const std::uint32_t beyond[] = {1, 3}, falling[] = {1, 0}, twice[] = {1, 1};
    CHECK(aq::compact_rows(view, beyond, 2) == aq::status::bad_argument);
    CHECK(aq::compact_rows(view, falling, 2) == aq::status::bad_argument);
    CHECK(aq::compact_rows(view, twice, 2) == aq::status::bad_argument);
    CHECK(aq::compact_rows(view, nullptr, 1) == aq::status::null_pointer);
    CHECK(aq::compact_rows(aq::matrix_view<float>(x, 2, 2, 1), twice, 1) == aq::status::bad_stride);
    CHECK(x[0] == 0.0F);
    CHECK(aq::compact_rows(view, nullptr, 0) == aq::status::ok);
    CHECK(aq::compact_rows(aq::matrix_view<float>(), nullptr, 0) == aq::status::ok);
}
