// The model in float against an independent implementation: greedy tokens, logits and perplexity of ../shared/data/llama/golden.json.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "support/model_case.hpp"
#include "support/stories.hpp"

using namespace aq_test;
using aq::example::token_list;

namespace {

const std::filesystem::path golden_file = shared_llama / "golden.json";

bool have_golden() { return have_stories() && have(golden_file); }

nlohmann::json golden_of(const aq::models::loaded_model& model) {
    return nlohmann::json::parse(aq::example::read_file(golden_file.string())).at(model.name);
}

std::uint32_t likeliest(const aq::matrix_view<const float>& logits) {
    const float* const last = logits.row(logits.rows - 1);
    return static_cast<std::uint32_t>(std::max_element(last, last + logits.cols) - last);
}

}  // namespace

TEST_CASE("float model: greedy tokens and logits are those of golden.json") {
    if (!have_golden()) return;
    for (const auto& path : {plain_model, outlier_model}) {
        const aq::models::loaded_model loaded = aq::models::load(path);
        CAPTURE(loaded.name);
        const auto golden = golden_of(loaded);
        const auto prompt = golden.at("prompt_ids").get<token_list>();
        const auto expected = golden.at("greedy_64_ids").get<token_list>();
        const auto logits = golden.at("last_logits_f32").get<std::vector<float>>();  // of the prompt

        aq::llama model;
        REQUIRE(model.load(loaded.config, aq::model_options(), loaded.source) == aq::status::ok);
        aq::llama_session session;
        REQUIRE(session.reset(model, aq::example::choose(serial_settings()), aq::serial_executor()) == aq::status::ok);
        aq::forward_result result;
        REQUIRE(session.forward(prompt.data(), prompt.size(), aq::logits_of::last, result) == aq::status::ok);
        REQUIRE(result.logits.cols == logits.size());
        float error = 0.0F;
        for (std::size_t i = 0; i < logits.size(); ++i) error = std::max(error, std::fabs(result.logits.row(0)[i] - logits[i]));
        CHECK(error < 1e-4F);
        token_list ids{likeliest(result.logits)};
        while (ids.size() < expected.size()) {
            REQUIRE(session.forward(&ids.back(), 1, aq::logits_of::last, result) == aq::status::ok);
            ids.push_back(likeliest(result.logits));
        }
        CHECK(ids == expected);
    }
}

TEST_CASE("float model: perplexity over the 20 stories is that of golden.json") {
    if (!have_golden()) return;
    for (const auto& path : story_models()) {
        const aq::models::loaded_model loaded = aq::models::load(path);
        CAPTURE(loaded.name);
        const auto golden = golden_of(loaded).at("nll_20stories_384tok");
        const model_case stories(loaded, story_windows(loaded, 20), {});
        const aq::example::evaluation e = stories.evaluate({});
        CHECK(e.scored() == golden.at("tokens").get<std::size_t>());
        CHECK(e.perplexity() == doctest::Approx(golden.at("ppl").get<double>()).epsilon(1e-6));
        CHECK(std::round(1e4 * e.perplexity()) == 35805.0);
    }
}
