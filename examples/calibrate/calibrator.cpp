#include "calibrate/calibrator.hpp"

#include "calibrate/site_work.hpp"

namespace aq::example {

namespace {

/// A layer as the quantized model has it so far.
layer_state state_of(quantized_weights& q, std::size_t layer) {
    layer_state s{q.source(), {}};
    for (std::size_t i = 0; i < site_count; ++i) s.sites[i] = q.profile.format(layer, static_cast<site>(i));
    return s;
}

/// What a walk of the float model runs with: it prunes nothing, so that it has every token that the other one keeps.
walk_options in_float(const walk_options& other) {
    walk_options o;
    o.formats.float_weights = true;
    o.kernels = other.kernels;
    o.threads = other.threads;
    return o;
}

}  // namespace

calibrator::calibrator(const models::loaded_model& model, const recipe& wanted, const walk_options& run)
    : model_(model), recipe_(wanted), options_(run) {
    options_.formats.float_weights = true;  // of those that are not packed yet
    walk_ = make_walk(model.family, model.config, model.source, options_);
    if (wanted.uses_gptq && wanted.refits && wanted.follow > 0.0)
        float_walk_ = make_walk(model.family, model.config, model.source, in_float(run));
}

status calibrator::run(const token_windows& windows, quantized_weights& out, const calibration_events& told) {
    const layer_state original{model_.source, {}};
    AQ_TRY(walk_->begin(windows));
    if (float_walk_) AQ_TRY(float_walk_->begin(windows));
    for (std::size_t layer = 0; layer < model_.config.layers; ++layer) {
        if (float_walk_) AQ_TRY(float_walk_->set(original));
        if (layer >= out.layers_done) {
            AQ_TRY(calibrate(layer, out, told));
            out.layers_done = layer + 1;
            if (told.layer) AQ_TRY(told.layer(layer));
        }
        AQ_TRY(walk_->set(state_of(out, layer)));
        AQ_TRY(walk_->advance());
        if (float_walk_) AQ_TRY(float_walk_->advance());
    }
    return status::ok;
}

status calibrator::calibrate(std::size_t layer, quantized_weights& out, const calibration_events& told) {
    const auto& sites = linears_of(model_.family);
    const site_walks walks{*walk_, float_walk_.get()};
    for (std::size_t i = 0; i < sites.size(); ++i) {
        const auto progress = [&](double share) {
            const double done = static_cast<double>(layer * sites.size() + i) + share;
            if (told.progress) told.progress(done / static_cast<double>(model_.config.layers * sites.size()));
        };
        const site_weights weights(model_, layer, sites[i]);
        site_work work(recipe_, weights, walks, options_.threads, progress);
        AQ_TRY(walk_->set(state_of(out, layer)));
        AQ_TRY(work.run(out));
        if (told.site) told.site(work.report());
    }
    return status::ok;
}

}  // namespace aq::example
