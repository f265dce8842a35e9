// The report of a calibration: every field of a table and of JSON, from reports made by hand.
#include "calibrate/calibration_report.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>

using aq::site;
using aq::weight_id;
using namespace aq::example;
using nlohmann::json;

namespace {

/// Ratios of 20 dB as rounded, 10 dB rounded to nearest, 30 dB by the codes of activations alone: sums of both matrices, not means of ratios.
site_report coded_site(std::size_t layer, site where) {
    site_report s;
    s.layer = layer;
    s.where = where;
    s.coding.format.is_float = false;
    s.coding.format.is_rotated = true;
    s.coding.format.activations.bits = 4;
    s.coding.format.activations.is_asymmetric = true;
    s.coding.format.activations.clip = 0.875F;
    s.coding.top_exponent = 3;
    s.coding.choice = aq::exponent_choice::percentile_99;
    s.coding.exponents = {0, 3, 0, 1, 0, 3};
    s.range = {-1.5F, 12.25F};
    s.weights = {{weight_id::gate, 900.0, 0.5, 8.0, 90.0}, {weight_id::up, 100.0, 0.5, 2.0, 10.0}};
    return s;
}

site_report float_site(std::size_t layer, site where) {
    site_report s;
    s.layer = layer;
    s.where = where;
    s.range = {-0.5F, 0.0F};
    s.weights = {{weight_id::down, 2.0, 0.0, 0.0, 0.2}};
    return s;
}

site_report static_site(std::size_t layer, site where) {
    site_report s = coded_site(layer, where);
    s.coding = {};
    s.coding.format.is_float = false;
    aq::activation_format& f = s.coding.format.activations;
    f.bits = 8;
    f.is_asymmetric = false;
    f.is_static = true;
    f.fixed = {0.5F, 0};
    s.coding.exponents.assign(6, 0);
    s.weights = {{weight_id::o, 0.0, 0.0, 1.0, 1.0}};
    return s;
}

calibration_report report_case() {
    calibration_report r;
    r.model = "a \"model\"";
    r.family = aq::models::family::opt;
    r.weights = {4, true, 32, aq::range_search::mean_square, aq::group_scales::integers};
    r.sites = {coded_site(0, site::mlp), float_site(0, site::mlp_middle), static_site(1, site::attention_output)};
    r.perplexities = {{"float", 3.25}, {"calibrated", std::nan("")}};
    r.shares.base = 0.25;
    r.shares.all = 2.0;
    r.shares.sites.assign(8, 0.25);
    r.shares.sites[2] = 1.0;    // mlp of layer 0: three quarters of the sum
    r.shares.sites[3] = 0.125;  // does good
    r.shares.sites[5] = 0.625;
    return r;
}

using row = std::vector<std::string>;

}  // namespace

TEST_CASE("calibration report: the table") {
    calibration_report r = report_case();
    auto rows = table_of(r);
    REQUIRE(rows.size() == 4);
    CHECK(rows[0] == row{"layer", "site", "bits", "coded", "range", "dB", "RTN dB", "share of error"});
    CHECK(rows[1] ==
          row{"0", "mlp", "W4A4", "rotated, K 3 by percentile_99, clip 0.88", "-1.5 .. 12.25", "20.00", "10.00", "75.0 %"});
    CHECK(rows[2] == row{"0", "mlp_middle", "W4A16", "-", "-0.5 .. 0", "inf", "10.00", "-12.5 %"});
    CHECK(rows[3] ==
          row{"1", "attention_output", "W4A8", "symmetric, static -63.5 .. 63.5", "-1.5 .. 12.25", "-inf", "-inf", "37.5 %"});
    r.shares = {};
    r.sites[0].coding.top_exponent = 0;
    r.sites[0].coding.format.is_rotated = false;
    r.sites[0].coding.format.activations.clip = 1.0F;
    rows = table_of(r);
    CHECK(rows[0] == row{"layer", "site", "bits", "coded", "range", "dB", "RTN dB"});
    CHECK(rows[1] == row{"0", "mlp", "W4A4", "-", "-1.5 .. 12.25", "20.00", "10.00"});
    r.sites.clear();
    CHECK(table_of(r).size() == 1);
}

