// The trained OPT and BLOOM in models/: logits beside those of numpy, and what they make of a novel that they have not seen.
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "llama/embedded.hpp"
#include "models/load.hpp"
#include "support/model_case.hpp"

using namespace aq_test;
using aq::models::loaded_model;

namespace {

struct trained {
    const char* name;
    std::vector<float> logits;  ///< tests/models/logits.py models/<name> "It is a truth"
};
const trained all[] = {
    {"austen-opt", {-1.7679692F, 9.0766371F, -7.1835382F, -6.5609008F, -6.5918371F, -6.7409031F, -6.8115441F, -6.9001735F}},
    {"austen-bloom", {-3.9099216F, 8.3150445F, -9.2194448F, -9.1228145F, -9.2351882F, -9.4636344F, -8.7096675F, -8.9685713F}},
};

loaded_model load(const trained& t) { return aq::models::load(std::string(AQ_SOURCE_DIR) + "/models/" + t.name); }

}  // namespace

TEST_CASE("trained: the logits of another implementation") {
    for (const trained& t : all) {
        CAPTURE(std::string(t.name));
        const loaded_model loaded = load(t);
        aq::example::any_model model;
        REQUIRE(model.load(loaded, {}) == aq::status::ok);
        aq::example::any_session session;
        REQUIRE(session.reset(model, aq::example::choose(serial_settings()), aq::serial_executor()) == aq::status::ok);
        aq::example::token_list tokens = aq::example::start_of(loaded);
        for (const std::uint32_t token : aq::example::tokens_of(loaded, "It is a truth")) tokens.push_back(token);
        aq::forward_result result;
        REQUIRE(session.forward(tokens.data(), tokens.size(), aq::logits_of::last, result) == aq::status::ok);
        REQUIRE(t.logits.size() == 8);
        for (std::size_t i = 0; i < 8; ++i) CHECK(result.logits.data[32 * i] == doctest::Approx(t.logits[i]).epsilon(1e-4));
    }
}

TEST_CASE("trained: perplexity of a novel that they have not seen, in float, in low bits and pruned") {
    const std::string text(aq::example::evaluation_text().substr(4096));  // behind a list of names and years
    for (const trained& t : all) {
        CAPTURE(std::string(t.name));
        const loaded_model loaded = load(t);
        const auto windows = aq::example::windows_of(loaded, aq::example::tokens_of(loaded, text), is_slow() ? 128 : 512, 2);
        const aq::example::token_list calibration =
            aq::example::tokens_of(loaded, aq::example::calibration_text().substr(0, is_slow() ? 128 : 2048));
        const model_case c(loaded, windows, calibration);
        const double exact = c.perplexity(precision_of(16, 16)), w8a8 = c.perplexity(precision_of(8, 8)),
                     w4a8 = c.perplexity(with_cache(with_attention(precision_of(4, 8), "log2-half-ceiling"), 8)),
                     w4a4 = c.perplexity(precision_of(4, 4)), trip = c.perplexity(with_trip(precision_of(4, 4), "token"));
        CAPTURE(exact);
        CAPTURE(w8a8);
        CAPTURE(w4a8);
        CAPTURE(w4a4);
        CAPTURE(trip);
        CHECK(exact < 5.0);  // a byte: guessing is 256
        CHECK(std::abs(w8a8 / exact - 1) < 0.02);
        CHECK(w4a8 / exact < 1.1);
        CHECK(trip < 2 * exact);
    }
}
