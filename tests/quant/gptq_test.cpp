// GPTQ against the equations of its paper in plain double, code for code; what it is for; and what it refuses.
#include "agilequant/quant/gptq.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <utility>
#include <vector>

#include "agilequant/pack/float_panels.hpp"
#include "support/plain_gptq.hpp"
#include "support/status_text.hpp"

using aq::gptq_scales;
using aq::status;
using namespace aq_test;

namespace {

std::vector<std::uint32_t> identity(std::size_t k) {
    std::vector<std::uint32_t> columns(k);
    for (std::size_t i = 0; i < k; ++i) columns[i] = static_cast<std::uint32_t>(i);
    return columns;
}

std::vector<std::uint32_t> shuffled(random_source& random, std::size_t k) {
    std::vector<std::uint32_t> columns = identity(k);
    for (std::size_t i = k; i > 1; --i) std::swap(columns[i - 1], columns[random.below(i)]);
    return columns;
}

aq::gptq_plan plan_of(const aq::hessian& h, const gptq_case& c) {
    aq::gptq_plan plan;
    REQUIRE(plan.make(h, c.settings, plain_cholesky(), c.columns.data()) == status::ok);
    return plan;
}

aq::coded_matrix quantized(const matrix& w, const aq::hessian& h, const gptq_case& c) {
    aq::coded_matrix coded;
    REQUIRE(aq::quantize_gptq(w.view(), c.format, plan_of(h, c), coded) == status::ok);
    return coded;
}

template <class Ours, class Theirs>
int differences(const Ours& a, const Theirs& b) {
    REQUIRE(a.size() == b.size());
    int wrong = 0;
    for (std::size_t i = 0; i < a.size(); ++i) wrong += a[i] == b[i] ? 0 : 1;
    return wrong;
}

template <class Other>
void check_equal(const aq::coded_matrix& a, const Other& b) {
    CHECK(differences(a.codes, b.codes) == 0);
    CHECK(differences(a.zeros, b.zeros) == 0);
    CHECK(differences(a.scales, b.scales) == 0);
    CHECK(differences(a.multipliers, b.multipliers) == 0);
}

/// How far the layer's output is off, from round-to-nearest or from codes.
double error_of(const aq::hessian& h, const matrix& w, const aq::coded_matrix& coded, const gptq_case& c) {
    aq::output_error e;
    REQUIRE(aq::measure_output(h, w.view(), coded, c.columns.data(), e) == status::ok);
    return e.error;
}
double rounding_error(const aq::hessian& h, const matrix& w, const gptq_case& c) {
    aq::coded_matrix coded;
    REQUIRE(aq::quantize_weights(w.view(), c.format, c.columns.data(), coded) == status::ok);
    return error_of(h, w, coded, c);
}

/// Case number i of a walk through everything that has few values.
gptq_case numbered(std::size_t i, std::size_t k, random_source& random) {
    constexpr std::size_t groups[] = {0, 16, 7, 32, 1, 1000}, blocks[] = {128, 1, 5, 16};
    gptq_case c;
    c.format.bits = 2 + static_cast<int>(i % 7);
    c.format.is_asymmetric = i / 7 % 2 == 0;
    c.settings.activation_order = i / 14 % 2 == 0;
    c.settings.scales = i / 28 % 2 == 0 ? gptq_scales::current : gptq_scales::original;
    c.format.group = groups[i / 56 % 6];
    c.format.range = random.flip() ? aq::range_search::mean_square : aq::range_search::min_max;
    c.format.scales = c.format.bits < 8 && random.below(3) == 0 ? aq::group_scales::integers : aq::group_scales::floats;
    c.settings.block = blocks[random.below(4)];
    c.columns = random.flip() ? identity(k) : shuffled(random, k);
    return c;
}

}  // namespace

TEST_CASE("GPTQ's codes are those of the paper's equations, for every width, symmetry, order, group, range, scale and block") {
    random_source random(81);
    constexpr std::size_t depths[] = {48, 31, 64, 17, 2, 67, 1, 5}, heights[] = {5, 1, 17, 3};
    constexpr std::size_t all = 336;
    for (std::size_t i = 0; i < all; ++i) {
        const std::size_t k = depths[i % 8], n = heights[i % 5 % 4];
        const gptq_case c = numbered(i, k, random);
        CAPTURE(i);
        CAPTURE(k);
        CAPTURE(c.format.group);
        const matrix x = correlated_rows(random, 4 * k + 8, k), w = random_matrix(random, n, k, 3);
        check_equal(quantized(w, hessian_of(x), c), plain_gptq(w, x, c));
    }
}

