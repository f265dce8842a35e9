// Softmax and its statistics against double, with bounds from the scores.
#include "agilequant/elementwise/softmax.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "elementwise/samples.hpp"

using namespace aq_test;

namespace {

std::vector<float> softmax(const std::vector<float>& x) {
    std::vector<float> y(x.size());
    aq::softmax(x.data(), x.size(), y.data());
    return y;
}

aq::softmax_statistics statistics(const std::vector<float>& x) { return aq::statistics_of_softmax(x.data(), x.size()); }

}  // namespace

// x - maximum is off by u of itself, which is relative in e^x; exp by 0.991 ulp, 1.99 u; the sum by k/16 + 4 additions and the
// mean of its terms' errors; 1/sum and the product by u each. What exp flushes to zero is below 2^-126.
TEST_CASE("softmax against double") {
    for (const std::size_t k : sizes{1, 2, 15, 16, 17, 33, 100, 2048})
        for (const float range : {0.1F, 3.0F, 30.0F, 200.0F}) {
            const auto x = numbers(10).take(k, range), y = softmax(x);
            const double maximum = *std::max_element(x.begin(), x.end());
            double sum = 0, mean_error = 0;
            for (const float v : x) sum += std::exp(v - maximum), mean_error += std::exp(v - maximum) * (maximum - v);
            const double sum_bound = (mean_error / sum + 2.1 + static_cast<double>(k) / 16 + 4) * u;
            REQUIRE(sum_bound < 2e-5);
            CHECK(statistics(x).maximum == static_cast<float>(maximum));
            CHECK(std::abs(statistics(x).sum - sum) <= 1.01 * sum_bound * sum);
            for (std::size_t i = 0; i < k; ++i) {
                const double exact = std::exp(x[i] - maximum) / sum, bound = (maximum - x[i] + 2.1 + 2) * u + sum_bound;
                REQUIRE(std::abs(y[i] - exact) <= 1.01 * bound * exact + 0x1p-126);
            }
        }
}

TEST_CASE("softmax divides by the sum of its statistics") {
    const auto x = numbers(11).take(77, 9.0F), y = softmax(x);
    const auto [maximum, sum] = statistics(x);
    for (std::size_t i = 0; i < x.size(); ++i)
        CHECK(bits(y[i]) == bits(aq::rounded(aq::lanes::exp(x[i] - maximum)) * (1.0F / sum)));
}

TEST_CASE("softmax of special rows") {
    CHECK(softmax({}).empty());
    CHECK(softmax({-1e30F})[0] == 1.0F);
    CHECK(softmax({3e38F, -3e38F}) == std::vector<float>{1.0F, 0.0F});
    CHECK(softmax({5.0F, -infinity}) == std::vector<float>{1.0F, 0.0F});
    CHECK(softmax({-infinity, -infinity}) == std::vector<float>{0.0F, 0.0F});
    CHECK(softmax({0.0F, -0.0F}) == std::vector<float>{0.5F, 0.5F});
    CHECK(softmax({denormal, 0.0F}) == std::vector<float>{0.5F, 0.5F});
    CHECK(softmax({0.0F, -87.4F}) == std::vector<float>{1.0F, 0.0F});
    CHECK(std::isnan(softmax({1.0F, quiet_nan})[0]));
    CHECK(std::isnan(softmax({quiet_nan, 1.0F})[1]));
    CHECK(std::isnan(softmax({1.0F, infinity})[0]));
    CHECK(statistics({}).maximum == -infinity);
    CHECK(statistics({}).sum == 0.0F);
    CHECK(statistics({-infinity, -infinity}).maximum == -infinity);
    CHECK(statistics({-infinity, -infinity}).sum == 0.0F);
    CHECK(statistics({quiet_nan, 2.0F, 1.0F}).maximum == 2.0F);
    CHECK(std::isnan(statistics({quiet_nan, 2.0F, 1.0F}).sum));
    CHECK(std::isnan(statistics({infinity, 1.0F}).sum));
}

TEST_CASE("softmax in place") {
    auto x = numbers(12).take(50, 4.0F);
    const auto y = softmax(x);
    aq::softmax(x.data(), x.size(), x.data());
    CHECK(same_bits(x, y));
}
