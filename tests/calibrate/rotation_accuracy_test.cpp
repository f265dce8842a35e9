// What rotations are worth, as perplexity: folded, online, both; weights to nearest. Tables: docs/rotation.md. Kernels give the same bits everywhere,
// so a bound leaves room for another text (a piece of it where is_slow()), not for chance.
#include <doctest/doctest.h>

#include <cstdio>

#include "calibrate/outlier_source.hpp"
#include "calibrate/rotated_weights.hpp"
#include "llama/embedded.hpp"
#include "models/load.hpp"
#include "support/model_case.hpp"
#include "support/skip.hpp"

using namespace aq_test;
using aq::example::rotation_choice;
using aq::models::loaded_model;

namespace {

struct way {
    const char* name;
    rotation_choice folded;
    bool is_middle_online, are_others_online;
};
constexpr way none{"none", {false, false}, false, false}, folded{"folded", {true, true}, false, false},
    folded_and_middle{"folded, middle online", {true, true}, true, false}, online{"all four online", {false, false}, true, true};

/// How much worse a rotation may be where it has nothing to repair. A piece of the text is too short for a fine bound.
double room() { return is_slow() ? 1.1 : 1.03; }

/// Of 4-bit weights and activations on 8192 bytes of the novel. The model's source is as before at the end.
double perplexity(loaded_model& model, const way& w) {
    using namespace aq::example;
    const settings s = serial_settings();
    const precision p = precision_of(4, 4);
    aq::model_options options = options_of(p, model.config);
    for (std::size_t i = 0; i < aq::site_count; ++i)
        options.sites[i].is_rotated = static_cast<aq::site>(i) == aq::site::mlp_middle ? w.is_middle_online : w.are_others_online;
    rotated_weights rotated(model.config, model.source, w.folded);
    const aq::weight_source original = model.source;
    model.source = rotated.source();
    any_model built;
    require(built.load(model, options, nullptr), model.name);
    model.source = original;
    any_session session;
    require(session.reset(built, choose(s), threads_of(s)), model.name);
    const token_list text = tokens_of(model, evaluation_text());
    const evaluation e =
        evaluate(session, is_slow() ? windows_of(model, text, 128, 1) : windows_of(model, text, 512, 16), model.name);
    if (doctest::getContextOptions()->success) std::printf("%-60s %-24s %9.4f\n", model.name.c_str(), w.name, e.perplexity());
    return e.perplexity();
}

std::filesystem::path profile_of(const std::string& name) {
    return std::filesystem::path(AQ_SHARED_DATA) / "actstats" / (name + ".act_scales.safetensors");
}

}  // namespace

TEST_CASE("accuracy of rotations: they cost nothing where there are no outlier channels") {
    loaded_model model = aq::example::embedded_model();
    const double plain = perplexity(model, none);
    CHECK(perplexity(model, folded) < room() * plain);
    CHECK(perplexity(model, folded_and_middle) < room() * plain);
    CHECK(perplexity(model, online) < room() * plain);
}

TEST_CASE("accuracy of rotations: online ones repair most of what outlier channels cost, whoever made them") {
    for (const char* profile : {"", "tinyllama-1.1b", "opt-1.3b"}) {
        const std::filesystem::path file = *profile == '\0' ? std::filesystem::path() : profile_of(profile);
        if (!file.empty() && !have(file)) continue;
        loaded_model model = aq::example::embedded_model();
        const double without = perplexity(model, none);
        const auto kept = aq::example::fold_outliers(model, file);
        const double with = perplexity(model, none);
        CAPTURE(model.name);
        CHECK(with > 1.05 * without);
        CHECK(perplexity(model, online) - without < 0.5 * (with - without));
        // The gains take the outliers with them when they are folded: this says nothing of a large model.
        CHECK(perplexity(model, folded) < with);
        CHECK(perplexity(model, folded_and_middle) < with);
    }
}

TEST_CASE("accuracy of rotations: ReLU's middle, half of which is 0, is better left alone") {
    loaded_model model = aq::models::load(std::filesystem::path(AQ_SOURCE_DIR) / "models" / "austen-opt");
    const double plain = perplexity(model, none);
    CHECK(perplexity(model, folded) < room() * plain);
    const double middle = perplexity(model, folded_and_middle), all = perplexity(model, online);
    if (is_slow()) return;
    CHECK(middle > plain);
    CHECK(all > plain);
    const std::filesystem::path file = profile_of("opt-1.3b");
    if (!have(file)) return;
    const auto kept = aq::example::fold_outliers(model, file);
    for (const way& w : {none, folded, folded_and_middle, online}) CHECK(perplexity(model, w) > 1.0);
}
