#include "agilequant/prune/schedule.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace {

const double no_ratios[] = {
    -0.1, 1.0, 1.5, std::nan(""), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};

}  // namespace

TEST_CASE("2048 tokens, 32 layers, 90 % pruned by layers 10, 11 and 12, counted from 1") {
    double gamma = 0.0;
    REQUIRE(aq::progressive_ratio(0.9, 3, gamma) == aq::status::ok);
    CHECK(std::fabs(gamma - 0.53584) < 5e-6);
    aq::prune_plan plan;
    REQUIRE(aq::make_progressive_plan(0.9, 9, 3, plan) == aq::status::ok);
    CHECK(aq::validate(plan, 32) == aq::status::ok);
    std::size_t rows = 2048;
    const std::size_t expected[] = {951, 442, 206};
    for (std::size_t layer = 0; layer < 32; ++layer) {
        rows = plan.rows_after(layer, rows);
        CHECK(rows == (layer < 9 ? 2048 : layer < 12 ? expected[layer - 9] : 206));
    }
    CHECK(std::fabs(aq::token_sparsity(plan, 32, 2048) - 0.6315) < 5e-5);
}

TEST_CASE("progressive_ratio compounds to beta") {
    for (const double beta : {0.0, 0.1, 0.19, 0.5, 0.9, 0.999}) {
        for (std::size_t layers = 1; layers <= 64; ++layers) {
            double gamma = -1.0;
            REQUIRE(aq::progressive_ratio(beta, layers, gamma) == aq::status::ok);
            CHECK(std::fabs(1.0 - std::pow(1.0 - gamma, static_cast<double>(layers)) - beta) < 1e-13);
        }
    }
    double gamma = -1.0;
    REQUIRE(aq::progressive_ratio(0.1, 1, gamma) == aq::status::ok);
    CHECK(gamma == 0.1);
    for (const double beta : no_ratios) CHECK(aq::progressive_ratio(beta, 3, gamma) == aq::status::bad_argument);
    CHECK(aq::progressive_ratio(0.5, 0, gamma) == aq::status::bad_argument);
    CHECK(gamma == 0.1);
}

TEST_CASE("a plan answers for every layer, and is refused whole") {
    const std::size_t layers[] = {2, 3, 7};
    const double ratios[] = {0.25, 0.0, 0.5};
    aq::prune_plan plan;
    REQUIRE(aq::make_plan(layers, ratios, 3, plan) == aq::status::ok);
    CHECK(plan.ratio(2) == 0.25);
    CHECK(plan.ratio(3) == 0.0);
    CHECK(plan.ratio(4) == 0.0);
    CHECK(plan.ratio(7) == 0.5);
    CHECK(plan.rows_after(2, 10) == 8);
    CHECK(plan.rows_after(7, 10) == 5);
    CHECK(plan.rows_after(7, 1) == 1);
    CHECK(aq::validate(plan, 8) == aq::status::ok);
    CHECK(aq::validate(plan, 7) == aq::status::bad_argument);

    for (const double bad : no_ratios) {
        const double with_bad[] = {0.25, bad, 0.5};
        CHECK(aq::make_plan(layers, with_bad, 3, plan) == aq::status::bad_argument);
    }
    const std::size_t twice[] = {2, 2}, falling[] = {3, 2};
    CHECK(aq::make_plan(twice, ratios, 2, plan) == aq::status::bad_argument);
    CHECK(aq::make_plan(falling, ratios, 2, plan) == aq::status::bad_argument);
    CHECK(aq::make_plan(nullptr, ratios, 1, plan) == aq::status::null_pointer);
    CHECK(aq::make_progressive_plan_at(0.5, nullptr, 1, plan) == aq::status::null_pointer);
    CHECK(plan.count == 3);  // the refused lists left it alone

    REQUIRE(aq::make_plan(nullptr, nullptr, 0, plan) == aq::status::ok);
    CHECK(plan.count == 0);
    CHECK(aq::validate(plan, 0) == aq::status::ok);
}

TEST_CASE("progressive plans: 64 layers at most, and none that the counter cannot name") {
    aq::prune_plan plan;
    CHECK(aq::make_progressive_plan(0.5, 0, 64, plan) == aq::status::ok);
    CHECK(plan.count == 64);
    CHECK(aq::make_progressive_plan(0.5, 0, 65, plan) == aq::status::bad_argument);
    CHECK(aq::make_progressive_plan(0.5, 0, 0, plan) == aq::status::bad_argument);
    CHECK(aq::make_progressive_plan(1.0, 0, 3, plan) == aq::status::bad_argument);
    CHECK(aq::make_progressive_plan(0.5, std::numeric_limits<std::size_t>::max(), 2, plan) == aq::status::bad_argument);
    const std::size_t layers[] = {1, 4, 6};
    aq::prune_plan spread, dense;
    REQUIRE(aq::make_progressive_plan_at(0.5, layers, 3, spread) == aq::status::ok);
    REQUIRE(aq::make_progressive_plan(0.5, 4, 3, dense) == aq::status::ok);
    CHECK(spread.ratio(4) == dense.ratio(4));
    CHECK(spread.ratio(5) == 0.0);
}

TEST_CASE("validate finds a plan that was filled by hand and is wrong") {
    aq::prune_plan plan;
    plan.count = 65;
    CHECK(aq::validate(plan, 1000) == aq::status::bad_argument);
    plan.count = 2;  // layer 0 twice
    CHECK(aq::validate(plan, 1000) == aq::status::bad_argument);
    plan.entries[1] = {5, std::nan("")};
    CHECK(aq::validate(plan, 1000) == aq::status::bad_argument);
    plan.entries[1].ratio = 0.5;
    CHECK(aq::validate(plan, 1000) == aq::status::ok);
}

TEST_CASE("token_sparsity counts the tokens after each layer") {
    std::mt19937 random(17);
    for (int round = 0; round < 200; ++round) {
        const std::size_t layers = 1 + random() % 40, rows = 1 + random() % 3000;
        aq::prune_plan plan;
        for (std::size_t layer = 0; layer < layers; ++layer) {
            if (random() % 4 == 0) REQUIRE(plan.add(layer, static_cast<double>(random() % 100) / 100.0) == aq::status::ok);
        }
        std::size_t left = rows, sum = 0, next = 0;
        for (std::size_t layer = 0; layer < layers; ++layer) {
            if (next < plan.count && plan.entries[next].layer == layer) left = aq::kept_rows(left, plan.entries[next++].ratio);
            sum += left;
        }
        const double expected = 1.0 - static_cast<double>(sum) / static_cast<double>(layers * rows);
        CHECK(std::fabs(aq::token_sparsity(plan, layers, rows) - expected) < 1e-12);
    }
    const aq::prune_plan nothing;
    CHECK(aq::token_sparsity(nothing, 12, 100) == 0.0);
    CHECK(aq::token_sparsity(nothing, 0, 100) == 0.0);
    CHECK(aq::token_sparsity(nothing, 12, 0) == 0.0);
}
