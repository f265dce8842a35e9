// Which sites get 8 bits: the choice against its definition, and the costs against models that are put together by hand.
#include "calibrate/site_budget.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <numeric>

#include "model/threads.hpp"
#include "support/tiny_divergence.hpp"

using aq::site;
using aq::status;
using namespace aq::example;
using namespace aq_test;

namespace {

/// Bits x multiply-adds of a choice.
double bits_of(const std::vector<bool>& is_high, const std::vector<double>& macs) {
    double sum = 0.0;
    for (std::size_t i = 0; i < macs.size(); ++i) sum += (is_high[i] ? 8.0 : 4.0) * macs[i];
    return sum;
}

/// The definition, one look at all places after the other: of those that were not looked at, the one with the greatest cost a multiply-add, and of equal ones
/// the first, is raised if that keeps the budget.
std::vector<bool> by_definition(const std::vector<double>& costs, const std::vector<double>& macs, double budget) {
    const double all = std::accumulate(macs.begin(), macs.end(), 0.0);
    std::vector<bool> is_high(costs.size()), is_done(costs.size());
    for (;;) {
        std::size_t best = costs.size();
        for (std::size_t i = 0; i < costs.size(); ++i) {
            if (is_done[i] || macs[i] == 0.0) continue;
            if (best == costs.size() || costs[i] / macs[i] > costs[best] / macs[best]) best = i;
        }
        if (best == costs.size()) return is_high;
        is_done[best] = is_high[best] = true;
        if (bits_of(is_high, macs) > budget * all) is_high[best] = false;
    }
}

recipe budget_recipe() {
    recipe r;
    r.weights = {4, true, 16};
    for (aq::site_format& f : r.sites) {
        f.is_float = false;
        f.activations.bits = 4;
        f.activations.is_asymmetric = true;
    }
    return r;
}

/// The same as a transformer's own options, with 4 or 8 bits at each site.
template <class Kind>
plain_divergence by_hand(const aq::model_config& c, const recipe& r, const std::vector<bool>& is_high,
                         const aq::model_options& formats) {
    aq::activation_profile profile;
    REQUIRE(profile.reset(c) == status::ok);
    for (std::size_t i = 0; i < is_high.size(); ++i) {
        aq::site_format& f = profile.format(i / aq::site_count, static_cast<site>(i % aq::site_count));
        f = r.sites[i % aq::site_count];
        f.activations.bits = is_high[i] ? 8 : 4;
    }
    aq::model_options options = formats;
    options.float_weights = false;
    options.weights = r.weights;
    tiny_weights weights(tiny_seed);
    return divergence_of<Kind>(c, tiny_windows(c), options, weights.source(), &profile);
}

}  // namespace

TEST_CASE("site budget: the choice is its definition's, within the budget, and nothing more fits") {
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        CAPTURE(seed);
        random_source random(seed);
        const std::size_t count = 1 + random.below(12);
        std::vector<double> costs, macs;
        for (std::size_t i = 0; i < count; ++i) {
            costs.push_back(static_cast<double>(random.below(9)) - 2.0);
            macs.push_back(static_cast<double>(random.below(6) * 64));
        }
        const double budget = 4.0 + static_cast<double>(random.below(65)) / 16.0;
        std::vector<bool> is_high = choose_high_bits(costs, macs, budget);
        CHECK(is_high == by_definition(costs, macs, budget));
        const double all = std::accumulate(macs.begin(), macs.end(), 0.0);
        CHECK(bits_of(is_high, macs) <= budget * all);
        for (std::size_t i = 0; i < count; ++i) {
            if (macs[i] == 0.0) CHECK(!is_high[i]);
            if (macs[i] == 0.0 || is_high[i]) continue;
            is_high[i] = true;
            CHECK(bits_of(is_high, macs) > budget * all);
            is_high[i] = false;
        }
    }
}

TEST_CASE("site budget: nothing at 4, everything at 8, the first of equal ones, and NaN before all") {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const std::vector<double> macs{1, 1, 2, 1};
    using choice = std::vector<bool>;
    CHECK(choose_high_bits({1, 1, 1, 1}, macs, 4.0) == choice{false, false, false, false});
    CHECK(choose_high_bits({-1, 1, 0, nan}, macs, 8.0) == choice{true, true, true, true});
    CHECK(choose_high_bits({1, 1, 2, 1}, macs, 4.8) == choice{true, false, false, false});
    CHECK(choose_high_bits({1, 1, 2, nan}, macs, 4.8) == choice{false, false, false, true});
    CHECK(choose_high_bits({1, 1, 3, 1}, macs, 4.8) == choice{true, false, false, false});  // the third does not fit
    CHECK(choose_high_bits({}, {}, 6.0).empty());
}

