#include "agilequant/quant/trip_calibrator.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "agilequant/quant/error.hpp"

namespace {

using exponents_of = std::vector<std::uint8_t>;
constexpr aq::exponent_choice choices[] = {aq::exponent_choice::mean_square, aq::exponent_choice::maximum,
                                           aq::exponent_choice::percentile_99, aq::exponent_choice::root_mean_square};

/// Activations as large language models have them: 192 ordinary channels of sigma .8 to 1.2 and 6 one-signed ones, 12 to 45
/// times as large.
struct outlier_site {
    static constexpr std::size_t ordinary = 192, outliers = 6, channels = ordinary + outliers;

    explicit outlier_site(unsigned seed) : random(seed) {}

    std::vector<float> rows(std::size_t count) {
        std::normal_distribution<float> normal;
        std::vector<float> x(count * channels);
        for (std::size_t i = 0; i < x.size(); ++i) {
            const std::size_t c = i % channels;
            const auto o = static_cast<float>(c % outliers);
            if (is_outlier(c)) x[i] = (c % 2 == 0 ? 1.0F : -1.0F) * (12.0F + 6.6F * o) * (1.0F + 0.1F * normal(random));
            else x[i] = (0.8F + 0.002F * static_cast<float>(c)) * normal(random);
        }
        return x;
    }
    static bool is_outlier(std::size_t c) { return c % 33 == 5; }

    std::mt19937 random;
};

/// x and back, with the static scale where `fixed` is given, else with one for each token.
std::vector<float> quantized(const std::vector<float>& x, const exponents_of& exponents, aq::code_range codes,
                             const aq::affine* fixed) {
    std::vector<float> result(x.size());
    const std::size_t k = exponents.size();
    for (std::size_t t = 0; t < x.size() / k; ++t) {
        aq::value_range range;
        for (std::size_t c = 0; c < k; ++c) range = aq::including(range, std::ldexp(x[t * k + c], -exponents[c]));
        const aq::affine a = fixed != nullptr ? *fixed : aq::fit(range, codes, true);
        for (std::size_t c = 0; c < k; ++c) {
            const std::size_t i = t * k + c;
            result[i] = aq::decode_trip(aq::encode_trip(x[i], 1.0F / a.scale, a.zero, exponents[c], codes), a, exponents[c]);
        }
    }
    return result;
}

/// Mean over the channels of the error's share of the channel's own energy: what a product feels whose weights make up for
/// the sizes of the channels, as those behind a norm's gain do.
double channel_error(const std::vector<float>& x, const std::vector<float>& y, std::size_t k, bool ordinary_only = false) {
    double total = 0.0;
    std::size_t count = 0;
    for (std::size_t c = 0; c < k; ++c) {
        if (ordinary_only && outlier_site::is_outlier(c)) continue;
        double error = 0.0, energy = 0.0;
        for (std::size_t i = c; i < x.size(); i += k) {
            error += std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
            energy += std::pow(static_cast<double>(x[i]), 2);
        }
        total += error / energy;
        ++count;
    }
    return total / static_cast<double>(count);
}

}  // namespace

TEST_CASE(
    "outlier channels in 4 bits: TRIP's error is below a tenth of the uniform quantizer's with K = 3, a thirtieth with K = 4") {
    outlier_site site(61);
    constexpr std::size_t k = outlier_site::channels;
    const std::vector<float> calibration = site.rows(700), x = site.rows(300);
    aq::trip_calibrator calibrator;
    REQUIRE(calibrator.reset(k) == aq::status::ok);
    REQUIRE(calibrator.add({calibration.data(), 700, k}) == aq::status::ok);
    const aq::code_range codes = aq::activation_codes(4, true);
    exponents_of exponents(k);
    aq::affine fixed;

    REQUIRE(calibrator.fit({4, true, 0, aq::exponent_choice::mean_square}, exponents.data(), fixed) == aq::status::ok);
    CHECK(exponents == exponents_of(k, 0));  // K = 0 is the uniform quantizer
    const double uniform_static = channel_error(x, quantized(x, exponents, codes, &fixed), k);
    const double uniform_token = channel_error(x, quantized(x, exponents, codes, nullptr), k);
    CHECK(uniform_token > 0.8);  // nearly nothing is left of the ordinary channels

    for (const int top : {3, 4}) {
        for (const aq::exponent_choice choice : choices) {
            CAPTURE(static_cast<int>(choice));
            REQUIRE(calibrator.fit({4, true, top, choice}, exponents.data(), fixed) == aq::status::ok);
            const double trip_static = channel_error(x, quantized(x, exponents, codes, &fixed), k);
            const double trip_token = channel_error(x, quantized(x, exponents, codes, nullptr), k);
            CHECK(trip_static < uniform_static / (top == 3 ? 10 : 30));
            CHECK(trip_token < uniform_token / (top == 3 ? 10 : 30));
        }
    }
}