TEST_CASE("calibration report: JSON has the model, its weights, perplexities and divergences") {
    calibration_report r = report_case();
    json j = json::parse(json_of(r));
    CHECK(j["model"] == "a \"model\"");
    CHECK(j["family"] == "opt");
    CHECK(j["weights"] == json{{"bits", 4}, {"group_size", 32}, {"asymmetric", true}, {"scales", "integer"}, {"method", "gptq"}});
    CHECK(j["perplexity"] ==
          json::array({json{{"name", "float"}, {"value", 3.25}}, json{{"name", "calibrated"}, {"value", nullptr}}}));
    CHECK(j["kl_divergence_nats_per_token"] == json{{"base", 0.25}, {"all_sites", 2.0}, {"sum_of_sites", 1.0}});
    r.shares = {};
    r.uses_gptq = false;
    r.weights.scales = aq::group_scales::floats;
    r.perplexities.clear();
    r.model = "no UTF-8: \xFF";
    j = json::parse(json_of(r));
    CHECK(!j.contains("kl_divergence_nats_per_token"));
    CHECK(!j["sites"][0].contains("error_share"));
    CHECK(j["weights"]["method"] == "round_to_nearest");
    CHECK(j["weights"]["scales"] == "float");
    CHECK(j["perplexity"] == json::array());
    CHECK(j["model"] == "no UTF-8: \xEF\xBF\xBD");
}

TEST_CASE("calibration report: JSON of a site that is coded, in float, and static") {
    const json sites = json::parse(json_of(report_case()))["sites"];
    REQUIRE(sites.size() == 3);
    const json coded{{"layer", 0},
                     {"site", "mlp"},
                     {"linears", {"gate", "up"}},
                     {"weight_bits", 4},
                     {"hadamard", true},
                     {"activation_bits", 4},
                     {"activation_asymmetric", true},
                     {"activation_scale", "dynamic"},
                     {"clip", 0.875},
                     {"trip_max_exponent", 3},
                     {"trip_choice", "percentile_99"},
                     {"trip_exponents", {3, 1, 0, 2}},
                     {"activation_min", -1.5},
                     {"activation_max", 12.25},
                     {"signal_to_noise_db", 20.0},
                     {"signal_to_noise_round_to_nearest_db", 10.0},
                     {"signal_to_noise_exact_weights_db", 30.0},
                     {"kl_added_nats_per_token", 0.75},
                     {"error_share", 0.75}};
    CHECK(sites[0] == coded);
    const json in_float{{"layer", 0},
                        {"site", "mlp_middle"},
                        {"linears", {"down"}},
                        {"weight_bits", 4},
                        {"hadamard", false},
                        {"activation_bits", nullptr},
                        {"activation_min", -0.5},
                        {"activation_max", 0.0},
                        {"signal_to_noise_db", nullptr},
                        {"signal_to_noise_round_to_nearest_db", 10.0},
                        {"signal_to_noise_exact_weights_db", nullptr},
                        {"kl_added_nats_per_token", -0.125},
                        {"error_share", -0.125}};
    CHECK(sites[1] == in_float);
    CHECK(sites[2]["activation_scale"] == "static");
    CHECK(sites[2]["static_scale"] == 0.5);
    CHECK(sites[2]["static_zero_point"] == 0);
    CHECK(!sites[2].contains("clip"));
    CHECK(!sites[2].contains("trip_choice"));
    CHECK(sites[2]["trip_exponents"] == json::array({6}));
    CHECK(sites[2]["signal_to_noise_db"] == nullptr);
    CHECK(sites[2]["error_share"] == 0.375);
}