TEST_CASE("neither the block's size nor a cut of the rows changes a bit") {
    random_source random(82);
    constexpr std::size_t n = 41, k = 83;
    const matrix x = correlated_rows(random, 200, k), w = random_matrix(random, n, k, 1);
    const aq::hessian h = hessian_of(x);
    for (const gptq_scales scales : {gptq_scales::original, gptq_scales::current}) {
        gptq_case c{{4, true, 16}, {}, identity(k)};
        c.settings.scales = scales;
        const aq::coded_matrix expected = quantized(w, h, c);
        for (const std::size_t block : sizes{1, 2, 7, 64, 82, 83, 84, 1000}) {
            CAPTURE(block);
            c.settings.block = block;
            check_equal(quantized(w, h, c), expected);
        }
        const aq::gptq_plan plan = plan_of(h, c);
        for (int round = 0; round < 10; ++round) {
            aq::coded_matrix pieces;
            REQUIRE(pieces.reset(c.format, n, k) == status::ok);
            std::vector<std::size_t> cuts = {0, n};
            for (int i = 0; i < round; ++i) cuts.push_back(random.below(n + 1));
            std::sort(cuts.begin(), cuts.end());
            for (std::size_t i = cuts.size() - 1; i-- > 0;)  // in no order of the rows
                REQUIRE(aq::quantize_gptq(w.view(), plan, cuts[i], cuts[i + 1], pieces) == status::ok);
            check_equal(pieces, expected);
        }
    }
}

TEST_CASE("on correlated activations GPTQ is better than round-to-nearest, on each of 200 layers") {
    random_source random(83);
    double worst = 0.0, sum = 0.0;
    constexpr std::size_t all = 200;
    for (std::size_t i = 0; i < all; ++i) {
        constexpr std::size_t k = 48, n = 16;
        gptq_case c = numbered(i, k, random);
        // In three levels and without the order nobody is left to make up for the largest channel, where that comes last.
        if (c.format.bits == 2) c.settings.activation_order = true;
        const matrix x = correlated_rows(random, 160, k), w = random_matrix(random, n, k);
        const aq::hessian h = hessian_of(x);
        const double share = error_of(h, w, quantized(w, h, c), c) / rounding_error(h, w, c);
        CAPTURE(i);
        CHECK(share < 1.0);
        worst = std::max(worst, share);
        sum += share;
    }
    MESSAGE("of round-to-nearest's squared error: worst ", worst, ", mean ", sum / all);
    CHECK(sum / all < 0.6);
}

TEST_CASE("where no channel knows of another, and with endless damping, GPTQ is round-to-nearest") {
    random_source random(84);
    constexpr std::size_t n = 9, k = 40;
    const matrix w = random_matrix(random, n, k), correlated = correlated_rows(random, 100, k);
    matrix single(k, k);  // a channel at a time
    for (std::size_t r = 0; r < k; ++r)
        for (std::size_t c = 0; c < k; ++c) single.at(r, c) = r == c ? static_cast<float>(1 + c % 7) : 0.0F;
    for (std::size_t i = 0; i < 56; ++i) {
        gptq_case c = numbered(i, k, random);
        aq::coded_matrix expected;
        REQUIRE(aq::quantize_weights(w.view(), c.format, c.columns.data(), expected) == status::ok);
        check_equal(quantized(w, hessian_of(single), c), expected);
        c.settings.damping = 1e15;
        check_equal(quantized(w, hessian_of(correlated), c), expected);
    }
}

TEST_CASE("damping is a share: activations 2^20 times as large give the same codes") {
    random_source random(85);
    constexpr std::size_t n = 7, k = 33;
    matrix x = correlated_rows(random, 60, k);
    const matrix w = random_matrix(random, n, k);
    const gptq_case c{{4, true, 16}, {}, identity(k)};
    const aq::coded_matrix expected = quantized(w, hessian_of(x), c);
    for (float& v : x.data) v *= 0x1p20F;
    check_equal(quantized(w, hessian_of(x), c), expected);
    gptq_case more = c;
    more.settings.damping = 1.0;
    CHECK(differences(quantized(w, hessian_of(x), more).codes, expected.codes) > 0);
}

