// The calibrator against the same by hand, resumed, by threads, pruned; and what its steps are good for.
#include "calibrate/calibrator.hpp"

#include <doctest/doctest.h>

#include "calibrate/calibrated_case.hpp"
#include "model/threads.hpp"

using aq::site;
using aq::status;
using aq::weight_id;
using aq::example::calibration_events;
using aq::example::exponent_search;
using aq::example::recipe;
using aq::example::site_report;
using namespace aq_test;

namespace {

aq::model_config three_layers() { return tiny_configs()[0]; }

/// Activations of so many bits at every site; 16: float.
recipe recipe_of(int activation_bits) {
    recipe r;
    r.weights.group = 16;
    const aq::model_options o = tiny_options(4, activation_bits);
    std::copy(o.sites, o.sites + aq::site_count, r.sites);
    return r;
}

/// 4 bits, searched.
recipe searched_recipe() {
    recipe r = recipe_of(4);
    r.exponents = exponent_search::output;
    r.top_exponent = 3;
    r.tries_rotation = true;
    return r;
}

/// What differs from the defaults wherever it can, but not everything at once.
std::vector<recipe> recipes() {
    recipe searched = searched_recipe();
    recipe paper = recipe_of(8);
    paper.exponents = exponent_search::paper;
    paper.top_exponent = 2;
    paper.follow = 0.0;
    paper.weights = {3, false, 0, aq::range_search::min_max, aq::group_scales::floats};
    for (aq::site_format& f : paper.sites) f.activations.is_static = true;
    recipe mixed = recipe_of(4);
    mixed.sites[0].is_float = true;
    mixed.sites[1].is_rotated = true;
    mixed.sites[3].activations.is_static = true;
    mixed.weights.scales = aq::group_scales::integers;
    mixed.gptq.activation_order = false;
    mixed.gptq.damping = 0.1;
    mixed.refits = false;
    recipe nearest = searched;
    nearest.uses_gptq = false;
    return {recipe_of(16), searched, paper, mixed, nearest};
}

aq::model_options pruned_attention() {
    aq::model_options o = tiny_options(16, 16, 8, aq::probability_coding::log2_ceiling);
    o.pruning = plan_of({{0, 0.2}, {1, 0.4}});
    return o;
}

/// Whether everything is as it has to be, given what the finished model shows.
template <class Family>
void check_by_hand(calibrated_case& c) {
    const by_hand<Family> expected(c);
    const auto& sites = aq::example::linears_of(c.model.family);
    REQUIRE(c.out.layers_done == c.model.config.layers);
    REQUIRE(c.reports.size() == c.model.config.layers * sites.size());
    for (std::size_t i = 0; i < c.reports.size(); ++i) {
        const site_report& r = c.reports[i];
        CAPTURE(i);
        const aq::example::linears_of_site& linears = sites[i % sites.size()];
        REQUIRE(r.layer == i / sites.size());
        REQUIRE(r.where == linears.where);
        CHECK(r.range.low == expected.range(r.layer, r.where).low);
        CHECK(r.range.high == expected.range(r.layer, r.where).high);
        CHECK(text(r.coding.format) == text(c.out.profile.format(r.layer, r.where)));
        const std::uint8_t* const exponents = c.out.profile.exponents(r.layer, r.where);
        CHECK(std::equal(r.coding.exponents.begin(), r.coding.exponents.end(), exponents));
        REQUIRE(r.weights.size() == linears.ids.size());
        for (std::size_t w = 0; w < linears.ids.size(); ++w) {
            CHECK(r.weights[w].id == linears.ids[w]);
            CHECK((bytes_of(c.out.at(linears.ids[w], r.layer)) == expected.packed(r, linears.ids[w])));
        }
    }
}

double sum_of(const std::vector<site_report>& reports, double aq::example::weight_report::*error, std::size_t layer) {
    double sum = 0.0;
    for (const site_report& r : reports)
        for (const auto& w : r.weights) sum += r.layer == layer ? w.*error / w.energy : 0.0;
    return sum;
}

}  // namespace

TEST_CASE_TEMPLATE("calibrator: every matrix is what the library makes of the rows that the finished model shows", F, llama_case,
                   opt_case, bloom_case) {
    for (const aq::model_options& attention : {aq::model_options{}, pruned_attention()}) {
        const std::vector<recipe> all = recipes();
        for (std::size_t i = 0; i < all.size(); ++i) {
            CAPTURE(i);
            calibrated_case c(F::kind, three_layers(), all[i], attention);
            REQUIRE(c.run() == status::ok);
            check_by_hand<typename F::family>(c);
        }
    }
}

