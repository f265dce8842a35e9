#include "calibrate/outlier_source.hpp"

#include "models/mapped_file.hpp"

namespace aq::example {

namespace {

const std::vector<float> no_factors;

/// The site that a weight writes to, and the one it reads; site_count: none, or one that cannot be reached.
struct neighbours {
    std::size_t written = site_count, read = site_count;
};

neighbours neighbours_of(weight_id id) noexcept {
    constexpr auto attention = static_cast<std::size_t>(site::attention),
                   output = static_cast<std::size_t>(site::attention_output), mlp = static_cast<std::size_t>(site::mlp),
                   middle = static_cast<std::size_t>(site::mlp_middle);
    switch (id) {
        case weight_id::attention_norm:
        case weight_id::attention_norm_bias: return {attention, site_count};
        case weight_id::q:
        case weight_id::k: return {site_count, attention};
        case weight_id::v: return {output, attention};
        case weight_id::v_bias: return {output, site_count};
        case weight_id::o: return {site_count, output};
        case weight_id::mlp_norm:
        case weight_id::mlp_norm_bias: return {mlp, site_count};
        case weight_id::gate: return {site_count, mlp};
        case weight_id::up: return {middle, mlp};
        case weight_id::up_bias: return {middle, site_count};
        case weight_id::down: return {site_count, middle};
        default: return {};
    }
}

}  // namespace

status outlier_source::read(void* self, weight_id id, std::size_t layer, matrix_view<float> out) {
    const auto& s = *static_cast<const outlier_source*>(self);
    AQ_TRY(s.inner_.read(s.inner_.self, id, layer, out));
    const neighbours n = neighbours_of(id);
    if (n.written == site_count && n.read == site_count) return status::ok;
    if (layer >= s.factors_.layers.size()) return status::bad_shape;
    const channels_of_sites& sites = s.factors_.layers[layer];
    const std::vector<float>&written = n.written == site_count ? no_factors : sites[n.written],
          &read = n.read == site_count ? no_factors : sites[n.read];
    const bool is_vector = n.read == site_count;
    // Heads that share values share the channels of the first of them.
    const std::size_t head = s.config_.head_dim(), sharing = id == weight_id::o ? s.config_.heads / s.config_.kv_heads : 1;
    if (!written.empty() && written.size() != (is_vector ? out.cols : out.rows)) return status::bad_shape;
    if (!read.empty() && read.size() * sharing != out.cols) return status::bad_shape;
    for (std::size_t r = 0; r < out.rows; ++r) {
        for (std::size_t c = 0; c < out.cols; ++c) {
            float& w = out.row(r)[c];
            if (!read.empty()) w *= 1.0F / read[sharing == 1 ? c : c / head / sharing * head + c % head];
            if (!written.empty()) w *= written[is_vector ? c : r];
        }
    }
    return status::ok;
}

std::unique_ptr<outlier_source> fold_outliers(models::loaded_model& model, const std::filesystem::path& profile) {
    if (model.source.packed != nullptr) models::fail(model.name, "its weights are packed, and outliers are folded into floats");
    outlier_factors factors;
    std::string whose;
    if (profile.empty()) {
        factors = made_up_outliers(model.config);
    } else {
        const models::mapped_file file(profile);
        const channel_maxima maxima = read_channel_maxima(file.named());
        factors = outliers_like(maxima, model.family, model.config);
        whose = " of " + maxima.name.substr(0, maxima.name.find(".act_scales"));
    }
    auto result = std::make_unique<outlier_source>(model.config, model.source, std::move(factors));
    model.source = result->source();
    model.name += " with outlier channels" + whose;
    return result;
}

}  // namespace aq::example