TEST_CASE("channels that are zero in every row: their weights are zero, widen no range, and move no other code") {
    random_source random(86);
    constexpr std::size_t n = 6, k = 40, live = 37;
    const matrix small = correlated_rows(random, 120, live), kept = random_matrix(random, n, live);
    std::vector<std::size_t> place(live);  // where the live channels stand among all
    for (std::size_t i = 0, c = 0; c < k; ++c)
        if (c != 0 && c != 11 && c != 39) place[i++] = c;
    matrix x(small.rows, k), w(n, k);
    for (float& v : x.data) v = 0.0F;
    for (float& v : w.data) v = 1000.0F;
    for (std::size_t i = 0; i < live; ++i) {
        for (std::size_t r = 0; r < x.rows; ++r) x.at(r, place[i]) = small.at(r, i);
        for (std::size_t r = 0; r < n; ++r) w.at(r, place[i]) = kept.at(r, i);
    }
    for (const bool by_size : {false, true}) {
        for (const gptq_scales scales : {gptq_scales::original, gptq_scales::current}) {
            gptq_case all{{4, true, 0}, {}, identity(k)}, some{{4, true, 0}, {}, identity(live)};
            all.settings.activation_order = some.settings.activation_order = by_size;
            all.settings.scales = some.settings.scales = scales;
            const aq::coded_matrix a = quantized(w, hessian_of(x), all), b = quantized(kept, hessian_of(small), some);
            CHECK(differences(a.scales, b.scales) == 0);
            for (std::size_t r = 0; r < n; ++r) {
                for (const std::size_t c : sizes{0, 11, 39}) CHECK(a.value(r, c) == 0.0F);
                for (std::size_t i = 0; i < live; ++i) CHECK(a.codes[r * k + place[i]] == b.codes[r * live + i]);
            }
            all.format.group = 16;
            check_equal(quantized(w, hessian_of(x), all), plain_gptq(w, x, all));
            // a factorization may leave noise where zeros belong
            const auto noisy = [](void* self, aq::matrix_view<double> m) {
                AQ_TRY(plain_factor(self, m));
                for (std::size_t i = 0; i < live; ++i) m.row(i)[k - 1] += 1.0;
                return status::ok;
            };
            aq::gptq_plan plan;
            aq::coded_matrix coded;
            REQUIRE(plan.make(hessian_of(x), all.settings, {nullptr, noisy}) == status::ok);
            REQUIRE(aq::quantize_gptq(w.view(), all.format, plan, coded) == status::ok);
            check_equal(coded, plain_gptq(w, x, all));
            all.format.group = 1;  // groups of nothing else
            all.settings.damping = 0.0;
            check_equal(quantized(w, hessian_of(x), all), plain_gptq(w, x, all));
        }
    }
    for (float& v : x.data) v = 0.0F;
    const aq::coded_matrix none = quantized(w, hessian_of(x), {{4, false, 16}, {}, identity(k)});
    for (std::size_t i = 0; i < n * k; ++i) CHECK(none.value(i / k, i % k) == 0.0F);
}

TEST_CASE("fewer rows than channels: singular without damping, good with it") {
    random_source random(87);
    constexpr std::size_t n = 8, k = 32;
    const matrix x = correlated_rows(random, 5, k), w = random_matrix(random, n, k);
    const aq::hessian h = hessian_of(x);
    gptq_case c{{4, true, 16}, {}, identity(k)};
    aq::gptq_plan plan = plan_of(h, c);
    CHECK(error_of(h, w, quantized(w, h, c), c) < 0.5 * rounding_error(h, w, c));
    c.settings.damping = 0.0;
    matrix one(1, k);
    for (std::size_t i = 0; i < k; ++i) one.at(0, i) = 1.0F;  // its pivots are exact zeros
    CHECK(plan.make(hessian_of(one), c.settings, plain_cholesky()) == status::not_positive_definite);
    CHECK(plan.channels() == 0);
}