TEST_CASE("where 8 bits resolve every channel, each step of K divides the squared error of ordinary channels by four") {
    outlier_site site(62);
    constexpr std::size_t k = outlier_site::channels;
    const std::vector<float> x = site.rows(512);
    aq::trip_calibrator calibrator;
    REQUIRE(calibrator.reset(k) == aq::status::ok);
    REQUIRE(calibrator.add({x.data(), 512, k}) == aq::status::ok);
    exponents_of exponents(k);
    aq::affine fixed;
    double before = 0.0;
    for (int top = 0; top <= 3; ++top) {
        REQUIRE(calibrator.fit({8, true, top, aq::exponent_choice::maximum}, exponents.data(), fixed) == aq::status::ok);
        const double error = channel_error(x, quantized(x, exponents, aq::activation_codes(8, true), &fixed), k, true);
        if (top > 0) {
            CHECK(before / error > 3.8);
            CHECK(before / error < 4.2);
        }
        before = error;
    }
}

TEST_CASE("exponents: the search equals a search channel by channel, the statistics their formula") {
    std::mt19937 random(63);
    constexpr std::size_t k = 40, rows = 90;
    std::vector<float> x(rows * k);
    std::student_t_distribution<float> t(4.0F);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = t(random) * std::ldexp(1.0F, static_cast<int>(i % k % 9) - 4);
    aq::trip_calibrator calibrator;
    REQUIRE(calibrator.reset(k) == aq::status::ok);
    REQUIRE(calibrator.add({x.data(), rows, k}) == aq::status::ok);
    CHECK(calibrator.sample().rows == rows);

    std::vector<double> b[4];
    for (std::size_t c = 0; c < k; ++c) {
        std::vector<double> column;
        double squares = 0.0;
        for (std::size_t r = 0; r < rows; ++r) {
            column.push_back(std::fabs(static_cast<double>(x[r * k + c])));
            squares += column.back() * column.back();
        }
        std::sort(column.begin(), column.end());
        b[1].push_back(column.back());
        b[2].push_back(column[89]);  // ceil(.99 * 89)
        b[3].push_back(std::sqrt(squares / rows));
    }
    for (int top = 0; top <= aq::max_trip_exponent; ++top) {
        for (const bool is_asymmetric : {false, true}) {
            const aq::code_range codes = aq::activation_codes(4, is_asymmetric);
            const aq::affine expected = aq::fit_trip(aq::range_of(x.data(), x.size()), codes, is_asymmetric, top);
            for (int choice = 0; choice < 4; ++choice) {
                exponents_of exponents(k, 99);
                aq::affine fixed;
                REQUIRE(calibrator.fit({4, is_asymmetric, top, choices[choice]}, exponents.data(), fixed) == aq::status::ok);
                CHECK(fixed.scale == expected.scale);
                CHECK(fixed.zero == expected.zero);
                for (std::size_t c = 0; c < k; ++c) {
                    if (choice == 0) {
                        CHECK(exponents[c] == aq::least_error_exponent(x.data() + c, rows, k, expected, codes, top));
                    } else {
                        const double largest = *std::max_element(b[choice].begin(), b[choice].end());
                        const double v = std::nearbyint(std::log2(b[choice][c] / largest) + top);
                        CHECK(exponents[c] == static_cast<int>(std::max(v, 0.0)));
                    }
                }
            }
        }
    }
}