TEST_CASE("site budget: multiply-adds of sites by the sizes of a model") {
    const aq::model_config c = tiny_config(37, 32, 172, 2, 4, 2, 40);  // keys and values of 16 channels
    const std::vector<double> llama = macs_of_sites(aq::models::family::llama, c),
                              opt = macs_of_sites(aq::models::family::opt, c);
    const std::vector<double> gated{64 * 32, 32 * 32, 344 * 32, 172 * 32}, plain{64 * 32, 32 * 32, 172 * 32, 172 * 32};
    REQUIRE(llama.size() == 8);
    for (std::size_t i = 0; i < 8; ++i) {
        CHECK(llama[i] == gated[i % 4]);
        CHECK(opt[i] == plain[i % 4]);
    }
    CHECK(macs_of_sites(aq::models::family::bloom, c) == opt);
}

TEST_CASE("site budget: the form of a format stays, but fewer bits than 8 have a zero point where the recipe has 8") {
    aq::site_format f;
    f.is_float = false;
    f.is_rotated = true;
    f.activations.is_static = true;
    for (const int bits : {4, 8}) {
        for (const bool is_asymmetric : {false, true}) {
            f.activations.bits = bits;
            f.activations.is_asymmetric = is_asymmetric;
            for (const int wanted : {4, 8}) {
                const aq::site_format found = with_bits(f, wanted);
                CHECK(found.activations.bits == wanted);
                CHECK(found.activations.is_asymmetric == (is_asymmetric || (bits == 8 && wanted == 4)));
                CHECK(found.is_rotated);
                CHECK(found.activations.is_static);
                CHECK(!found.is_float);
            }
        }
    }
}

TEST_CASE_TEMPLATE("site budget: costs and divergences are those of models put together by hand", F, llama_kind, opt_kind,
                   bloom_kind) {
    for (const aq::model_config& c : tiny_configs()) {
        CAPTURE(text(c));
        tiny_weights weights(tiny_seed);
        const aq::models::loaded_model model = tiny_loaded<F>(c, weights);
        recipe r = budget_recipe();
        r.sites[1].is_rotated = true;
        aq::model_options formats;
        formats.kv_bits = 8;
        REQUIRE(formats.pruning.add(0, 0.2) == status::ok);
        site_budget budget;
        REQUIRE(plan_budget(model, r, 6.0, tiny_windows(c), tiny_run(formats), budget) == status::ok);
        const std::size_t count = c.layers * aq::site_count;
        REQUIRE(budget.costs.size() == count);
        REQUIRE(budget.sites.size() == count);
        const plain_divergence high = by_hand<F>(c, r, std::vector<bool>(count, true), formats),
                               low = by_hand<F>(c, r, std::vector<bool>(count, false), formats);
        CHECK(std::fabs(budget.kl_high - high.mean()) <= high.tolerance());
        CHECK(std::fabs(budget.kl_low - low.mean()) <= low.tolerance());
        std::vector<bool> is_high;
        for (std::size_t i = 0; i < count; ++i) {
            CAPTURE(i);
            std::vector<bool> others(count, true);
            others[i] = false;
            const plain_divergence one = by_hand<F>(c, r, others, formats);
            CHECK(std::fabs(budget.costs[i] - (one.mean() - high.mean())) <= one.tolerance() + high.tolerance());
            is_high.push_back(budget.sites[i].activations.bits == 8);
            CHECK((is_high[i] || budget.sites[i].activations.bits == 4));
            CHECK(budget.sites[i].is_rotated == (i % 4 == 1));
        }
        const std::vector<double> macs = macs_of_sites(F::id, c);
        CHECK(is_high == choose_high_bits(budget.costs, macs, 6.0));
        CHECK(budget.bits_per_mac == bits_of(is_high, macs) / std::accumulate(macs.begin(), macs.end(), 0.0));
        CHECK(budget.bits_per_mac <= 6.0);
        const plain_divergence chosen = by_hand<F>(c, r, is_high, formats);
        CHECK(std::fabs(budget.kl_chosen - chosen.mean()) <= chosen.tolerance());
    }
}