TEST_CASE("calibrator: a site is coded as the search says, rotated where that leaves less error") {
    calibrated_case c(aq::models::family::llama, three_layers(), searched_recipe(), pruned_attention());
    REQUIRE(c.run() == status::ok);
    const by_hand<aq::llama_family> expected(c);
    std::size_t rotated = 0, with_exponents = 0;
    for (const site_report& r : c.reports) {
        const auto& linears = aq::example::linears_of(c.model.family)[static_cast<std::size_t>(r.where)];
        double error = 0.0, error_rotated = 0.0;
        const std::string plain = expected.searched(r.layer, linears, false, error),
                          turned = expected.searched(r.layer, linears, true, error_rotated),
                          found = text(r.coding.format) + std::string(r.coding.exponents.begin(), r.coding.exponents.end());
        CHECK((found == (error_rotated < error ? turned : plain)));
        rotated += r.coding.format.is_rotated ? 1 : 0;
        with_exponents += r.coding.top_exponent > 0 ? 1 : 0;
        CHECK(r.coding.top_exponent <= 3);
    }
    CHECK(rotated > 0);
    CHECK(rotated < c.reports.size());
    CHECK(with_exponents > 0);
}

TEST_CASE("calibrator: the paper's K goes to every site, or none") {
    for (const exponent_search search : {exponent_search::none, exponent_search::paper}) {
        recipe r = recipe_of(4);
        r.exponents = search;
        r.top_exponent = 2;
        calibrated_case c(aq::models::family::llama, three_layers(), r);
        REQUIRE(c.run() == status::ok);
        for (const site_report& report : c.reports) {
            const auto& e = report.coding.exponents;
            CHECK(report.coding.top_exponent == (search == exponent_search::paper ? 2 : 0));
            CHECK(*std::max_element(e.begin(), e.end()) == report.coding.top_exponent);
        }
    }
}

TEST_CASE("calibrator: goes on where an event or a source has stopped it, to the same bytes") {
    const recipe how = searched_recipe();
    calibrated_case whole(aq::models::family::llama, three_layers(), how, pruned_attention()),
        parts(aq::models::family::llama, three_layers(), how, pruned_attention());
    REQUIRE(whole.run() == status::ok);
    const std::string expected = whole.bytes();

    calibration_events stop;
    std::vector<std::size_t> layers;
    stop.layer = [&](std::size_t layer) {
        layers.push_back(layer);
        return layer == 1 ? status::source_failed : status::ok;
    };
    CHECK(parts.run({}, stop) == status::source_failed);
    CHECK(parts.out.layers_done == 2);
    CHECK(layers == std::vector<std::size_t>{0, 1});
    CHECK(parts.out.at(weight_id::q, 1).codes != nullptr);
    CHECK(parts.out.at(weight_id::q, 2).codes == nullptr);
    parts.reports.clear();
    CHECK(parts.run({}, stop) == status::ok);
    CHECK(layers == std::vector<std::size_t>{0, 1, 2});
    CHECK(parts.reports.size() == 4);
    CHECK((parts.bytes() == expected));

    const std::size_t reads = whole.weights.reads();
    for (std::size_t n = 10; n < reads; n += reads / 7) {
        CAPTURE(n);
        parts.restart();
        parts.weights.fail_from(parts.weights.reads() + n);
        CHECK(parts.run() == status::source_failed);
        parts.weights.fail_from(static_cast<std::size_t>(-1));
        CHECK(parts.run() == status::ok);
        CHECK((parts.bytes() == expected));
    }
}

TEST_CASE("calibrator: the same bytes and reports by any threads") {
    const aq::model_config c = tiny_configs()[1];
    calibrated_case one(aq::models::family::llama, c, searched_recipe(), pruned_attention());
    REQUIRE(one.run() == status::ok);
    for (const named_executor& e : all_executors(3)) {
        CAPTURE(e.name);
        if (e.threads.workers == 2) continue;  // three are enough
        calibrated_case other(aq::models::family::llama, c, searched_recipe(), pruned_attention());
        REQUIRE(other.run(e.threads) == status::ok);
        CHECK((other.bytes() == one.bytes()));
        REQUIRE(other.reports.size() == one.reports.size());
        for (std::size_t i = 0; i < one.reports.size(); ++i)
            CHECK(other.reports[i].signal_to_noise_db() == one.reports[i].signal_to_noise_db());
    }
}

