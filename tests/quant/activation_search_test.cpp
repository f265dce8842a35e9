// The search for a site's coding against a plain one that multiplies every row's error by the weights, in double; what it is for; and what it refuses.
#include "agilequant/quant/activation_search.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

#include "support/site_case.hpp"
#include "support/status_text.hpp"

using aq::activation_candidate;
using aq::activation_search;
using aq::activation_search_settings;
using aq::exponent_choice;
using aq::searched_activations;
using aq::static_range;
using aq::status;
using namespace aq_test;

namespace {

using exponent_list = std::vector<std::uint8_t>;
constexpr exponent_choice choices[] = {exponent_choice::mean_square, exponent_choice::maximum, exponent_choice::percentile_99,
                                       exponent_choice::root_mean_square};
constexpr static_range ranges[] = {static_range::extremes, static_range::percentile_99_99, static_range::percentile_99_9,
                                   static_range::mean_square};

activation_search_settings settings_of(int bits, bool is_asymmetric, bool is_static, std::size_t finalists = 8) {
    activation_search_settings s;
    s.bits = bits;
    s.is_asymmetric = is_asymmetric;
    s.is_static = is_static;
    s.finalists = finalists;
    return s;
}
constexpr std::size_t all = 1000;  ///< finalists

searched_activations run(const site_case& c, const activation_search_settings& s, exponent_list& exponents) {
    activation_search search;
    searched_activations result;
    exponents.assign(c.x.cols, 99);
    REQUIRE(search.reset(c.site, c.outputs, s) == status::ok);
    REQUIRE(search.run(exponents.data(), result) == status::ok);
    return result;
}

/// The settings by their number.
activation_search_settings numbered(int i) {
    constexpr int widths[] = {4, 2, 8};
    activation_search_settings s = settings_of(widths[i % 3], i % 2 == 0, i % 4 >= 2);
    s.top_exponent = i % 7;
    s.rows = i % 5 == 0 ? 10 : 0;
    s.clip_count = static_cast<std::size_t>(1 + i % 3);
    return s;
}

}  // namespace

TEST_CASE("candidates: every K, form and choice, in order of preference, with the calibrator's exponents") {
    const site_case c = with_outliers(1);
    for (int number = 0; number < 28; ++number) {
        const activation_search_settings s = numbered(number);
        activation_search search;
        REQUIRE(search.reset(c.site, c.outputs, s) == status::ok);
        std::size_t i = 0;
        for (int top = 0; top <= s.top_exponent; ++top) {
            for (std::size_t form = 0; form < (s.is_static ? std::size(ranges) : s.clip_count); ++form) {
                for (const exponent_choice choice : choices) {
                    if (top == 0 && choice != choices[0]) continue;
                    REQUIRE(i < search.size());
                    const activation_candidate& candidate = search.candidate(i);
                    CHECK(candidate.top_exponent == top);
                    CHECK(candidate.choice == choice);
                    CHECK(candidate.format.bits == s.bits);
                    CHECK(candidate.format.is_asymmetric == s.is_asymmetric);
                    CHECK(candidate.format.is_static == s.is_static);
                    CHECK(candidate.format.clip == (s.is_static ? 1.0F : s.clips[form]));
                    if (s.is_static) CHECK(candidate.range == ranges[form]);
                    CHECK(candidate.diagonal_error == activation_candidate::not_measured);
                    CHECK(candidate.error == activation_candidate::not_measured);
                    exponent_list expected(c.x.cols);
                    aq::affine unused;
                    REQUIRE(c.site.fit({s.bits, s.is_asymmetric, top, choice}, expected.data(), unused) == status::ok);
                    CHECK(std::equal(expected.begin(), expected.end(), search.exponents(i)));
                    ++i;
                }
            }
        }
        CHECK(i == search.size());
    }
}

