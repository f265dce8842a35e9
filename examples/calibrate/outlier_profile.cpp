#include "calibrate/outlier_profile.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "models/safetensors.hpp"

namespace aq::example {

namespace {

/// What the vectors of a layer are called in a file, in the order of the sites.
struct profile_names {
    const char* layers;
    const char* sites[site_count];
};
constexpr profile_names known_names[] = {
    {"model.layers.", {"self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"}},
    {"model.decoder.layers.", {"self_attn.q_proj", "self_attn.out_proj", "fc1", "fc2"}},
};

std::string name_in(const profile_names& names, std::size_t layer, std::size_t s) {
    return names.layers + std::to_string(layer) + "." + names.sites[s];
}

std::vector<float> vector_in(const models::tensor_set& tensors, const std::string& file, const std::string& name) {
    const models::tensor* const found = tensors.find(name);
    if (found == nullptr) models::fail(file, "tensor " + models::in_quotes(name) + " is missing");
    if (!models::reads_as_float(found->type) || found->shape.size() != 1)
        models::fail(found->place, "is not a vector of F32, F16 or BF16");
    std::vector<float> values(static_cast<std::size_t>(found->shape[0]));
    models::to_float(found->type, found->data, 0, values.size(), values.data());
    const auto is_maximum = [](float v) { return v >= 0.0F && v <= std::numeric_limits<float>::max(); };
    if (!std::all_of(values.begin(), values.end(), is_maximum))
        models::fail(found->place, "holds what is not the largest of absolute values");
    if (std::all_of(values.begin(), values.end(), [](float v) { return v == 0.0F; })) models::fail(found->place, "is all 0");
    return values;
}

/// Rank i of c, in a longer or shorter list of C.
std::size_t rank_of(std::size_t i, std::size_t c, std::size_t all) noexcept { return i * all / c; }

/// Indices from the largest value to the smallest; of equal ones the first is first.
std::vector<std::size_t> descending(const std::vector<float>& values) {
    std::vector<std::size_t> order(values.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return values[a] != values[b] ? values[a] > values[b] : a < b; });
    return order;
}

/// For each of `count` channels the one of the profile that it stands for, ascending: spread over the ranks of what a channel
/// has of the largest, summed over the layers.
std::vector<std::size_t> stand_ins(const channel_maxima& profile, std::initializer_list<site> sites, std::size_t count) {
    std::vector<float> prominence(profile.at(0, *sites.begin()).size(), 0.0F);
    for (std::size_t layer = 0; layer < profile.layers.size(); ++layer) {
        for (const site where : sites) {
            const std::vector<float>& maxima = profile.at(layer, where);
            const float largest = *std::max_element(maxima.begin(), maxima.end());
            for (std::size_t c = 0; c < maxima.size(); ++c) prominence[c] += maxima[c] / largest;
        }
    }
    const std::vector<std::size_t> order = descending(prominence);
    std::vector<std::size_t> chosen(count);
    for (std::size_t i = 0; i < count; ++i) chosen[i] = order[rank_of(i, count, order.size())];
    std::sort(chosen.begin(), chosen.end());
    return chosen;
}

/// The factors of one site of one layer.
std::vector<float> sampled(const std::vector<float>& maxima, const std::vector<std::size_t>& standing_for, float ceiling) {
    const std::vector<std::size_t> order = descending(maxima);
    const auto positive = static_cast<std::size_t>(std::count_if(maxima.begin(), maxima.end(), [](float v) { return v > 0.0F; }));
    const float median = maxima[order[positive / 2]];
    std::vector<float> own(standing_for.size()), factors(standing_for.size());
    for (std::size_t c = 0; c < own.size(); ++c) own[c] = maxima[standing_for[c]];
    const std::vector<std::size_t> places = descending(own);
    for (std::size_t i = 0; i < places.size(); ++i) {
        const float ratio = maxima[order[rank_of(i, places.size(), order.size())]] / median;
        factors[places[i]] = std::clamp(ratio, least_factor, ceiling);
    }
    return factors;
}

}  // namespace

channel_maxima read_channel_maxima(const models::named_bytes& file) {
    models::tensor_set tensors;
    tensors.add_safetensors(file);
    const auto* const names = std::find_if(std::begin(known_names), std::end(known_names),
                                           [&](const profile_names& n) { return tensors.find(name_in(n, 0, 0)) != nullptr; });
    if (names == std::end(known_names)) {
        models::fail(file.name, "is no profile of activations: it has neither tensor '" + name_in(known_names[0], 0, 0) +
                                    "' nor '" + name_in(known_names[1], 0, 0) + "'");
    }
    channel_maxima result;
    result.name = std::filesystem::path(file.name).filename().string();
    for (std::size_t layer = 0; tensors.find(name_in(*names, layer, 0)) != nullptr; ++layer) {
        channels_of_sites& sites = result.layers.emplace_back();
        for (std::size_t s = 0; s < site_count; ++s) {
            const std::string name = name_in(*names, layer, s);
            sites[s] = vector_in(tensors, file.name, name);
            // The norms' two sites are those of one residual stream, and all layers are alike.
            const bool is_of_stream = static_cast<site>(s) == site::mlp;
            const std::size_t length = is_of_stream ? sites[0].size() : result.layers[0][s].size();
            if (sites[s].size() != length) {
                models::fail(file.name, "tensor " + models::in_quotes(name) + " has " + std::to_string(sites[s].size()) +
                                            " channels, not " + std::to_string(length));
            }
        }
    }
    return result;
}

outlier_factors outliers_like(const channel_maxima& profile, models::family family, const model_config& config) {
    if (profile.layers.empty()) models::fail(profile.name, "has no layer");
    const std::vector<std::size_t> residual = stand_ins(profile, {site::attention, site::mlp}, config.dim),
                                   values = stand_ins(profile, {site::attention_output}, config.kv_dim()),
                                   middle = stand_ins(profile, {site::mlp_middle}, config.hidden);
    constexpr float no_ceiling = std::numeric_limits<float>::max();
    outlier_factors result;
    for (std::size_t l = 0; l < config.layers; ++l) {
        const std::size_t layer = (2 * l + 1) * profile.layers.size() / (2 * config.layers);
        channels_of_sites& sites = result.layers.emplace_back();
        for (const site where : {site::attention, site::mlp})
            sites[static_cast<std::size_t>(where)] = sampled(profile.at(layer, where), residual, no_ceiling);
        sites[static_cast<std::size_t>(site::attention_output)] =
            sampled(profile.at(layer, site::attention_output), values, no_ceiling);
        if (family != models::family::bloom)
            sites[static_cast<std::size_t>(site::mlp_middle)] =
                sampled(profile.at(layer, site::mlp_middle), middle, largest_middle_factor);
    }
    return result;
}

outlier_factors made_up_outliers(const model_config& config) {
    std::mt19937 random(1811);
    const auto between = [&random](double low,
                                   double high) {  // evenly in the logarithm; no distribution of the library's, which vary
        const double share = static_cast<double>(random()) / 4294967296.0;
        return static_cast<float>(low * std::pow(high / low, share));
    };
    std::vector<float> factors(config.dim);
    for (float& f : factors) f = between(0.7, 1.4);
    for (std::size_t i = 0; i < config.dim / 32; ++i) factors[random() % config.dim] = between(4.0, 12.0);
    if (config.dim > 0) factors[random() % config.dim] = 24.0F;
    channels_of_sites sites;
    sites[static_cast<std::size_t>(site::attention)] = sites[static_cast<std::size_t>(site::mlp)] = factors;
    return {std::vector<channels_of_sites>(config.layers, sites)};
}

}  // namespace aq::example
