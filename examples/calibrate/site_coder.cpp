#include "calibrate/site_coder.hpp"

#include <agilequant/elementwise/hadamard.hpp>

#include "calibrate/parallel.hpp"

namespace aq::example {

namespace {

constexpr std::size_t sample_rows = 512;

/// What the search goes through: everything; or, where exponents are not its matter, the uniform quantizer without a clip, of whose scales
/// only a static one is chosen.
activation_search_settings settings_of(const recipe& how, const activation_format& wanted) {
    activation_search_settings s;
    s.bits = wanted.bits;
    s.is_asymmetric = wanted.is_asymmetric;
    s.is_static = wanted.is_static;
    s.top_exponent = how.exponents == exponent_search::output ? how.top_exponent : 0;
    if (how.exponents != exponent_search::output) s.clip_count = 1;
    return s;
}

}  // namespace

status site_coder::reset(const recipe& how, const site_format& wanted, std::size_t channels) {
    recipe_ = &how;
    wanted_ = wanted;
    rotates_ = wanted.is_rotated || (how.tries_rotation && !wanted.is_float);
    AQ_TRY(plain_.reset(channels, sample_rows));
    return rotates_ ? rotated_.reset(channels, sample_rows) : status::ok;
}

status site_coder::add(site_rows& x) {
    AQ_TRY(plain_.add(x.view()));
    if (!rotates_) return status::ok;
    copy_ = x.values;
    AQ_TRY(hadamard(view(copy_, x.channels)));
    return rotated_.add(view(copy_, x.channels));
}

status site_coder::choose(const site_weights& weights, const executor& threads, site_coding& out) const {
    out = {};
    out.format = wanted_;
    out.exponents.assign(plain_.channels(), 0);
    if (wanted_.is_float) return status::ok;
    double error = 0.0, rotated_error = 0.0;
    AQ_TRY(search(weights, threads, out, error));
    if (!rotates_ || wanted_.is_rotated) return status::ok;
    site_coding rotated = out;
    rotated.format.is_rotated = true;
    AQ_TRY(search(weights, threads, rotated, rotated_error));
    if (rotated_error < error) out = std::move(rotated);
    return status::ok;
}

/// The best coding of rows that are rotated as out.format says, and the error it has in the outputs.
status site_coder::search(const site_weights& weights, const executor& threads, site_coding& out, double& error) const {
    const trip_calibrator& seen = out.format.is_rotated ? rotated_ : plain_;
    hessian outputs;
    AQ_TRY(outputs.reset(seen.channels()));
    std::vector<float> values;
    for (const weight_id id : weights.ids()) {
        AQ_TRY(weights.read(id, out.format.is_rotated, values));
        AQ_TRY(add_in_parallel(threads, outputs, view(values, seen.channels())));
    }
    activation_search all;
    AQ_TRY(all.reset(seen, outputs, settings_of(*recipe_, wanted_.activations)));
    AQ_TRY(over(threads, all.size(), [&](std::size_t i) { return all.rank(i); }));
    all.select();
    AQ_TRY(over(threads, all.finalists(), [&](std::size_t i) { return all.measure(all.finalist(i)); }));
    searched_activations found;
    AQ_TRY(all.take(out.exponents.data(), found));
    out.format.activations = found.best.format;
    out.top_exponent = found.best.top_exponent;
    out.choice = found.best.choice;
    error = found.best.error;
    if (recipe_->exponents != exponent_search::paper) return status::ok;
    const trip_format paper{wanted_.activations.bits, wanted_.activations.is_asymmetric, recipe_->top_exponent,
                            exponent_choice::mean_square};
    out.top_exponent = paper.top_exponent;
    out.choice = paper.choice;
    return seen.fit(paper, out.exponents.data(), out.format.activations.fixed);
}

}  // namespace aq::example