TEST_CASE("numeric: both passes of every candidate are the errors of the outputs themselves") {
    const site_case c = with_outliers(2);
    for (int number = 0; number < 28; ++number) {
        CAPTURE(number);
        const activation_search_settings s = numbered(number);
        const std::size_t rows = s.rows == 0 ? c.x.rows : s.rows;
        activation_search search;
        REQUIRE(search.reset(c.site, c.outputs, s) == status::ok);
        int wrong = 0;
        for (std::size_t i = 0; i < search.size(); ++i) {
            REQUIRE(search.rank(i) == status::ok);
            REQUIRE(search.measure(i) == status::ok);
            const activation_candidate& candidate = search.candidate(i);
            CHECK(is_valid(candidate.format));
            if (s.is_static) {
                aq::affine fixed;
                REQUIRE(c.site.fit_static({s.bits, s.is_asymmetric, candidate.top_exponent, candidate.choice},
                                          search.exponents(i), candidate.range, fixed) == status::ok);
                wrong += candidate.format.fixed.scale == fixed.scale && candidate.format.fixed.zero == fixed.zero ? 0 : 1;
            }
            wrong += agree(candidate.diagonal_error, diagonal_error(c, search.exponents(i), candidate.format), c) ? 0 : 1;
            wrong += agree(candidate.error, output_error(c, search.exponents(i), &candidate.format, rows), c) ? 0 : 1;
        }
        CHECK(wrong == 0);
        searched_activations result;
        exponent_list exponents(c.x.cols);
        REQUIRE(search.take(exponents.data(), result) == status::ok);
        CHECK(agree(result.energy, output_error(c, nullptr, nullptr, rows), c));
        CHECK(result.signal_to_noise_db() == 10.0 * std::log10(result.energy / result.best.error));
        CHECK(result.uniform_error == search.candidate(0).error);
    }
}

TEST_CASE("select: the uniform quantizer, then by the error of the first pass, of equal ones the first") {
    const site_case c = with_outliers(3);
    for (const std::size_t finalists : sizes{1, 2, 3, 8, all}) {
        for (int number = 0; number < 28; ++number) {
            activation_search_settings s = numbered(number);
            s.finalists = finalists;
            activation_search search;
            REQUIRE(search.reset(c.site, c.outputs, s) == status::ok);
            CHECK(search.finalists() == 0);
            std::vector<std::pair<double, std::size_t>> sorted;
            for (std::size_t i = 0; i < search.size(); ++i) {
                REQUIRE(search.rank(i) == status::ok);
                sorted.emplace_back(search.candidate(i).diagonal_error, i);
            }
            std::sort(sorted.begin(), sorted.end());
            std::vector<std::size_t> expected{0};
            double before = -1.0;
            for (const auto& [error, i] : sorted) {
                if (error != before && error != search.candidate(0).diagonal_error && expected.size() < finalists)
                    expected.push_back(i);
                before = error;
            }
            for (int again = 0; again < 2; ++again) {
                search.select();
                std::vector<std::size_t> found;
                for (std::size_t j = 0; j < search.finalists(); ++j) found.push_back(search.finalist(j));
                CHECK(found == expected);
            }
        }
    }
}

TEST_CASE("take: the first of the least errors that were measured, never above the uniform quantizer's or a finalist's") {
    for (int number = 0; number < 56; ++number) {
        CAPTURE(number);
        const auto seed = static_cast<std::uint64_t>(number);
        const site_case c = number % 2 == 0 ? with_outliers(seed) : without_outliers(seed);
        activation_search_settings s = numbered(number / 2);
        if (number >= 28) s.finalists = all;
        activation_search search;
        searched_activations result;
        exponent_list exponents(c.x.cols);
        REQUIRE(search.reset(c.site, c.outputs, s) == status::ok);
        REQUIRE(search.run(exponents.data(), result) == status::ok);
        std::size_t best = 0, measured = 0;
        for (std::size_t i = search.size(); i-- > 0;) {
            if (search.candidate(i).error == activation_candidate::not_measured) continue;
            ++measured;
            if (search.candidate(i).error <= search.candidate(best).error) best = i;
            CHECK(result.best.error <= search.candidate(i).error);
        }
        CHECK(measured == search.finalists());
        CHECK(result.best.error == search.candidate(best).error);
        CHECK(result.best.top_exponent == search.candidate(best).top_exponent);
        CHECK(result.best.choice == search.candidate(best).choice);
        CHECK(result.best.format.clip == search.candidate(best).format.clip);
        CHECK(result.best.format.fixed.scale == search.candidate(best).format.fixed.scale);
        CHECK(std::equal(exponents.begin(), exponents.end(), search.exponents(best)));
        CHECK(*std::max_element(exponents.begin(), exponents.end()) <= result.best.top_exponent);
        CHECK(result.best.error <= result.uniform_error);
        CHECK(is_valid(result.best.format));
    }
}

