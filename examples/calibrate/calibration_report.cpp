#include "calibrate/calibration_report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>

namespace aq::example {

namespace {

// In the order of their enumerations.
constexpr const char* site_names[site_count] = {"attention", "attention_output", "mlp", "mlp_middle"};
constexpr const char* choices[] = {"mean_square", "maximum", "percentile_99", "root_mean_square"};

const char* name_of(weight_id id) noexcept {
    switch (id) {
        case weight_id::q: return "q";
        case weight_id::k: return "k";
        case weight_id::v: return "v";
        case weight_id::o: return "o";
        case weight_id::gate: return "gate";
        case weight_id::up: return "up";
        case weight_id::down: return "down";
        default: return "?";
    }
}

const char* choice_of(const site_coding& c) noexcept { return choices[static_cast<std::size_t>(c.choice)]; }
const char* site_of(const site_report& s) noexcept { return site_names[static_cast<std::size_t>(s.where)]; }

double in_db(const site_report& r, double weight_report::*error_of) noexcept {
    double energy = 0.0, error = 0.0;
    for (const weight_report& w : r.weights) {
        energy += w.energy;
        error += w.*error_of;
    }
    return error == 0.0 ? std::numeric_limits<double>::infinity() : 10.0 * std::log10(energy / error);
}

std::string text(const char* format, double value) {
    if (std::isinf(value) || std::isnan(value)) return std::isnan(value) ? "nan" : value > 0.0 ? "inf" : "-inf";
    char buffer[64];
    std::snprintf(buffer, sizeof buffer, format, value);
    return buffer;
}

std::string range_text(value_range r) {
    return text("%.4g", static_cast<double>(r.low)) + " .. " + text("%.4g", static_cast<double>(r.high));
}

/// What codes of a fixed scale stand for.
value_range static_range_of(const activation_format& f) noexcept {
    const code_range codes = activation_codes(f.bits, f.is_asymmetric);
    return {decode(codes.low, f.fixed), decode(codes.high, f.fixed)};
}

std::string coding_text(const site_coding& c) {
    std::vector<std::string> parts;
    const activation_format& f = c.format.activations;
    if (c.format.is_rotated) parts.emplace_back("rotated");
    if (!c.format.is_float) {
        if (c.top_exponent > 0) parts.push_back("K " + std::to_string(c.top_exponent) + " by " + choice_of(c));
        if (!f.is_asymmetric) parts.emplace_back("symmetric");
        if (f.is_static) parts.push_back("static " + range_text(static_range_of(f)));
        else if (f.clip < 1.0F) parts.push_back("clip " + text("%.2f", static_cast<double>(f.clip)));
    }
    std::string all;
    for (const std::string& p : parts) all += (all.empty() ? "" : ", ") + p;
    return all.empty() ? "-" : all;
}

/// How many channels have exponent 0, 1 and so on up to K.
std::vector<std::size_t> exponent_counts(const site_coding& c) {
    std::vector<std::size_t> counts(static_cast<std::size_t>(std::max(c.top_exponent, 0)) + 1, 0);
    for (const std::uint8_t e : c.exponents) {
        if (e >= counts.size()) counts.resize(std::size_t{e} + 1, 0);
        ++counts[e];
    }
    return counts;
}

using json = nlohmann::ordered_json;

/// Infinite and NaN are none that JSON has.
json number(double x) { return std::isfinite(x) ? json(x) : json(nullptr); }

void add_coding(const site_coding& c, json& out) {
    const activation_format& f = c.format.activations;
    out["hadamard"] = c.format.is_rotated;
    if (c.format.is_float) {
        out["activation_bits"] = nullptr;
        return;
    }
    out["activation_bits"] = f.bits;
    out["activation_asymmetric"] = f.is_asymmetric;
    out["activation_scale"] = f.is_static ? "static" : "dynamic";
    if (f.is_static) {
        out["static_scale"] = f.fixed.scale;
        out["static_zero_point"] = f.fixed.zero;
    } else {
        out["clip"] = f.clip;
    }
    out["trip_max_exponent"] = c.top_exponent;
    if (c.top_exponent > 0) out["trip_choice"] = choice_of(c);
    out["trip_exponents"] = exponent_counts(c);
}

json site_json(const calibration_report& r, const site_report& s) {
    json out;
    out["layer"] = s.layer;
    out["site"] = site_of(s);
    out["linears"] = json::array();
    for (const weight_report& w : s.weights) out["linears"].push_back(name_of(w.id));
    out["weight_bits"] = r.weights.bits;
    add_coding(s.coding, out);
    out["activation_min"] = number(static_cast<double>(s.range.low));
    out["activation_max"] = number(static_cast<double>(s.range.high));
    out["signal_to_noise_db"] = number(s.signal_to_noise_db());
    out["signal_to_noise_round_to_nearest_db"] = number(nearest_signal_to_noise_db(s));
    out["signal_to_noise_exact_weights_db"] = number(in_db(s, &weight_report::by_codes));
    const std::size_t place = place_of(s.layer, s.where);
    if (place < r.shares.sites.size()) {
        out["kl_added_nats_per_token"] = number(r.shares.added(place));
        out["error_share"] = number(r.shares.share(place));
    }
    return out;
}

json shares_json(const site_shares& s) {
    double sum = 0.0;
    for (std::size_t i = 0; i < s.sites.size(); ++i) sum += s.added(i);
    return {{"base", number(s.base)}, {"all_sites", number(s.all)}, {"sum_of_sites", number(sum)}};
}

}  // namespace

double nearest_signal_to_noise_db(const site_report& r) noexcept { return in_db(r, &weight_report::by_nearest); }

std::vector<std::vector<std::string>> table_of(const calibration_report& r) {
    const bool has_shares = !r.shares.sites.empty();
    std::vector<std::vector<std::string>> rows{{"layer", "site", "bits", "coded", "range", "dB", "RTN dB"}};
    if (has_shares) rows[0].emplace_back("share of error");
    for (const site_report& s : r.sites) {
        const site_format& f = s.coding.format;
        const std::string activation_bits = f.is_float ? "16" : std::to_string(f.activations.bits);
        rows.push_back({std::to_string(s.layer), site_of(s), "W" + std::to_string(r.weights.bits) + "A" + activation_bits,
                        coding_text(s.coding), range_text(s.range), text("%.2f", s.signal_to_noise_db()),
                        text("%.2f", nearest_signal_to_noise_db(s))});
        const std::size_t place = place_of(s.layer, s.where);
        if (!has_shares) continue;
        rows.back().push_back(place < r.shares.sites.size() ? text("%.1f %%", 100.0 * r.shares.share(place)) : "");
    }
    return rows;
}

std::string json_of(const calibration_report& r) {
    json out;
    out["model"] = r.model;
    out["family"] = models::name_of(r.family);
    out["weights"] = {{"bits", r.weights.bits},
                      {"group_size", r.weights.group},
                      {"asymmetric", r.weights.is_asymmetric},
                      {"scales", r.weights.scales == group_scales::floats ? "float" : "integer"},
                      {"method", r.uses_gptq ? "gptq" : "round_to_nearest"}};
    out["perplexity"] = json::array();
    for (const named_perplexity& p : r.perplexities)
        out["perplexity"].push_back({{"name", p.name}, {"value", number(p.perplexity)}});
    if (!r.shares.sites.empty()) out["kl_divergence_nats_per_token"] = shares_json(r.shares);
    out["sites"] = json::array();
    for (const site_report& s : r.sites) out["sites"].push_back(site_json(r, s));
    // A model's name comes from a file: what is no UTF-8 in it is replaced.
    return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace aq::example
