#include "calibrate/site_budget.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "calibrate/parallel.hpp"
#include "calibrate/site_weights.hpp"

namespace aq::example {

namespace {

/// All matrices of all sites, rounded to nearest.
status pack_nearest(const models::loaded_model& model, const recipe& wanted, const executor& threads, quantized_weights& out) {
    AQ_TRY(out.begin(model.config, model.source));
    for (std::size_t layer = 0; layer < model.config.layers; ++layer) {
        for (const linears_of_site& linears : linears_of(model.family)) {
            const site_weights weights(model, layer, linears);
            const bool is_rotated = wanted.sites[static_cast<std::size_t>(linears.where)].is_rotated;
            std::vector<packed_storage<>> packed(linears.ids.size());
            const auto pack_one = [&](std::size_t i) {
                std::vector<float> values;
                AQ_TRY(weights.read(linears.ids[i], is_rotated, values));
                const std::size_t cols = shape_of(model.config, linears.ids[i]).cols;
                return pack(view(values, cols), wanted.weights, nullptr, packed[i]);
            };
            AQ_TRY(over(threads, packed.size(), pack_one));
            for (std::size_t i = 0; i < packed.size(); ++i) out.put(linears.ids[i], layer, std::move(packed[i]));
        }
    }
    out.layers_done = model.config.layers;
    return status::ok;
}

/// What is measured: all sites with these bits, before any calibration.
status make_profile(const model_config& config, const recipe& wanted, int bits, activation_profile& out) {
    site_format sites[site_count];
    for (std::size_t s = 0; s < site_count; ++s) {
        sites[s] = with_bits(wanted.sites[s], bits);
        sites[s].activations.is_static = false;
        sites[s].activations.clip = 1.0F;
    }
    return out.reset(config, sites);
}

/// All of the result but what the choice is worth.
std::vector<bool> choose(const models::loaded_model& model, const recipe& wanted, const site_shares& shares, double bits_per_mac,
                         site_budget& out) {
    std::vector<double> macs = macs_of_sites(model.family, model.config);
    out = {};
    out.kl_high = shares.base;
    out.kl_low = shares.all;
    for (std::size_t i = 0; i < macs.size(); ++i) {
        if (wanted.sites[i % site_count].is_float) macs[i] = 0.0;
        out.costs.push_back(shares.added(i));
    }
    const std::vector<bool> is_high = choose_high_bits(out.costs, macs, bits_per_mac);
    double bits = 0.0, all = 0.0;
    for (std::size_t i = 0; i < macs.size(); ++i) {
        out.sites.push_back(with_bits(wanted.sites[i % site_count], is_high[i] ? high_activation_bits : low_activation_bits));
        bits += out.sites[i].activations.bits * macs[i];
        all += macs[i];
    }
    out.bits_per_mac = all == 0.0 ? 0.0 : bits / all;
    return is_high;
}

}  // namespace

std::vector<double> macs_of_sites(models::family family, const model_config& config) {
    std::vector<double> macs(config.layers * site_count, 0.0);
    for (std::size_t layer = 0; layer < config.layers; ++layer) {
        for (const linears_of_site& linears : linears_of(family)) {
            for (const weight_id id : linears.ids) {
                const matrix_shape shape = shape_of(config, id);
                macs[place_of(layer, linears.where)] += static_cast<double>(shape.rows) * static_cast<double>(shape.cols);
            }
        }
    }
    return macs;
}

std::vector<bool> choose_high_bits(const std::vector<double>& costs, const std::vector<double>& macs, double bits_per_mac) {
    const auto worth = [&](std::size_t i) {
        return std::isnan(costs[i]) ? std::numeric_limits<double>::infinity() : costs[i] / macs[i];
    };
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < costs.size(); ++i) {
        if (macs[i] > 0.0) order.push_back(i);
    }
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return worth(a) > worth(b); });
    const double all = std::accumulate(macs.begin(), macs.end(), 0.0);
    double spent = low_activation_bits * all;  // whole numbers: exact
    std::vector<bool> is_high(costs.size(), false);
    for (const std::size_t i : order) {
        const double more = (high_activation_bits - low_activation_bits) * macs[i];
        if (spent + more > bits_per_mac * all) continue;
        spent += more;
        is_high[i] = true;
    }
    return is_high;
}

site_format with_bits(const site_format& wanted, int bits) {
    site_format f = wanted;
    f.activations.is_asymmetric |= wanted.activations.bits != bits && bits < high_activation_bits;
    f.activations.bits = bits;
    return f;
}

status plan_budget(const models::loaded_model& model, const recipe& wanted, double bits_per_mac, const token_windows& windows,
                   const walk_options& run, site_budget& out, const std::function<void(double share_done)>& progress) {
    if (!(bits_per_mac >= low_activation_bits && bits_per_mac <= high_activation_bits)) return status::bad_argument;
    output_distance distance;
    AQ_TRY(distance.begin(model, windows, run));
    quantized_weights weights;
    AQ_TRY(pack_nearest(model, wanted, run.threads, weights));
    activation_profile high, low;
    AQ_TRY(make_profile(model.config, wanted, high_activation_bits, high));
    AQ_TRY(make_profile(model.config, wanted, low_activation_bits, low));
    const model_state in_high{weights.source(), &high}, in_low{weights.source(), &low};
    site_shares shares;
    AQ_TRY(measure_shares(distance, in_high, in_low, shares, progress));
    const std::vector<bool> is_high = choose(model, wanted, shares, bits_per_mac, out);
    mixed_state chosen;
    AQ_TRY(chosen.reset(model.family, model.config, in_high, in_low));
    for (std::size_t i = 0; i < is_high.size(); ++i)
        chosen.take_second(i / site_count, static_cast<site>(i % site_count), !is_high[i]);
    return distance.of(chosen.state().weights, *chosen.state().profile, out.kl_chosen);
}

}  // namespace aq::example
