// What quantizing costs, as perplexity: what the project says of W4A8, TRIP and log2 attention, on real models. Tables and commands: docs/accuracy.md.
// Kernels give the same bits everywhere, so a bound leaves room for another text (a piece of it where is_slow()), not for chance.
#include <doctest/doctest.h>

#include <cmath>

#include "calibrate/outlier_source.hpp"
#include "llama/embedded.hpp"
#include "support/model_case.hpp"
#include "support/searched_profile.hpp"
#include "support/stories.hpp"

using namespace aq_test;
using aq::example::evaluation;
using aq::example::precision;
using aq::models::loaded_model;

namespace {

const precision w4 = precision_of(4, 16), w4a8 = precision_of(4, 8), w4a4 = precision_of(4, 4);
const precision trip = with_trip(w4a4, "token");

/// The 20 stories of golden.json; TRIP learns from 12 others.
model_case stories_of(const loaded_model& model) {
    return {model, story_windows(model, is_slow() ? 2 : 20), story_calibration(model, is_slow() ? 3 : 12)};
}

/// 2048 bytes of the novel that the embedded model has not seen; TRIP learns from 4096 of another chapter.
model_case novel_of(const loaded_model& model) {
    using namespace aq::example;
    token_list calibration = tokens_of(model, calibration_text());
    calibration.resize(is_slow() ? 128 : 4096);
    const token_list text = tokens_of(model, evaluation_text());
    return {model, is_slow() ? windows_of(model, text, 128, 1) : windows_of(model, text, model.config.max_length, 4),
            calibration};
}

/// The embedded model with outlier channels, the same function.
class embedded_with_outliers {
public:
    [[nodiscard]] const loaded_model& operator*() const { return model_; }

private:
    loaded_model model_ = aq::example::embedded_model();
    std::unique_ptr<aq::example::outlier_source> outliers_ = aq::example::fold_outliers(model_);
};

double perplexity_of_first(const evaluation& e, std::size_t windows) {
    double sum = 0.0, count = 0.0;
    for (std::size_t w = 0; w < windows; ++w) {
        for (const evaluation::score& s : e.windows[w]) sum += s.surprise, count += 1.0;
    }
    return std::exp(sum / count);
}

}  // namespace

TEST_CASE("accuracy on stories: 8-bit activations cost less than 1 %") {
    if (!have_stories()) return;
    for (const auto& path : story_models()) {
        const loaded_model loaded = aq::models::load(path);
        CAPTURE(loaded.name);
        const model_case stories = stories_of(loaded);
        CHECK(stories.perplexity(w4a8) < 1.01 * stories.perplexity(w4));
    }
}

TEST_CASE("accuracy on stories: 4-bit activations fail on outlier channels, and TRIP repairs them") {
    if (!have_stories()) return;
    const loaded_model loaded = aq::models::load(outlier_model);
    const model_case stories = stories_of(loaded);
    const double symmetric = stories.perplexity(w4a4, low_bits::symmetric), uniform = stories.perplexity(w4a4);
    CHECK(symmetric > 30.0);
    CHECK(uniform > 12.0);
    CHECK(stories.perplexity(trip) < 9.0);
    CHECK(stories.perplexity(with_trip(w4a4, "static")) < 0.8 * uniform);  // the paper's form: one scale for all tokens
}

TEST_CASE("accuracy on stories: TRIP by the paper's search costs up to 20 % where there are no outlier channels") {
    if (!have_stories()) return;
    const loaded_model loaded = aq::models::load(plain_model);
    const model_case stories = stories_of(loaded);
    CHECK(stories.perplexity(trip) < 1.2 * stories.perplexity(w4a4));
}

TEST_CASE(
    "accuracy on stories: codings searched by the outputs' error beat the uniform quantizer and the paper's exponents, outliers "
    "or not") {
    if (!have_stories()) return;
    for (const auto& path : story_models()) {
        const loaded_model loaded = aq::models::load(path);
        CAPTURE(loaded.name);
        const bool has_outliers = path == outlier_model;
        const model_case stories = stories_of(loaded);
        const observed_sites sites(loaded, w4a4, stories.calibration());
        aq::activation_search_settings settings;
        std::vector<aq::searched_activations> found;
        const double searched = stories.evaluate(w4a4, sites.search(settings, &found), "searched").perplexity();
        CHECK(searched < 0.98 * stories.perplexity(w4a4));
        CHECK(searched < 0.9 * stories.perplexity(trip));
        if (doctest::getContextOptions()->success) {
            for (const aq::searched_activations& f : found)
                std::printf("K %d, clip %.1f, %.1f dB\n", f.best.top_exponent, static_cast<double>(f.best.format.clip),
                            f.signal_to_noise_db());
        }
        settings.is_static = true;
        const double in_static = stories.evaluate(w4a4, sites.search(settings), "searched static").perplexity();
        CHECK(in_static < (has_outliers ? 0.95 : 1.05) * stories.perplexity(with_trip(w4a4, "static")));
    }
}

