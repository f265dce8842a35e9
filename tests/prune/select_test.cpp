#include "agilequant/prune/select.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
const float nan_value = std::numeric_limits<float>::quiet_NaN();

/// By sorting: token 0, then falling score with NaN behind everything, equal scores in order of the tokens; the first `keep`.
std::vector<std::uint32_t> sorted_choice(const std::vector<float>& scores, std::size_t keep) {
    std::vector<std::uint32_t> order(scores.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::uint32_t>(i);
    std::stable_sort(order.begin() + 1, order.end(), [&](std::uint32_t a, std::uint32_t b) {
        if (std::isnan(scores[a]) || std::isnan(scores[b])) return !std::isnan(scores[a]) && std::isnan(scores[b]);
        return scores[a] > scores[b];
    });
    order.resize(keep);
    std::sort(order.begin(), order.end());
    return order;
}

std::vector<std::uint32_t> choice(const std::vector<float>& scores, std::size_t keep) {
    std::vector<std::uint32_t> kept(keep + 1, 12345);
    REQUIRE(aq::select_rows(scores.data(), scores.size(), keep, kept.data()) == aq::status::ok);
    CHECK(kept.back() == 12345);
    kept.pop_back();
    return kept;
}

}  // namespace

TEST_CASE("kept_rows drops floor(n p/q) for every fraction, also those that a double cannot hold") {
    int wrong = 0;
    for (std::size_t q = 1; q <= 100; ++q) {
        for (std::size_t p = 0; p < q; ++p) {
            const double ratio = static_cast<double>(p) / static_cast<double>(q);
            for (std::size_t n = 0; n <= 400; ++n) wrong += aq::kept_rows(n, ratio) == (n <= 1 ? n : n - n * p / q) ? 0 : 1;
            for (const std::size_t n : {2047U, 2048U, 4096U, 100000U}) wrong += aq::kept_rows(n, ratio) == n - n * p / q ? 0 : 1;
        }
    }
    CHECK(wrong == 0);
    CHECK(aq::kept_rows(100, 0.29) == 71);
    CHECK(static_cast<int>(100 * 0.29) == 28);  // what a bare floor would drop
}

TEST_CASE("at least one row is kept, and a ratio that is none drops nothing") {
    CHECK(aq::kept_rows(1, 0.999) == 1);
    CHECK(aq::kept_rows(0, 0.5) == 0);
    for (std::size_t n = 2; n < 3000; ++n) CHECK(aq::kept_rows(n, std::nextafter(1.0, 0.0)) == 1);
    for (const double ratio : {-0.1, -1e-300, 1.0, 2.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
        CHECK(!aq::is_prune_ratio(ratio));
        CHECK(aq::kept_rows(10, ratio) == 10);
    }
    CHECK(aq::is_prune_ratio(0.0));
    CHECK(aq::is_prune_ratio(-0.0));
    CHECK(aq::is_prune_ratio(0.999999));
}

TEST_CASE("select_rows equals a sort, in hundreds of cases with ties, NaN and infinities") {
    std::mt19937 random(5);
    for (int round = 0; round < 800; ++round) {
        const std::size_t n = 1 + random() % (round % 10 == 0 ? 700 : 40);
        const auto levels = 1 + random() % 30;  // few levels: many ties, as after log2
        std::vector<float> scores(n);
        for (float& s : scores) {
            s = round % 2 == 0 ? std::ldexp(1.0F, -static_cast<int>(random() % levels))
                               : static_cast<float>(random()) * 0x1p-31F - 1.0F;
            if (round % 5 == 0 && random() % 4 == 0) {
                const float odd[] = {nan_value, -nan_value, infinity, -infinity,
                                     0.0F,      -0.0F,      -1.0F,    std::numeric_limits<float>::denorm_min()};
                s = odd[random() % 8];
            }
        }
        const std::size_t keep = 1 + random() % n;
        CAPTURE(round);
        CAPTURE(n);
        CAPTURE(keep);
        CHECK(choice(scores, keep) == sorted_choice(scores, keep));
    }
}

TEST_CASE("token 0 survives, of equal scores the later token goes, NaN is the lowest") {
    using kept = std::vector<std::uint32_t>;
    CHECK((choice({0.0F, 9.0F, 8.0F}, 1) == kept{0}));
    CHECK((choice({nan_value, 9.0F, infinity}, 2) == kept{0, 2}));
    CHECK((choice({1.0F, 1.0F, 1.0F, 1.0F, 1.0F}, 3) == kept{0, 1, 2}));
    CHECK((choice({4.0F, 0.5F, 1.0F, 0.5F, 0.5F}, 3) == kept{0, 1, 2}));
    CHECK((choice({4.0F, 0.0F, -0.0F, 0.0F}, 2) == kept{0, 1}));
    CHECK((choice({4.0F, nan_value, -infinity, 1.0F}, 3) == kept{0, 2, 3}));
    CHECK((choice({4.0F, nan_value, nan_value}, 3) == kept{0, 1, 2}));
    CHECK((choice({4.0F, 3.0F, 2.0F, infinity}, 2) == kept{0, 3}));  // how a caller keeps the last token
    CHECK((choice({4.0F}, 1) == kept{0}));
    CHECK(choice({}, 0).empty());
}

TEST_CASE("select_rows refuses what it cannot do") {
    float scores[3] = {1, 2, 3};
    std::uint32_t kept[3] = {};
    CHECK(aq::select_rows(scores, 3, 4, kept) == aq::status::bad_argument);
    CHECK(aq::select_rows(scores, 3, 0, kept) == aq::status::bad_argument);
    CHECK(aq::select_rows(nullptr, 3, 2, kept) == aq::status::null_pointer);
    CHECK(aq::select_rows(scores, 3, 2, nullptr) == aq::status::null_pointer);
    CHECK(aq::select_rows(nullptr, 0, 0, nullptr) == aq::status::ok);
}