TEST_CASE("static ranges: extremes of every row, percentiles and the least squared error of the sampled values") {
    std::mt19937 random(65);
    constexpr std::size_t k = 12, rows = 200;
    std::vector<float> x(rows * k);
    std::student_t_distribution<float> t(3.0F);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = t(random) * std::ldexp(1.0F, static_cast<int>(i % k % 5));
    for (const std::size_t capacity : {rows, rows / 2}) {
        aq::trip_calibrator calibrator;
        REQUIRE(calibrator.reset(k, capacity) == aq::status::ok);
        REQUIRE(calibrator.add({x.data(), rows, k}) == aq::status::ok);
        const aq::matrix_view<const float> sample = calibrator.sample();
        REQUIRE(sample.rows == capacity);
        for (const bool is_asymmetric : {false, true}) {
            for (const int top : {0, 3, 6}) {
                const aq::trip_format format{4, is_asymmetric, top, choices[1]};
                const aq::code_range codes = aq::activation_codes(4, is_asymmetric);
                exponents_of exponents(k);
                aq::affine paper, fixed;
                REQUIRE(calibrator.fit(format, exponents.data(), paper) == aq::status::ok);
                std::vector<float> values;
                for (std::size_t i = 0; i < capacity * k; ++i)
                    values.push_back(std::ldexp(sample.row(i / k)[i % k], -exponents[i % k]));
                std::vector<float> sorted = values;
                std::sort(sorted.begin(), sorted.end());
                const auto at_share = [&](double share) {  // what is left of both ends
                    const auto last = sorted.size() - 1,
                               high = static_cast<std::size_t>(std::ceil(share * static_cast<double>(last)));
                    return aq::fit({sorted[last - high], sorted[high]}, codes, is_asymmetric);
                };
                aq::affine least = at_share(1.0);
                double error = aq::squared_error(values.data(), values.size(), least, codes);
                for (int i = 1; i < 20; ++i) {
                    const auto clip = static_cast<float>(100 - 3 * i) / 100.0F;
                    const aq::affine a = aq::fit(aq::clipped({sorted.front(), sorted.back()}, clip), codes, is_asymmetric);
                    const double e = aq::squared_error(values.data(), values.size(), a, codes);
                    if (e < error) error = e, least = a;
                }
                using aq::static_range;
                const std::pair<static_range, aq::affine> expected[] = {{static_range::extremes, paper},
                                                                        {static_range::percentile_99_99, at_share(0.9999)},
                                                                        {static_range::percentile_99_9, at_share(0.999)},
                                                                        {static_range::mean_square, least}};
                for (const auto& e : expected) {
                    CAPTURE(static_cast<int>(e.first));
                    REQUIRE(calibrator.fit_static(format, exponents.data(), e.first, fixed) == aq::status::ok);
                    CHECK(std::fabs(fixed.scale - e.second.scale) <=
                          0x1p-22F * e.second.scale);  // of the clip, one way or the other
                    CHECK(fixed.zero == e.second.zero);
                }
            }
        }
    }
}

TEST_CASE("the result does not depend on how rows come, extremes are those of every row") {
    outlier_site site(64);
    constexpr std::size_t k = outlier_site::channels, rows = 400;
    std::vector<float> x = site.rows(rows);
    x[399 * k + 7] = 500.0F;  // long after a sample of 50 is full
    aq::trip_calibrator whole, pieces;
    REQUIRE(whole.reset(k, 50) == aq::status::ok);
    REQUIRE(whole.add({x.data(), rows, k}) == aq::status::ok);
    REQUIRE(pieces.reset(k, 2) == aq::status::ok);
    const std::vector<float> other(3 * k, 9000.0F);
    REQUIRE(pieces.add({other.data(), 3, k}) == aq::status::ok);
    REQUIRE(pieces.reset(k, 50) == aq::status::ok);  // and nothing of an earlier use is left
    for (std::size_t r = 0; r < rows;) {
        const std::size_t count = std::min<std::size_t>(1 + r % 13, rows - r);
        REQUIRE(pieces.add({x.data() + r * k, count, k}) == aq::status::ok);
        r += count;
    }
    CHECK(whole.rows() == rows);
    CHECK(whole.range().high == 500.0F);
    for (const aq::exponent_choice choice : choices) {
        exponents_of first(k), second(k);
        aq::affine a, b;
        REQUIRE(whole.fit({4, true, 5, choice}, first.data(), a) == aq::status::ok);
        REQUIRE(pieces.fit({4, true, 5, choice}, second.data(), b) == aq::status::ok);
        CHECK(first == second);
        CHECK(a.scale == b.scale);
        if (choice == aq::exponent_choice::maximum) CHECK(first[7] == 5);
    }
}

