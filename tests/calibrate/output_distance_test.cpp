// The mean divergence of a model's predictions, against plain sums over its logits.
#include "calibrate/output_distance.hpp"

#include <doctest/doctest.h>

#include "model/threads.hpp"
#include "support/tiny_divergence.hpp"

using aq::status;
using aq::example::output_distance;
using namespace aq_test;

namespace {

/// Weights that are 0 where a test wants a vocabulary of which nothing is known, or infinite.
struct spoiled_source {
    tiny_weights weights{tiny_seed};
    float head = 0.0F;

    [[nodiscard]] aq::weight_source source() { return {this, read, nullptr}; }
    static aq::status read(void* self, aq::weight_id id, std::size_t layer, aq::matrix_view<float> out) {
        auto& s = *static_cast<spoiled_source*>(self);
        AQ_TRY(s.weights.source().read(&s.weights, id, layer, out));
        for (std::size_t r = 0; id == aq::weight_id::head && r < out.rows; ++r)
            std::fill(out.row(r), out.row(r) + out.cols, s.head);
        return status::ok;
    }
};

/// Formats that a quantized model runs with: caches, attention, pruning.
std::vector<aq::model_options> run_formats() {
    aq::model_options plain, other, pruned;
    other.kv_bits = 8;
    other.coding = aq::probability_coding::log2_ceiling;
    pruned.kv_bits = 4;
    REQUIRE(pruned.pruning.add(0, 0.3) == status::ok);
    return {plain, other, pruned};
}

}  // namespace

TEST_CASE_TEMPLATE("output distance: the plain divergence of a quantized model, on the positions that are left", F, llama_kind,
                   opt_kind, bloom_kind) {
    for (const aq::model_config& c : tiny_configs()) {
        CAPTURE(text(c));
        const auto windows = tiny_windows(c);
        for (const aq::model_options& formats : run_formats()) {
            tiny_weights weights(tiny_seed);
            const aq::models::loaded_model model = tiny_loaded<F>(c, weights);
            output_distance distance;
            REQUIRE(distance.begin(model, windows, tiny_run(formats)) == status::ok);
            CHECK(distance.model() == &model);
            CHECK(distance.bytes() == (windows[0].size() + windows[1].size()) * c.vocabulary * sizeof(float));
            tiny_weights others(tiny_seed + 1);  // another model altogether, and one that is a little off
            aq::activation_profile profile;
            REQUIRE(profile.reset(c) == status::ok);
            for (const aq::weight_source& source : {others.source(), weights.source()}) {
                double kl = -1.0;
                REQUIRE(distance.of(source, profile, kl) == status::ok);
                const plain_divergence plain = divergence_of<F>(c, windows, formats, source, nullptr);
                CAPTURE(kl);
                CAPTURE(plain.mean());
                CHECK(std::fabs(kl - plain.mean()) <= plain.tolerance());
                CHECK(kl >= 0.0);
            }
        }
    }
}

TEST_CASE("output distance: exactly none from itself, the same bits with any number of threads, sharp even where it is tiny") {
    const aq::model_config c = tiny_configs()[0];
    const auto windows = tiny_windows(c);
    tiny_weights weights(tiny_seed);
    const aq::models::loaded_model model = tiny_loaded<llama_kind>(c, weights);
    aq::activation_profile profile;
    REQUIRE(profile.reset(c) == status::ok);
    aq::model_options formats;
    std::vector<double> found;
    for (const named_executor& e : all_executors(3)) {
        CAPTURE(e.name);
        output_distance distance;
        formats.kv_bits = 32;
        REQUIRE(distance.begin(model, windows, tiny_run(formats, e.threads)) == status::ok);
        double kl = -1.0;
        REQUIRE(distance.of(model.source, profile, kl) == status::ok);
        CHECK(kl == 0.0);
        formats.kv_bits = 8;
        REQUIRE(distance.begin(model, windows, tiny_run(formats, e.threads)) == status::ok);
        REQUIRE(distance.of(model.source, profile, kl) == status::ok);
        found.push_back(kl);
        CHECK(kl == found[0]);
    }
    CHECK(found[0] > 0.0);
    CHECK(found[0] < 1e-2);  // an 8-bit cache
}

TEST_CASE("output distance: a model that knows nothing is off by what the float model knows; one that has no numbers by NaN") {
    const aq::model_config c = tiny_configs()[1];
    const auto windows = tiny_windows(c);
    tiny_weights weights(tiny_seed);
    const aq::models::loaded_model model = tiny_loaded<llama_kind>(c, weights);
    aq::activation_profile profile;
    REQUIRE(profile.reset(c) == status::ok);
    output_distance distance;
    REQUIRE(distance.begin(model, windows, tiny_run()) == status::ok);
    spoiled_source spoiled;
    double kl = -1.0, knows = 0.0;
    REQUIRE(distance.of(spoiled.source(), profile, kl) == status::ok);
    // log(vocabulary) less the entropy of the float model.
    const aq::llama in_float = tiny_model(c);
    std::size_t positions = 0;
    for (const token_list& w : windows) {
        auto session = session_of(in_float);
        const outcome_of_run o = forward(session, w);
        for (std::size_t r = 0; r < w.size(); ++r, ++positions) {
            double sum = 0.0, weighted = 0.0;
            for (std::size_t i = 0; i < c.vocabulary; ++i) {
                const double x = static_cast<double>(o.logits[r * c.vocabulary + i]);
                sum += std::exp(x);
                weighted += std::exp(x) * x;
            }
            knows += std::log(static_cast<double>(c.vocabulary)) - (std::log(sum) - weighted / sum);
        }
    }
    CHECK(kl == doctest::Approx(knows / static_cast<double>(positions)).epsilon(1e-5));
    spoiled.head = std::numeric_limits<float>::infinity();
    REQUIRE(distance.of(spoiled.source(), profile, kl) == status::ok);
    CHECK(std::isnan(kl));
}

TEST_CASE("output distance: what it refuses") {
    const aq::model_config c = tiny_configs()[2];
    tiny_weights weights(tiny_seed);
    const aq::models::loaded_model model = tiny_loaded<llama_kind>(c, weights);
    const auto windows = tiny_windows(c);
    output_distance distance;
    aq::activation_profile profile, other;
    REQUIRE(profile.reset(c) == status::ok);
    REQUIRE(other.reset(tiny_configs()[0]) == status::ok);
    double kl = 0.0;
    CHECK(distance.of(model.source, profile, kl) == status::bad_argument);
    aq::example::walk_options no_kernels;
    CHECK(distance.begin(model, windows, no_kernels) == status::bad_argument);
    CHECK(distance.begin(model, {}, tiny_run()) == status::bad_argument);
    CHECK(distance.begin(model, {windows[0], {}}, tiny_run()) == status::bad_argument);
    CHECK(distance.begin(model, {token_list(c.max_length + 1, 0)}, tiny_run()) == status::bad_argument);
    CHECK(distance.begin(model, {token_list(1, static_cast<std::uint32_t>(c.vocabulary))}, tiny_run()) == status::bad_argument);
    CHECK(distance.model() == nullptr);
    CHECK(distance.of(model.source, profile, kl) == status::bad_argument);
    REQUIRE(distance.begin(model, windows, tiny_run()) == status::ok);
    CHECK(distance.of(model.source, other, kl) == status::bad_shape);
    weights.fail_from(weights.reads());
    CHECK(distance.of(model.source, profile, kl) == status::source_failed);
    CHECK(distance.begin(model, windows, tiny_run()) == status::source_failed);
    CHECK(distance.model() == nullptr);
}