TEST_CASE("with every candidate a finalist the outputs are never worse than with the exponents of the paper's search") {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        for (const bool is_static : {false, true}) {
            CAPTURE(seed);
            const site_case c = seed % 2 == 0 ? with_outliers(seed) : without_outliers(seed);
            const activation_search_settings s = settings_of(4, true, is_static, all);
            exponent_list found, paper(c.x.cols);
            const searched_activations result = run(c, s, found);
            const std::size_t rows = c.x.rows;
            const sum_of_products ours = output_error(c, found.data(), &result.best.format, rows);
            CHECK(agree(result.best.error, ours, c));
            for (int top = 0; top <= aq::max_trip_exponent; ++top) {
                aq::activation_format format;
                format.bits = 4;
                format.is_asymmetric = true;
                format.is_static = is_static;
                REQUIRE(c.site.fit({4, true, top, exponent_choice::mean_square}, paper.data(), format.fixed) == status::ok);
                const sum_of_products theirs = output_error(c, paper.data(), &format, rows);
                CHECK((ours.value <= theirs.value || agree(ours.value, theirs, c)));
            }
        }
    }
}

TEST_CASE("outlier channels in 4 bits: less than a tenth of the uniform quantizer's error, and a K that is not always 3") {
    std::vector<int> counts(7);
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
        const site_case c = with_outliers(seed, 200, 40, 30);
        exponent_list exponents;
        const searched_activations result = run(c, {}, exponents);
        CHECK(result.best.error < 0.1 * result.uniform_error);
        CHECK(result.signal_to_noise_db() > 15.0);
        ++counts[static_cast<std::size_t>(result.best.top_exponent)];
    }
    CHECK(counts[0] == 0);
    CHECK(counts[3] < 10);
}

TEST_CASE("what counts is the output: a channel that no weight reads may lose everything") {
    random_source random(7);
    matrix x = random_matrix(random, 50, 12), w = random_matrix(random, 9, 12);
    for (std::size_t r = 0; r < x.rows; ++r) x.at(r, 5) = 300.0F + x.at(r, 5);
    site_case all_read(x, w);
    for (std::size_t n = 0; n < w.rows; ++n) w.at(n, 5) = 0.0F;
    const site_case unread(x, w);
    exponent_list exponents;
    activation_search_settings s = settings_of(4, true, false, all);
    for (int i = 1; i < 8; ++i) s.clips[i] = s.clips[i - 1] * 0.5F;
    s.clip_count = 8;
    s.top_exponent = 0;
    CHECK(run(all_read, s, exponents).best.format.clip == 1.0F);
    CHECK(run(unread, s, exponents).best.format.clip < 0.02F);

    for (float& v : w.data) v = 0.0F;  // nobody reads anything: all candidates are equal, and the first is taken
    const site_case deaf(x, w);
    activation_search search;
    searched_activations result;
    REQUIRE(search.reset(deaf.site, deaf.outputs, {}) == status::ok);
    for (std::size_t i = 0; i < search.size(); ++i) {
        REQUIRE(search.rank(i) == status::ok);
        REQUIRE(search.measure(i) == status::ok);  // all of them, though equal ones would be no finalists
    }
    REQUIRE(search.take(exponents.data(), result) == status::ok);
    CHECK(result.best.top_exponent == 0);
    CHECK(result.best.format.clip == 1.0F);
    CHECK(exponents == exponent_list(12, 0));
    CHECK(result.best.error == 0.0);
    CHECK(result.energy == 0.0);
    CHECK(std::isinf(result.signal_to_noise_db()));
}

TEST_CASE("the same bits by one thread or several, in any order, and from an object that was used before") {
    const site_case c = with_outliers(8), other = without_outliers(9);
    for (const bool is_static : {false, true}) {
        const activation_search_settings s = settings_of(4, true, is_static);
        exponent_list expected, exponents(c.x.cols);
        const searched_activations one = run(c, s, expected);
        activation_search search;
        searched_activations result;
        exponent_list unused(other.x.cols);
        REQUIRE(search.reset(other.site, other.outputs, settings_of(8, false, !is_static)) == status::ok);
        REQUIRE(search.run(unused.data(), result) == status::ok);
        REQUIRE(search.reset(c.site, c.outputs, s) == status::ok);
        const auto share = [&search](std::size_t count, auto&& step) {
            std::vector<std::thread> threads;
            std::vector<status> answers(count, status::bad_argument);
            for (std::size_t t = 0; t < 3; ++t)
                threads.emplace_back([&, t] {
                    for (std::size_t i = count; i-- > 0;)
                        if (i % 3 == t) answers[i] = step(search, i);
                });
            for (std::thread& t : threads) t.join();
            CHECK(std::all_of(answers.begin(), answers.end(), [](status a) { return a == status::ok; }));
        };
        share(search.size(), [](activation_search& a, std::size_t i) { return a.rank(i); });
        search.select();
        share(search.finalists(), [](activation_search& a, std::size_t j) { return a.measure(a.finalist(j)); });
        REQUIRE(search.take(exponents.data(), result) == status::ok);
        CHECK(exponents == expected);
        CHECK(result.best.error == one.best.error);
        CHECK(result.best.diagonal_error == one.best.diagonal_error);
        CHECK(result.best.top_exponent == one.best.top_exponent);
        CHECK(result.best.choice == one.best.choice);
        CHECK(result.best.range == one.best.range);
        CHECK(result.best.format.clip == one.best.format.clip);
        CHECK(result.best.format.fixed.scale == one.best.format.fixed.scale);
        CHECK(result.uniform_error == one.uniform_error);
        CHECK(result.energy == one.energy);
    }
}