TEST_CASE("the sample is bounded, made of distinct rows, and drawn from all of them") {
    constexpr std::size_t rows = 4000, capacity = 400;
    std::vector<float> x(rows);
    for (std::size_t r = 0; r < rows; ++r) x[r] = static_cast<float>(r);
    aq::trip_calibrator calibrator;
    REQUIRE(calibrator.reset(1, capacity) == aq::status::ok);
    REQUIRE(calibrator.add({x.data(), rows, 1}) == aq::status::ok);
    const aq::matrix_view<const float> sample = calibrator.sample();
    REQUIRE(sample.rows == capacity);
    const std::set<float> distinct(sample.data, sample.data + capacity);
    CHECK(distinct.size() == capacity);
    int tenths[10] = {};
    for (const float v : distinct) ++tenths[static_cast<std::size_t>(v) / 400];
    for (const int count : tenths) {  // 40 each on average, with a deviation of 5.7
        CHECK(count > 40 - 24);
        CHECK(count < 40 + 24);
    }
}

TEST_CASE("trip_calibrator: nothing added, odd values, refusals") {
    aq::trip_calibrator calibrator;
    exponents_of exponents(2, 9);
    aq::affine a;
    float x[4] = {1.0F, 2.0F, 3.0F, 4.0F};
    const aq::trip_format f;
    CHECK(calibrator.add({x, 1, 2}) == aq::status::bad_argument);  // no reset yet
    CHECK(calibrator.fit(f, exponents.data(), a) == aq::status::bad_argument);
    CHECK(calibrator.reset(2, 0) == aq::status::bad_argument);
    CHECK(calibrator.reset(2, static_cast<std::size_t>(-1)) == aq::status::out_of_memory);
    REQUIRE(calibrator.reset(2) == aq::status::ok);
    for (const aq::exponent_choice choice : choices) {
        REQUIRE(calibrator.fit({4, true, 3, choice}, exponents.data(), a) == aq::status::ok);
        CHECK(exponents == exponents_of{0, 0});
        CHECK(a.scale == 1.0F);
    }
    CHECK(calibrator.add({x, 1, 3}) == aq::status::bad_shape);
    CHECK(calibrator.add({nullptr, 1, 2}) == aq::status::null_pointer);
    CHECK(calibrator.add({x, 2, 2, 1}) == aq::status::bad_stride);
    CHECK(calibrator.rows() == 0);
    for (const int bits : {1, 9})
        CHECK(calibrator.fit({bits, true, 3, choices[0]}, exponents.data(), a) == aq::status::bad_argument);
    for (const int top : {-1, 7})
        CHECK(calibrator.fit({4, true, top, choices[0]}, exponents.data(), a) == aq::status::bad_argument);
    CHECK(calibrator.fit(f, nullptr, a) == aq::status::null_pointer);

    const float odd[4] = {std::nanf(""), INFINITY, 1.0F, -INFINITY};
    REQUIRE(calibrator.add({odd, 2, 2}) == aq::status::ok);
    for (const aq::exponent_choice choice : choices) {
        REQUIRE(calibrator.fit({4, true, 3, choice}, exponents.data(), a) == aq::status::ok);
        CHECK(exponents == exponents_of{0, 3});
        CHECK(std::isnormal(a.scale));
    }
    const std::uint8_t above[2] = {0, 4};
    for (const aq::static_range range : {aq::static_range::extremes, aq::static_range::percentile_99_99,
                                         aq::static_range::percentile_99_9, aq::static_range::mean_square}) {
        REQUIRE(calibrator.fit_static(f, exponents.data(), range, a) == aq::status::ok);
        CHECK(std::isnormal(a.scale));
        CHECK(calibrator.fit_static({9}, exponents.data(), range, a) == aq::status::bad_argument);
        CHECK(calibrator.fit_static({4, true, 7}, exponents.data(), range, a) == aq::status::bad_argument);
        CHECK(calibrator.fit_static(f, above, range, a) == aq::status::bad_argument);
        CHECK(calibrator.fit_static(f, nullptr, range, a) == aq::status::null_pointer);
        CHECK(aq::trip_calibrator().fit_static(f, exponents.data(), range, a) == aq::status::bad_argument);
        aq::trip_calibrator unseen;
        REQUIRE(unseen.reset(2) == aq::status::ok);
        REQUIRE(unseen.fit_static(f, exponents.data(), range, a) == aq::status::ok);
        CHECK(a.scale == 1.0F);
    }
    REQUIRE(calibrator.reset(0) == aq::status::ok);
    CHECK(calibrator.fit_static(f, nullptr, aq::static_range::mean_square, a) == aq::status::ok);
    CHECK(calibrator.add({nullptr, 5, 0}) == aq::status::ok);
    CHECK(calibrator.fit(f, nullptr, a) == aq::status::ok);
    CHECK(calibrator.fit({4, true, 3, aq::exponent_choice::maximum}, nullptr, a) == aq::status::ok);
}