TEST_CASE("site budget: sites in float stay so and do not count, static formats are asked for but measured without") {
    const aq::model_config c = tiny_configs()[0];
    tiny_weights weights(tiny_seed);
    const aq::models::loaded_model model = tiny_loaded<llama_kind>(c, weights);
    recipe r = budget_recipe();
    r.sites[0].is_float = true;
    r.sites[2].activations.bits = 8;
    r.sites[2].activations.is_asymmetric = false;
    site_budget dynamic, fixed;
    std::vector<double> progress;
    REQUIRE(plan_budget(model, r, 5.0, tiny_windows(c), tiny_run(), dynamic, [&](double d) { progress.push_back(d); }) ==
            status::ok);
    CHECK(progress.size() == c.layers * aq::site_count + 2);
    for (aq::site_format& f : r.sites) {
        f.activations.is_static = true;
        f.activations.clip = 0.25F;
    }
    REQUIRE(plan_budget(model, r, 5.0, tiny_windows(c), tiny_run(), fixed) == status::ok);
    CHECK(fixed.costs == dynamic.costs);
    double bits = 0.0, all = 0.0;
    for (std::size_t i = 0; i < fixed.sites.size(); ++i) {
        const aq::site_format& f = fixed.sites[i];
        CHECK(f.is_float == (i % 4 == 0));
        CHECK(f.activations.is_static);
        if (i % 4 == 2) CHECK(f.activations.is_asymmetric == (f.activations.bits == 4));
        const double macs = macs_of_sites(model.family, c)[i];
        if (i % 4 == 0) CHECK(fixed.costs[i] == 0.0);
        else bits += f.activations.bits * macs, all += macs;
    }
    CHECK(fixed.bits_per_mac == bits / all);
    CHECK(fixed.bits_per_mac > 4.0);
    CHECK(fixed.bits_per_mac <= 5.0);
    for (aq::site_format& f : r.sites) f.is_float = true;
    REQUIRE(plan_budget(model, r, 5.0, tiny_windows(c), tiny_run(), fixed) == status::ok);
    CHECK(fixed.bits_per_mac == 0.0);
    CHECK(fixed.kl_chosen == fixed.kl_high);
}

TEST_CASE("site budget: 8 bits where they are worth most are worth more than where they are worth least; threads change no bit") {
    const aq::model_config c = tiny_configs()[0];
    tiny_weights weights(tiny_seed);
    const aq::models::loaded_model model = tiny_loaded<llama_kind>(c, weights);
    const recipe r = budget_recipe();
    site_budget first;
    for (const named_executor& e : all_executors(2)) {
        site_budget budget;
        REQUIRE(plan_budget(model, r, 6.0, tiny_windows(c), tiny_run({}, e.threads), budget) == status::ok);
        if (first.costs.empty()) first = budget;
        CHECK(budget.costs == first.costs);
        CHECK(budget.kl_chosen == first.kl_chosen);
    }
    std::vector<double> reversed = first.costs;
    for (double& cost : reversed) cost = -cost;
    const plain_divergence worst = by_hand<llama_kind>(c, r, choose_high_bits(reversed, macs_of_sites(model.family, c), 6.0), {});
    CAPTURE(first.kl_high);
    CAPTURE(first.kl_chosen);
    CAPTURE(worst.mean());
    CAPTURE(first.kl_low);
    CHECK(first.kl_high < first.kl_chosen);
    // Of what 4 bits everywhere add, and of what as many bits in the wrong places leave.
    CHECK(first.kl_chosen - first.kl_high < 0.5 * (worst.mean() - first.kl_high));
    CHECK(first.kl_chosen - first.kl_high < 0.5 * (first.kl_low - first.kl_high));
}

TEST_CASE("site budget: what is refused") {
    const aq::model_config c = tiny_configs()[2];
    tiny_weights weights(tiny_seed);
    const aq::models::loaded_model model = tiny_loaded<llama_kind>(c, weights);
    recipe r = budget_recipe();
    site_budget budget;
    const auto windows = tiny_windows(c);
    for (const double bits : {3.999, 8.001, std::numeric_limits<double>::quiet_NaN()})
        CHECK(plan_budget(model, r, bits, windows, tiny_run(), budget) == status::bad_argument);
    CHECK(plan_budget(model, r, 6.0, {}, tiny_run(), budget) == status::bad_argument);
    CHECK(plan_budget(model, r, 6.0, windows, {}, budget) == status::bad_argument);
    r.weights.bits = 9;
    CHECK(plan_budget(model, r, 6.0, windows, tiny_run(), budget) != status::ok);
    r.weights.bits = 4;
    weights.fail_from(weights.reads());
    CHECK(plan_budget(model, r, 6.0, windows, tiny_run(), budget) == status::source_failed);
}