TEST_CASE("activation_search: sizes of zero, nothing seen, odd values and refusals") {
    const site_case c = with_outliers(10), none(matrix(4, 0), matrix(3, 0)), unseen(matrix(0, 5), matrix(2, 5));
    activation_search search;
    searched_activations result;
    exponent_list exponents(c.x.cols);
    CHECK(search.size() == 0);
    CHECK(search.take(exponents.data(), result) == status::bad_argument);  // no reset yet
    CHECK(search.run(exponents.data(), result) == status::bad_argument);
    search.select();
    CHECK(search.finalists() == 0);
    REQUIRE(search.reset(none.site, none.outputs, {}) == status::ok);
    CHECK(search.run(nullptr, result) == status::ok);
    REQUIRE(search.reset(unseen.site, unseen.outputs, {}) == status::ok);
    CHECK(search.run(exponents.data(), result) == status::ok);
    CHECK(result.best.top_exponent == 0);
    CHECK(result.energy == 0.0);

    site_case odd(matrix(3, 4), matrix(2, 4));  // NaN and what is beyond 2^126 in x
    for (float& v : odd.w.data) v = 1.0F;
    for (std::size_t i = 0; i < 4; ++i) odd.x.at(1, i) = std::numeric_limits<float>::infinity();
    REQUIRE(odd.site.reset(4) == status::ok);
    REQUIRE(odd.site.add(odd.x.view()) == status::ok);
    REQUIRE(odd.outputs.reset(4) == status::ok);
    REQUIRE(odd.outputs.add(odd.w.view()) == status::ok);
    for (const bool is_static : {false, true}) {
        const searched_activations found = run(odd, settings_of(4, false, is_static), exponents);
        CHECK(std::isfinite(found.best.error));
        CHECK(is_valid(found.best.format));
        exponents.assign(c.x.cols, 0);
    }

    const auto with = [&](auto change) {
        activation_search_settings s;
        change(s);
        const status answer = search.reset(c.site, c.outputs, s);
        CHECK((search.size() == 0) == (answer != status::ok));
        return answer;
    };
    using settings = activation_search_settings;
    CHECK(with([](settings&) {}) == status::ok);
    for (const int bits : {-1, 1, 9}) CHECK(with([&](settings& s) { s.bits = bits; }) == status::bad_argument);
    for (const int top : {-1, 7}) CHECK(with([&](settings& s) { s.top_exponent = top; }) == status::bad_argument);
    CHECK(with([](settings& s) { s.finalists = 0; }) == status::bad_argument);
    for (const std::size_t count : sizes{0, 4, 9})
        CHECK(with([&](settings& s) { s.clip_count = count; }) == status::bad_argument);
    for (const float clip : {0.9F, 2.0F, std::nanf("")})
        CHECK(with([&](settings& s) { s.clips[0] = clip; }) == status::bad_argument);
    for (const float clip : {0.0F, -0.1F, 1.0F, std::nanf("")})
        CHECK(with([&](settings& s) { s.clips[1] = clip; }) == status::bad_argument);

    aq::trip_calibrator never;
    aq::hessian narrow, empty;
    REQUIRE(narrow.reset(c.x.cols - 1) == status::ok);
    CHECK(search.reset(c.site, narrow, {}) == status::bad_shape);
    CHECK(search.reset(never, empty, {}) == status::bad_argument);
    REQUIRE(search.reset(c.site, c.outputs, {}) == status::ok);
    CHECK(search.take(exponents.data(), result) == status::bad_argument);  // nothing measured
    REQUIRE(search.run(exponents.data(), result) == status::ok);
    CHECK(search.take(nullptr, result) == status::null_pointer);
    REQUIRE(search.reset(c.site, c.outputs, {}) == status::ok);
    CHECK(search.run(nullptr, result) == status::null_pointer);
}