TEST_CASE("accuracy on stories: log2 attention costs less than 2 % in the paper's form, less than 0.5 % in ours") {
    if (!have_stories()) return;
    // Perplexity over 8 stories by an independent model, float cache. It knows the forms over a ceiling too, but takes that of a running maximum.
    const struct {
        const char* name;
        double most, independent;
    } codings[] = {{"log2-paper", 0.02, 3.7254}, {"log2-normalized", 0.01, 3.7007},    {"log2-maximum", 0.005, 3.6993},
                   {"log2-ceiling", 0.005, 0.0}, {"log2-half-maximum", 0.005, 3.6933}, {"log2-half-ceiling", 0.005, 0.0}};
    const loaded_model loaded = aq::models::load(plain_model);
    const model_case stories = stories_of(loaded);
    for (const int kv_bits : {32, 8}) {
        CAPTURE(kv_bits);
        const precision in_float = with_cache({}, kv_bits);
        const double softmax = stories.perplexity(in_float);
        for (const auto& coding : codings) {
            CAPTURE(std::string(coding.name));
            const evaluation e = stories.evaluate(with_attention(in_float, coding.name));
            CHECK(e.perplexity() < (1.0 + coding.most) * softmax);
            if (kv_bits == 32 && !is_slow() && coding.independent > 0.0) {
                CHECK(std::fabs(perplexity_of_first(e, 8) - coding.independent) < 3e-4);
            }
        }
    }
}

TEST_CASE("accuracy on stories: log2 attention after TRIP costs less than 12 %") {
    if (!have_stories()) return;
    for (const auto& path : story_models()) {
        const loaded_model loaded = aq::models::load(path);
        CAPTURE(loaded.name);
        const model_case stories = stories_of(loaded);
        const double softmax = stories.perplexity(trip);
        CHECK(stories.perplexity(with_attention(trip, "log2-paper")) < 1.12 * softmax);
        CHECK(stories.perplexity(with_attention(trip, "log2-half-ceiling")) < 1.12 * softmax);
    }
}

TEST_CASE("accuracy on the embedded model: 8-bit activations, 8-bit cache, log2 attention and TRIP are cheap") {
    const loaded_model loaded = aq::example::embedded_model();
    const model_case novel = novel_of(loaded);
    CHECK(novel.perplexity(w4a8) < 1.01 * novel.perplexity(w4));
    CHECK(novel.perplexity(trip) < 1.05 * novel.perplexity(w4a4));
    const double softmax = novel.perplexity({});
    for (const int kv_bits : {32, 8}) {
        CAPTURE(kv_bits);
        const precision in_float = with_cache({}, kv_bits);
        if (kv_bits == 8) CHECK(novel.perplexity(in_float) < 1.005 * softmax);
        CHECK(novel.perplexity(with_attention(in_float, "log2-paper")) < 1.04 * softmax);
        CHECK(novel.perplexity(with_attention(in_float, "log2-half-ceiling")) < 1.01 * softmax);
    }
}

TEST_CASE("accuracy on the embedded model with outlier channels: TRIP repairs most of what 4-bit activations lose") {
    const embedded_with_outliers loaded;
    const model_case novel = novel_of(*loaded);
    const double in_float = novel.perplexity(w4), uniform = novel.perplexity(w4a4);
    CHECK(novel.perplexity(w4a8) < 1.02 * in_float);
    CHECK(uniform > 1.5 * in_float);
    CHECK(novel.perplexity(w4a4, low_bits::symmetric) > 1.5 * in_float);
    const double repaired = novel.perplexity(trip);
    CHECK(repaired - in_float < 0.25 * (uniform - in_float));
    CHECK(novel.perplexity(with_trip(w4a4, "static")) - in_float < 0.6 * (uniform - in_float));
    CHECK(novel.perplexity(with_attention(trip, "log2-half-ceiling")) < 1.12 * repaired);
}
