// What GPTQ is worth on real models: the error of every layer, and perplexity with float activations.
#include "calibrate/gptq_weights.hpp"

#include <doctest/doctest.h>

#include <cstdio>
#include <string>

#include "llama/embedded.hpp"
#include "support/model_case.hpp"
#include "support/stories.hpp"

using namespace aq_test;
using aq::example::gptq_report;
using aq::example::gptq_weights;
using aq::models::loaded_model;

namespace {

constexpr const char* names[] = {"", "", "", "", "q", "k", "v", "o", "", "gate", "up", "down"};

double share(const aq::output_error& e) { return e.error / e.energy; }

void print(const std::string& model, const std::vector<gptq_report>& reports) {
    if (!doctest::getContextOptions()->success) return;
    for (const gptq_report& r : reports)
        std::printf("%-30s layer %zu %-4s  error / energy: nearest %.5f  gptq %.5f  (%.2f)\n", model.c_str(), r.layer,
                    names[static_cast<std::size_t>(r.id)], share(r.nearest), share(r.gptq), r.gptq.error / r.nearest.error);
}

/// Runs of at most the model's length.
std::vector<aq::example::token_list> cut(const loaded_model& model, const aq::example::token_list& tokens) {
    std::vector<aq::example::token_list> windows;
    for (std::size_t first = 0; first < tokens.size(); first += model.config.max_length) {
        const std::size_t last = std::min(tokens.size(), first + model.config.max_length);
        windows.emplace_back(tokens.begin() + static_cast<std::ptrdiff_t>(first),
                             tokens.begin() + static_cast<std::ptrdiff_t>(last));
    }
    return windows;
}

struct perplexities {
    double in_float, nearest, gptq;
};

/// GPTQ beats round-to-nearest in every layer's output, and in perplexity. Leaves the model with GPTQ's weights.
perplexities compare(loaded_model& model, gptq_weights& weights, const std::vector<aq::example::text_window>& texts,
                     const aq::example::token_list& calibration, const aq::gptq_settings& settings = {}) {
    const model_case before{model, texts, {}};
    perplexities p{before.perplexity({}), before.perplexity(precision_of(4, 16)), 0.0};
    std::vector<gptq_report> reports;
    aq::example::gptq_run run;
    run.format = {4, true, 32, aq::range_search::mean_square};
    run.settings = settings;
    run.kernels = &aq::example::choose(serial_settings());
    REQUIRE(weights.quantize(run, cut(model, calibration), reports) == aq::status::ok);
    CHECK(reports.size() == 7 * model.config.layers);
    print(model.name, reports);
    for (const gptq_report& r : reports) {
        CAPTURE(r.layer);
        CAPTURE(std::string(names[static_cast<std::size_t>(r.id)]));
        CHECK(r.gptq.error < r.nearest.error);
    }
    model.source = weights.source();
    model.name += " by GPTQ";
    p.gptq = model_case{model, texts, {}}.perplexity({});
    CHECK(p.gptq < p.nearest);
    return p;
}

}  // namespace

TEST_CASE("accuracy on stories: GPTQ's 4-bit weights cost at most two thirds of what rounding to nearest does") {
    if (!have_stories()) return;
    for (const auto& path : story_models()) {
        loaded_model model = aq::models::load(path);
        CAPTURE(model.name);
        gptq_weights weights(model.config, model.source);
        const perplexities p =
            compare(model, weights, story_windows(model, is_slow() ? 2 : 20), story_calibration(model, is_slow() ? 3 : 12));
        CHECK(p.gptq - p.in_float < 0.67 * (p.nearest - p.in_float));
    }
}

TEST_CASE("accuracy on the embedded model: GPTQ's 4-bit weights cost at most 3 %") {
    using namespace aq::example;
    loaded_model model = embedded_model();
    gptq_weights weights(model.config, model.source);
    const token_list text = tokens_of(model, evaluation_text());
    token_list calibration = tokens_of(model, calibration_text());
    calibration.resize(is_slow() ? 128 : 4096);
    const perplexities p =
        compare(model, weights, is_slow() ? windows_of(model, text, 128, 1) : windows_of(model, text, model.config.max_length, 8),
                calibration);
    CHECK(p.gptq < 1.03 * p.in_float);
}