TEST_CASE("calibrator: progress goes from 0 to 1, also where layers were done before") {
    calibrated_case c(aq::models::family::opt, three_layers(), recipe_of(8));
    double last = 0.0;
    calibration_events told;
    told.progress = [&](double done) {
        CHECK(done >= last);
        last = done;
    };
    told.layer = [&](std::size_t layer) {
        CHECK(last == doctest::Approx(static_cast<double>(layer + 1) / 3.0));
        return layer == 0 && c.out.at(weight_id::q, 1).codes == nullptr ? status::source_failed : status::ok;
    };
    CHECK(c.run({}, told) == status::source_failed);
    CHECK(c.run({}, told) == status::ok);
    CHECK(last == doctest::Approx(1.0));
}

TEST_CASE("calibrator: GPTQ's rounding leaves less error than the nearest in every layer, refitting less than that") {
    const auto run = [](recipe r, bool refits) {
        r.refits = refits;
        r.follow = 0.0;
        calibrated_case c(aq::models::family::llama, three_layers(), r);
        REQUIRE(c.run() == status::ok);
        return c.reports;
    };
    using report = aq::example::weight_report;
    for (const recipe& r : {recipe_of(16), searched_recipe(), recipe_of(4)}) {
        const std::vector<site_report> rounded = run(r, false), refitted = run(r, true);
        for (std::size_t layer = 0; layer < 3; ++layer) {
            CHECK(sum_of(rounded, &report::by_both, layer) < sum_of(rounded, &report::by_nearest, layer));
            if (r.sites[0].is_float) CHECK(sum_of(rounded, &report::by_codes, layer) == 0.0);
            else CHECK(sum_of(refitted, &report::by_both, layer) < sum_of(rounded, &report::by_both, layer));
        }
    }
}

TEST_CASE("calibrator: weights that follow the float model bring the last layer nearer to it, pruned or not") {
    for (const aq::model_options& attention : {aq::model_options{}, pruned_attention()}) {
        const auto distance = [&](double follow) {
            recipe r = recipe_of(4);
            r.follow = follow;
            calibrated_case c(aq::models::family::llama, three_layers(), r, attention);
            REQUIRE(c.run() == status::ok);
            return by_hand<aq::llama_family>(c).distance_to_exact(2, site::mlp_middle);
        };
        CHECK(distance(1.0) < 0.95 * distance(0.0));
    }
}

TEST_CASE("calibrator: what it cannot work with is refused, and no layer is done") {
    const auto run = [](auto change) {
        calibrated_case c(aq::models::family::llama, three_layers(), recipe_of(4));
        change(c);
        const status s = c.run();
        CHECK(c.out.layers_done == (s == status::ok ? 3 : 0));
        return s;
    };
    CHECK(run([](calibrated_case&) {}) == status::ok);
    CHECK(run([](calibrated_case& c) { c.windows.clear(); }) == status::bad_argument);
    CHECK(run([](calibrated_case& c) { c.windows[2].clear(); }) == status::bad_argument);
    CHECK(run([](calibrated_case& c) { c.how.weights.bits = 9; }) == status::unsupported_format);
    CHECK(run([](calibrated_case& c) { c.how.sites[2].activations.bits = 9; }) == status::bad_argument);
    CHECK(run([](calibrated_case& c) { c.how.gptq.damping = -1.0; }) == status::bad_argument);
    CHECK(run([](calibrated_case& c) {
              c.how.exponents = exponent_search::output;
              c.how.top_exponent = 7;
          }) == status::bad_argument);
    CHECK(run([](calibrated_case& c) { c.formats.pruning = plan_of({{3, 0.5}}); }) == status::bad_argument);
    calibrated_case c(aq::models::family::llama, three_layers(), recipe_of(4));
    aq::example::calibrator without_kernels(c.model, c.how, {});
    CHECK(without_kernels.run(c.windows, c.out, {}) == status::bad_argument);
}

TEST_CASE("calibrator: signal to noise is that of all outputs of a site") {
    site_report r;
    CHECK(r.signal_to_noise_db() == std::numeric_limits<double>::infinity());
    r.weights.push_back({weight_id::q, 60.0, 5.0, 0.5, 9.0});
    r.weights.push_back({weight_id::k, 40.0, 5.0, 0.5, 9.0});
    CHECK(r.signal_to_noise_db() == doctest::Approx(20.0));
}
