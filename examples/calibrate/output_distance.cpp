#include "calibrate/output_distance.hpp"

#include <algorithm>
#include <cmath>

#include "calibrate/parallel.hpp"
#include "models/any_model.hpp"

namespace aq::example {

namespace {

/// What is taken from a logit to make it the logarithm of a probability.
double log_sum(const float* logits, std::size_t count) {
    const double top = *std::max_element(logits, logits + count);
    double sum = 0.0;
    for (std::size_t i = 0; i < count; ++i) sum += std::exp(static_cast<double>(logits[i]) - top);
    return top + std::log(sum);
}

float log_probability(float logit, double sum) { return static_cast<float>(static_cast<double>(logit) - sum); }

/// p (log p - log q) - p + q, without the cancellation that this has where they are close.
double divergence(double log_p, double log_q) {
    const double d = log_q - log_p, p = std::exp(log_p);
    return std::fabs(d) < 1.0 ? p * (std::expm1(d) - d) : std::exp(log_q) - p - p * d;
}

/// A model and its session, ready for windows.
struct running_model {
    any_model model;
    any_session session;

    [[nodiscard]] status start(const models::loaded_model& original, const weight_source& weights, const model_options& formats,
                               const activation_profile* profile, const walk_options& run) {
        models::loaded_model loaded;
        loaded.family = original.family;
        loaded.config = original.config;
        loaded.source = weights;
        AQ_TRY(model.load(loaded, formats, profile));
        return session.reset(model, *run.kernels, run.threads);
    }
    [[nodiscard]] status forward(const std::vector<std::uint32_t>& window, forward_result& out) {
        session.clear();
        return session.forward(window.data(), window.size(), logits_of::all, out);
    }
};

}  // namespace

status output_distance::begin(const models::loaded_model& model, const token_windows& windows, const walk_options& run) {
    model_ = nullptr;
    logs_.clear();
    if (run.kernels == nullptr || windows.empty()) return status::bad_argument;
    for (const auto& w : windows) {
        if (w.empty() || w.size() > model.config.max_length) return status::bad_argument;
    }
    running_model in_float;
    AQ_TRY(in_float.start(model, model.source, {}, nullptr, run));
    for (const auto& w : windows) {
        forward_result result;
        AQ_TRY(in_float.forward(w, result));
        std::vector<float>& logs = logs_.emplace_back(w.size() * model.config.vocabulary);
        AQ_TRY(over(run.threads, w.size(), [&](std::size_t r) {
            const float* const logits = result.logits.row(r);
            const double sum = log_sum(logits, model.config.vocabulary);
            float* const out = logs.data() + r * model.config.vocabulary;
            std::transform(logits, logits + model.config.vocabulary, out, [sum](float x) { return log_probability(x, sum); });
            return status::ok;
        }));
    }
    windows_ = windows;
    run_ = run;
    run_.formats.float_weights = true;  // of those that are not packed
    model_ = &model;
    return status::ok;
}

status output_distance::of(const weight_source& weights, const activation_profile& profile, double& kl) {
    if (model_ == nullptr) return status::bad_argument;
    running_model quantized;
    AQ_TRY(quantized.start(*model_, weights, run_.formats, &profile, run_));
    double sum = 0.0;
    std::size_t count = 0;
    for (std::size_t w = 0; w < windows_.size(); ++w) {
        forward_result result;
        AQ_TRY(quantized.forward(windows_[w], result));
        rows_.resize(result.kept_count);
        AQ_TRY(over(run_.threads, rows_.size(), [&](std::size_t r) {
            rows_[r] = row_distance(result.logits.row(r), w, result.kept[r]);
            return status::ok;
        }));
        for (const double row : rows_) sum += row;
        count += rows_.size();
    }
    kl = sum / static_cast<double>(count);
    return status::ok;
}

double output_distance::row_distance(const float* logits, std::size_t window, std::size_t token) const {
    const std::size_t vocabulary = model_->config.vocabulary;
    const float* const expected = logs_[window].data() + token * vocabulary;
    const double shift = log_sum(logits, vocabulary);
    double sum = 0.0;
    for (std::size_t i = 0; i < vocabulary; ++i)
        sum += divergence(static_cast<double>(expected[i]), static_cast<double>(log_probability(logits[i], shift)));
    return sum;
}

std::size_t output_distance::bytes() const noexcept {
    std::size_t sum = 0;
    for (const auto& logs : logs_) sum += logs.size() * sizeof(float);
    return sum;
}

}  // namespace aq::example
