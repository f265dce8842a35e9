// Slopes as published, and the bias.
#include "agilequant/elementwise/alibi.hpp"

#include <doctest/doctest.h>

#include "elementwise/samples.hpp"

using namespace aq_test;

namespace {

std::vector<float> slopes(std::size_t heads) {
    std::vector<float> s(heads);
    aq::alibi_slopes(heads, s.data());
    return s;
}

// BLOOM's function, in double: the slopes of the largest power of two, then every second one of twice that.
std::vector<double> slopes_of_bloom(std::size_t heads) {
    const double n = std::pow(2.0, std::floor(std::log2(static_cast<double>(heads))));
    const double base = std::pow(2.0, -std::pow(2.0, -(std::log2(n) - 3))),
                 extra_base = std::pow(2.0, -std::pow(2.0, -(std::log2(2 * n) - 3)));
    std::vector<double> s;
    for (double power = 1; power <= n; ++power) s.push_back(std::pow(base, power));
    for (double power = 1; s.size() < heads; power += 2) s.push_back(std::pow(extra_base, power));
    return s;
}

}  // namespace

TEST_CASE("alibi slopes of 8 heads are the powers of a half") {
    CHECK(slopes(8) == std::vector<float>{0x1p-1F, 0x1p-2F, 0x1p-3F, 0x1p-4F, 0x1p-5F, 0x1p-6F, 0x1p-7F, 0x1p-8F});
    CHECK(slopes(1) == std::vector<float>{0x1p-8F});
    CHECK(slopes(0).empty());
}

TEST_CASE("alibi slopes are BLOOM's, also where heads is no power of two") {
    for (const std::size_t heads : sizes{1, 2, 3, 5, 8, 12, 14, 16, 31, 32, 40, 112}) {
        const auto s = slopes(heads);
        const auto expected = slopes_of_bloom(heads);
        for (std::size_t h = 0; h < heads; ++h) CHECK(std::abs(s[h] / expected[h] - 1) <= 1.001 * u);  // rounded once
    }
}

TEST_CASE("add_alibi adds slope times distance") {
    const std::size_t count = 53;
    std::vector<float> positions(count), scores = numbers(21).take(count, 5.0F);
    for (std::size_t i = 0; i < count; ++i) positions[i] = static_cast<float>(i + i / 7);  // tokens were dropped
    const auto before = scores;
    aq::add_alibi(0.3F, 60.0F, positions.data(), count, scores.data());
    for (std::size_t i = 0; i < count; ++i)
        CHECK(bits(scores[i]) == bits(aq::multiply_add(0.3F, positions[i] - 60.0F, before[i])));
}

TEST_CASE("add_alibi keeps masked scores and NaN") {
    const float positions[2] = {0.0F, 1.0F};
    float scores[2] = {-infinity, quiet_nan};
    aq::add_alibi(0.5F, 1.0F, positions, 2, scores);
    CHECK(scores[0] == -infinity);
    CHECK(std::isnan(scores[1]));
}
