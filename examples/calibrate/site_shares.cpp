#include "calibrate/site_shares.hpp"

#include <algorithm>
#include <numeric>

namespace aq::example {

status mixed_state::reset(models::family family, const model_config& config, const model_state& first,
                          const model_state& second) {
    for (const model_state* s : {&first, &second}) {
        if (s->profile == nullptr || s->weights.read == nullptr) return status::null_pointer;
        if (!s->profile->fits(config)) return status::bad_shape;
    }
    AQ_TRY(profile_.reset(config));
    first_ = first;
    second_ = second;
    std::fill(std::begin(site_of_), std::end(site_of_), site_count);
    for (const linears_of_site& l : linears_of(family)) {
        for (const weight_id id : l.ids) site_of_[static_cast<std::size_t>(id)] = static_cast<std::size_t>(l.where);
    }
    is_second_.assign(config.layers * site_count, 0);
    for (std::size_t i = 0; i < is_second_.size(); ++i) take_second(i / site_count, static_cast<site>(i % site_count), false);
    return status::ok;
}

void mixed_state::take_second(std::size_t layer, site where, bool is_second) noexcept {
    const activation_profile& from = *(is_second ? second_ : first_).profile;
    is_second_[place_of(layer, where)] = is_second ? 1 : 0;
    profile_.format(layer, where) = from.format(layer, where);
    std::copy_n(from.exponents(layer, where), from.channels(where), profile_.exponents(layer, where));
}

const weight_source& mixed_state::owner(weight_id id, std::size_t layer) const noexcept {
    const std::size_t where = site_of_[static_cast<std::size_t>(id)];
    const bool is_second = where != site_count && is_second_[layer * site_count + where] != 0;
    return (is_second ? second_ : first_).weights;
}

status mixed_state::read(void* self, weight_id id, std::size_t layer, matrix_view<float> out) {
    const weight_source& from = static_cast<const mixed_state*>(self)->owner(id, layer);
    return from.read(from.self, id, layer, out);
}

status mixed_state::packed(void* self, weight_id id, std::size_t layer, packed_weights& out) {
    const weight_source& from = static_cast<const mixed_state*>(self)->owner(id, layer);
    return from.packed == nullptr ? status::ok : from.packed(from.self, id, layer, out);
}

double site_shares::share(std::size_t place) const {
    const double sum = std::accumulate(sites.begin(), sites.end(), 0.0, [&](double s, double kl) { return s + (kl - base); });
    return sum == 0.0 ? 0.0 : added(place) / sum;
}

status measure_shares(output_distance& distance, const model_state& base, const model_state& changed, site_shares& out,
                      const std::function<void(double share_done)>& progress) {
    if (distance.model() == nullptr) return status::bad_argument;
    const model_config& config = distance.model()->config;
    const std::size_t count = config.layers * site_count;
    mixed_state mixed;
    AQ_TRY(mixed.reset(distance.model()->family, config, base, changed));
    std::size_t done = 0;
    const auto measure = [&](double& kl) {
        AQ_TRY(distance.of(mixed.state().weights, *mixed.state().profile, kl));
        if (progress) progress(static_cast<double>(++done) / static_cast<double>(count + 2));
        return status::ok;
    };
    out = {};
    out.sites.assign(count, 0.0);
    AQ_TRY(measure(out.base));
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t layer = i / site_count;
        const site where = static_cast<site>(i % site_count);
        mixed.take_second(layer, where, true);
        AQ_TRY(measure(out.sites[i]));
        mixed.take_second(layer, where, false);
    }
    for (std::size_t i = 0; i < count; ++i) mixed.take_second(i / site_count, static_cast<site>(i % site_count), true);
    return measure(out.all);
}

}  // namespace aq::example
