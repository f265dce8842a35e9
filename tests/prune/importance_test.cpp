#include "agilequant/prune/importance.hpp"

#include <doctest/doctest.h>

#include <random>
#include <vector>

TEST_CASE("importance is the sum over heads, in head order") {
    std::mt19937 random(3);
    std::uniform_real_distribution<float> share(0.0F, 1.0F);
    for (const std::size_t heads : {0U, 1U, 4U, 32U}) {
        for (const std::size_t rows : {0U, 1U, 7U, 33U}) {
            const std::size_t stride = rows + 3;
            std::vector<float> column(heads * stride + 1, -100.0F), scores(rows + 1, 7.0F);
            for (std::size_t h = 0; h < heads; ++h) {
                for (std::size_t i = 0; i < rows; ++i) column[h * stride + i] = share(random);
            }
            REQUIRE(aq::token_importance({column.data(), heads, rows, stride}, scores.data()) == aq::status::ok);
            for (std::size_t i = 0; i < rows; ++i) {
                float expected = 0.0F;
                for (std::size_t h = 0; h < heads; ++h) expected += column[h * stride + i];
                CHECK(scores[i] == expected);
            }
            CHECK(scores[rows] == 7.0F);
        }
    }
    CHECK(aq::token_importance({nullptr, 2, 2}, nullptr) == aq::status::null_pointer);
    float x[4] = {};
    CHECK(aq::token_importance({x, 2, 2}, nullptr) == aq::status::null_pointer);
    CHECK(aq::token_importance({x, 2, 2, 1}, x) == aq::status::bad_stride);
}