TEST_CASE("packed with TRIP's exponents, GPTQ's codes are the weights of the channels that they were made for") {
    random_source random(88);
    constexpr std::size_t n = 21, k = 50;
    const matrix x = correlated_rows(random, 150, k), w = random_matrix(random, n, k);
    std::vector<std::uint8_t> exponents(k);
    for (std::uint8_t& e : exponents) e = static_cast<std::uint8_t>(random.below(4));
    for (const aq::group_scales scales : {aq::group_scales::floats, aq::group_scales::integers}) {
        gptq_case c{{4, true, 16, aq::range_search::mean_square, scales}, {}, std::vector<std::uint32_t>(k)};
        aq::k_layout layout;
        REQUIRE(layout.make(k, c.format.group, exponents.data()) == status::ok);
        aq::depth_order(layout.view(), c.columns.data());
        const aq::coded_matrix coded = quantized(w, hessian_of(x), c);
        check_equal(coded, plain_gptq(w, x, c));
        aq::packed_storage<> packed;
        REQUIRE(packed.assign(coded, std::move(layout)) == status::ok);
        int wrong = 0;
        std::vector<float> panel(k * aq::panel_rows);
        for (std::size_t p = 0; p < packed.view().panels(); ++p) {
            aq::unpack_panel(packed.view(), p, panel.data());
            for (std::size_t r = p * aq::panel_rows; r < std::min(n, (p + 1) * aq::panel_rows); ++r)
                for (std::size_t i = 0; i < k; ++i)
                    wrong += panel[c.columns[i] * aq::panel_rows + r % aq::panel_rows] == coded.value(r, i) ? 0 : 1;
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("odd weights count as the quantizer counts them, and no size is too small") {
    random_source random(89);
    constexpr std::size_t k = 20;
    const matrix x = correlated_rows(random, 60, k);
    const aq::hessian h = hessian_of(x);
    matrix w = random_matrix(random, 2, k), plain = w;
    w.at(0, 3) = std::numeric_limits<float>::quiet_NaN();
    w.at(1, 4) = -std::numeric_limits<float>::infinity();
    plain.at(0, 3) = 0.0F;
    plain.at(1, 4) = -0x1p126F;
    const gptq_case c{{4, true, 8}, {}, identity(k)};
    check_equal(quantized(w, h, c), quantized(plain, h, c));

    aq::coded_matrix coded;
    const aq::gptq_plan plan = plan_of(h, c);
    CHECK(aq::quantize_gptq({nullptr, 0, k}, c.format, plan, coded) == status::ok);
    CHECK(coded.n == 0);
    aq::hessian empty;
    aq::gptq_plan none;
    REQUIRE(none.make(empty, {}, plain_cholesky()) == status::ok);
    CHECK(aq::quantize_gptq({nullptr, 3, 0}, c.format, none, coded) == status::ok);
    CHECK(coded.groups == 0);
}

TEST_CASE("GPTQ's refusals") {
    random_source random(90);
    constexpr std::size_t n = 3, k = 6;
    const matrix x = correlated_rows(random, 20, k), w = random_matrix(random, n, k);
    const aq::hessian h = hessian_of(x);
    aq::gptq_plan plan;
    const auto with = [](auto change) {
        aq::gptq_settings s;
        change(s);
        return s;
    };
    for (const double damping : {-0.1, std::nan(""), static_cast<double>(std::numeric_limits<float>::infinity())})
        CHECK(plan.make(h, with([&](aq::gptq_settings& s) { s.damping = damping; }), plain_cholesky()) == status::bad_argument);
    CHECK(plan.make(h, with([](aq::gptq_settings& s) { s.block = 0; }), plain_cholesky()) == status::bad_argument);
    CHECK(plan.make(h, {}, {}) == status::null_pointer);
    aq::hessian unseen;
    REQUIRE(unseen.reset(k) == status::ok);
    CHECK(plan.make(unseen, {}, plain_cholesky()) == status::bad_argument);
    const std::uint32_t twice[k] = {0, 1, 2, 3, 4, 4}, beyond[k] = {0, 1, 2, 3, 4, 6};
    CHECK(plan.make(h, {}, plain_cholesky(), twice) == status::bad_argument);
    CHECK(plan.make(h, {}, plain_cholesky(), beyond) == status::bad_argument);
    const auto fails = [](void*, aq::matrix_view<double>) { return status::out_of_memory; };
    CHECK(plan.make(h, {}, {nullptr, fails}) == status::out_of_memory);
    const auto is_nan = [](void*, aq::matrix_view<double> m) { return m.row(0)[1] = std::nan(""), status::ok; };
    CHECK(plan.make(h, {}, {nullptr, is_nan}) == status::not_positive_definite);
    const auto is_zero = [](void*, aq::matrix_view<double> m) { return m.row(k - 1)[k - 1] = 0.0, status::ok; };
    CHECK(plan.make(h, {}, {nullptr, is_zero}) == status::not_positive_definite);
    CHECK(plan.channels() == 0);

    REQUIRE(plan.make(h, {}, plain_cholesky()) == status::ok);
    aq::coded_matrix coded;
    for (const int bits : {-1, 0, 1, 9}) CHECK(aq::quantize_gptq(w.view(), {bits}, plan, coded) == status::unsupported_format);
    const aq::weight_format two_level{8, true, 2, aq::range_search::min_max, aq::group_scales::integers};
    CHECK(aq::quantize_gptq(w.view(), two_level, plan, coded) == status::unsupported_format);
    CHECK(aq::quantize_gptq({w.data.data(), n, k - 1}, {4}, plan, coded) == status::bad_shape);
    CHECK(aq::quantize_gptq({nullptr, n, k}, {4}, plan, coded) == status::null_pointer);
    CHECK(aq::quantize_gptq({w.data.data(), n, k, k - 1}, {4}, plan, coded) == status::bad_stride);
    REQUIRE(coded.reset({4}, n, k) == status::ok);
    CHECK(aq::quantize_gptq(w.view(), plan, 0, n + 1, coded) == status::bad_shape);
    CHECK(aq::quantize_gptq(w.view(), plan, 2, 1, coded) == status::bad_shape);
    REQUIRE(coded.reset({4}, n + 1, k) == status::ok);
    CHECK(aq::quantize_gptq(w.view(), plan, 0, n, coded) == status::bad_shape);
}
