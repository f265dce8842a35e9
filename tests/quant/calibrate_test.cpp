#include "agilequant/quant/calibrate.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace {

std::vector<float> heavy_tailed(std::mt19937& random, std::size_t count) {
    std::student_t_distribution<float> t(3.0F);
    std::vector<float> x(count);
    for (float& v : x) v = t(random);
    return x;
}

/// Squared error in double, with the quantizer written out.
double error_of(const std::vector<float>& x, aq::value_range r, aq::code_range codes, bool is_asymmetric) {
    const aq::affine a = is_asymmetric ? aq::fit_asymmetric(r, codes) : aq::fit_symmetric(r, codes);
    double sum = 0.0;
    for (const float v : x) {
        const int q = std::min(std::max(static_cast<int>(std::nearbyint(v * (1.0F / a.scale))) + a.zero, codes.low), codes.high);
        const double e = static_cast<double>(v) - static_cast<double>(a.scale * static_cast<float>(q - a.zero));
        sum += e * e;
    }
    return sum;
}

}  // namespace

TEST_CASE("a percentile is a rank of the sorted values") {
    std::mt19937 random(31);
    for (int round = 0; round < 300; ++round) {
        const std::size_t count = 1 + random() % 200;
        std::vector<float> x = heavy_tailed(random, count), scratch(count);
        if (round % 3 == 0) {
            for (float& v : x) v = std::fabs(v);  // one-sided: the other side is zero
        }
        const double percent = round % 7 == 0 ? 100.0 : 50.0 + static_cast<double>(random() % 5000) / 100.0;
        const aq::value_range r = aq::percentile_range(x.data(), count, percent, scratch.data());
        std::sort(x.begin(), x.end());
        const auto rank = static_cast<std::size_t>(std::ceil(percent / 100.0 * static_cast<double>(count - 1)));
        CAPTURE(count);
        CAPTURE(percent);
        CHECK(r.high == std::max(0.0F, std::max(x[rank], x[count - 1 - rank])));
        CHECK(r.low == std::min(0.0F, std::min(x[rank], x[count - 1 - rank])));
        if (percent == 100.0) {
            CHECK(r.high == aq::range_of(x.data(), count).high);
            CHECK(r.low == aq::range_of(x.data(), count).low);
        }
    }
    float scratch[4] = {};
    const float with_nan[] = {1.0F, std::nanf(""), 2.0F, -1.0F};
    CHECK(aq::percentile_range(with_nan, 4, 100.0, scratch).high == 2.0F);
    CHECK(aq::percentile_range(with_nan, 0, 99.0, nullptr).high == 0.0F);
    const aq::value_range limited = aq::percentile_range(with_nan, 4, 1000.0, scratch);
    CHECK(limited.high == 2.0F);
    CHECK(limited.low == -1.0F);
}

TEST_CASE("the mean-square search takes the best of its clips, and is never worse than the extremes") {
    std::mt19937 random(32);
    int better = 0;
    for (int round = 0; round < 200; ++round) {
        const std::vector<float> x = heavy_tailed(random, 1 + random() % 150);
        const int width = 2 + static_cast<int>(random() % 7);
        const bool is_asymmetric = random() % 2 == 0;
        const aq::code_range codes = is_asymmetric ? aq::unsigned_codes(width) : aq::signed_codes(width);
        const aq::value_range whole = aq::range_of(x.data(), x.size());
        const aq::value_range best = aq::least_error_range(x.data(), x.size(), codes, is_asymmetric);
        double least = error_of(x, whole, codes, is_asymmetric);
        const double of_extremes = least;
        for (int i = 1; i < 20; ++i) {
            const float clip = 1.0F - aq::rounded(0.03F * static_cast<float>(i));  // as everywhere: never fused
            least = std::min(least, error_of(x, {whole.low * clip, whole.high * clip}, codes, is_asymmetric));
        }
        const double found = error_of(x, best, codes, is_asymmetric);
        CHECK(found == least);
        CHECK(found <= of_extremes);
        better += found < of_extremes ? 1 : 0;
        const aq::affine a = aq::fit(x.data(), x.size(), codes, is_asymmetric, aq::range_search::mean_square);
        CHECK(a.scale == aq::fit(best, codes, is_asymmetric).scale);
        CHECK(aq::fit(x.data(), x.size(), codes, is_asymmetric, aq::range_search::min_max).scale ==
              aq::fit(whole, codes, is_asymmetric).scale);
    }
    CHECK(better > 50);  // heavy tails: it has something to find
    const float zeros[4] = {};
    CHECK(aq::fit(zeros, 4, aq::unsigned_codes(4), true, aq::range_search::mean_square).scale == 1.0F);
    CHECK(aq::fit(zeros, 0, aq::unsigned_codes(4), true, aq::range_search::mean_square).scale == 1.0F);
}
