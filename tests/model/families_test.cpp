// OPT and BLOOM: against plain implementations in double, with the same bits everywhere, pruned, and loaded from sources that fail.
#include <doctest/doctest.h>

#include <cmath>
#include <map>

#include "agilequant/prune/schedule.hpp"
#include "model/plain_families.hpp"
#include "model/threads.hpp"
#include "support/gemm_case.hpp"

using aq::status;
using aq::weight_id;
using namespace aq_test;

namespace {

/// What the tests need to know of a family beside its trait: the weights that it reads, and its plain implementation.
struct opt_case {
    using family = aq::opt_family;
    template <class T>
    using plain = plain_opt<T>;
    static bool reads(weight_id id) {
        return id != weight_id::gate && id != weight_id::embedding_norm && id != weight_id::embedding_norm_bias;
    }
};
struct bloom_case {
    using family = aq::bloom_family;
    template <class T>
    using plain = plain_bloom<T>;
    static bool reads(weight_id id) { return id != weight_id::gate && id != weight_id::positions; }
};

std::vector<aq::model_options> formats() {
    aq::model_options mixed = tiny_options(4, 8, 8, aq::probability_coding::log2_half_ceiling);
    mixed.sites[1].is_float = true;
    mixed.sites[3].activations.bits = 5;
    mixed.rotates_keys = true;
    return {tiny_options(16, 16),
            tiny_options(4, 16, 8),
            tiny_options(8, 8, 8, aq::probability_coding::log2_ceiling),
            mixed,
            tiny_options(4, 4, 4, aq::probability_coding::log2_paper),
            tiny_options(2, 4, 32, aq::probability_coding::log2_maximum)};
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
    double error = 0.0, size = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        error += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2.0);
        size += std::pow(static_cast<double>(b[i]), 2.0);
    }
    return error / size;
}

/// A source that counts what is read and may add 1 to the last number of one weight.
struct changed_source {
    tiny_weights weights{tiny_seed};
    weight_id changed = weight_id::embedding;
    std::size_t changed_layer = static_cast<std::size_t>(-1);
    std::map<weight_id, std::size_t> reads;

    static status read(void* self, weight_id id, std::size_t layer, aq::matrix_view<float> out) {
        auto& s = *static_cast<changed_source*>(self);
        ++s.reads[id];
        const aq::weight_source inner = s.weights.source();
        AQ_TRY(inner.read(inner.self, id, layer, out));
        if (id == s.changed && layer == s.changed_layer) out.row(out.rows - 1)[out.cols - 1] += 1.0F;
        return status::ok;
    }
};

}  // namespace

TEST_CASE_TEMPLATE("families: in float the logits of a plain implementation in double, as near as plain float comes", F, opt_case,
                   bloom_case) {
    for (const aq::model_config& c : tiny_configs()) {
        CAPTURE(text(c));
        tiny_weights weights(tiny_seed);
        typename F::template plain<double> in_double(c, weights.source());
        typename F::template plain<float> in_float(c, weights.source());
        const token_list tokens = tiny_tokens(c, c.max_length);
        const auto model = tiny_model<typename F::family>(c);
        auto session = session_of(model);
        float_error(forward(session, tokens).logits, in_float.forward(tokens), in_double.forward(tokens));
    }
}

TEST_CASE_TEMPLATE("families: each reads its weights, each once, and another number in any changes the logits", F, opt_case,
                   bloom_case) {
    aq::model_config c = tiny_configs()[0];
    token_list tokens = tiny_tokens(c, c.max_length);  // the last position is one of the learned
    tokens[3] = static_cast<std::uint32_t>(c.vocabulary - 1);
    aq::transformer<typename F::family> model;
    changed_source same;
    REQUIRE(model.load(c, {}, {&same, changed_source::read}) == status::ok);
    auto session = session_of(model);
    const std::vector<float> expected = forward(session, tokens).logits;
    for (std::size_t i = 0; i < aq::weight_count; ++i) {
        const auto id = static_cast<weight_id>(i);
        CAPTURE(i);
        CHECK(same.reads[id] == (!F::reads(id) ? 0 : aq::is_of_layer(id) ? c.layers : 1));
        if (id == weight_id::k_bias) continue;  // adds the same to all scores of a query: softmax does not see it
        for (std::size_t layer = 0; F::reads(id) && layer < (aq::is_of_layer(id) ? c.layers : 1); ++layer) {
            CAPTURE(layer);
            changed_source source;
            source.changed = id;
            source.changed_layer = layer;
            REQUIRE(model.load(c, {}, {&source, changed_source::read}) == status::ok);
            auto changed = session_of(model);
            CHECK_FALSE(is_same(forward(changed, tokens).logits, expected));
        }
    }
}

TEST_CASE_TEMPLATE("families: the same bits at once and token by token, on every instruction set, by any threads", F, opt_case,
                   bloom_case) {
    const std::vector<named_executor> executors = all_executors(4);
    const aq::kernel_table& scalar = *aq::isa_entries[0].kernels;
    for (const aq::model_config& c : {tiny_configs()[0], tiny_configs()[1]}) {  // one with heads that are no power of two
        const token_list tokens = tiny_tokens(c, 17);
        for (const aq::model_options& o : formats()) {
            CAPTURE(o.weights.bits);
            CAPTURE(o.kv_bits);
            const auto model = tiny_model<typename F::family>(c, o);
            auto session = session_of(model, aq::serial_executor(), 0, scalar);
            const std::vector<float> expected = forward(session, tokens).logits;
            bool is_finite = true;
            for (const float v : expected) is_finite = is_finite && std::isfinite(v);
            CHECK(is_finite);
            for (const aq::kernel_table* kernels : runnable_kernels()) {
                CAPTURE(std::string(kernels->isa));
                auto at_once = session_of(model, aq::serial_executor(), 0, *kernels);
                auto in_steps = session_of(model, aq::serial_executor(), 0, *kernels);
                CHECK(is_same(forward(at_once, tokens).logits, expected));
                CHECK(is_same(run_in_steps(in_steps, tokens, 4), expected));
            }
            for (const named_executor& e : executors) {
                CAPTURE(e.name);
                auto threaded = session_of(model, e.threads);
                CHECK(is_same(forward(threaded, tokens).logits, expected));
            }
        }
    }
}

TEST_CASE_TEMPLATE("families: more bits are nearer to float, and TRIP is where channels differ", F, opt_case, bloom_case) {
    const aq::model_config c = tiny_configs()[0];
    const token_list tokens = tiny_tokens(c, 30);
    const auto reference = tiny_model<typename F::family>(c);
    auto session = session_of(reference);
    const std::vector<float> exact = forward(session, tokens).logits;
    const auto error = [&](int weights, int activations, bool trip) {
        aq::model_options o = tiny_options(weights, activations);
        const aq::activation_profile profile = tiny_profile<typename F::family>(c, o, tiny_tokens(c, 20, 99));
        const auto model = tiny_model<typename F::family>(c, o, trip ? &profile : nullptr);
        auto run = session_of(model);
        return distance(forward(run, tokens).logits, exact);
    };
    const double w8a8 = error(8, 8, false), w4a8 = error(4, 8, false), w8a4 = error(8, 4, false), trip = error(8, 4, true);
    CAPTURE(w8a8);
    CAPTURE(w4a8);
    CAPTURE(w8a4);
    CAPTURE(trip);
    CHECK(w8a8 > 0.0);
    CHECK(w8a8 < 0.01);
    CHECK(w8a8 < w4a8);
    CHECK(w8a8 * 10 < w8a4);
    CHECK(trip < w8a4);
}

TEST_CASE_TEMPLATE("families: pruned, the survivors and logits of the plain implementation in double, prompt and steps", F,
                   opt_case, bloom_case) {
    const aq::model_config c = tiny_config(37, 32, 44, 5, 4, 2, 64);
    const token_list tokens = tiny_tokens(c, 56), prompt = part_of(tokens, 0, 48);
    const std::vector<double> ratios{0.0, 0.25, 0.0, 0.5, 0.0};
    aq::model_options o;
    for (std::size_t layer = 0; layer < ratios.size(); ++layer) REQUIRE(o.pruning.add(layer, ratios[layer]) == status::ok);
    for (const std::uint64_t seed : {std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{3}}) {
        CAPTURE(seed);
        tiny_weights weights(seed);
        typename F::template plain<double> in_double(c, weights.source());
        typename F::template plain<float> in_float(c, weights.source());
        const auto model = tiny_model<typename F::family>(c, o, nullptr, seed);
        auto session = session_of(model);
        outcome_of_run run = forward(session, prompt);
        std::vector<double> expected = in_double.forward(prompt, ratios);
        std::vector<float> plain = in_float.forward(prompt, ratios);
        CHECK(run.kept == in_double.kept);
        CHECK(run.kept.size() == 18);
        float_error(run.logits, plain, expected);
        for (std::size_t layer = 0; layer < c.layers; ++layer) CHECK(session.cache(layer).length() == in_double.length(layer));
        run.logits.clear(), plain.clear(), expected.clear();
        for (std::size_t i = 48; i < 56; ++i) {  // a learned position is that of the sequence, whatever was dropped
            const token_list token = part_of(tokens, i, 1);
            for (const float v : forward(session, token).logits) run.logits.push_back(v);
            for (const float v : in_float.forward(token)) plain.push_back(v);
            for (const double v : in_double.forward(token)) expected.push_back(v);
        }
        float_error(run.logits, plain, expected);
    }
}

TEST_CASE_TEMPLATE("families: a source that fails, at any weight, is what load answers, and leaves an empty model", F, opt_case,
                   bloom_case) {
    const aq::model_config c = tiny_configs()[2];
    std::size_t reads = 0;
    for (std::size_t i = 0; i < aq::weight_count; ++i) {
        const auto id = static_cast<weight_id>(i);
        if (F::reads(id)) reads += aq::is_of_layer(id) ? c.layers : 1;
    }
    aq::transformer<typename F::family> model;
    for (std::size_t n = 0; n <= reads; ++n) {
        tiny_weights weights(1);
        weights.fail_from(n);
        CHECK(model.load(c, tiny_options(4, 8), weights.source()) == (n < reads ? status::source_failed : status::ok));
        CHECK(weights.reads() == (n < reads ? n + 1 : n));
        CHECK(model.is_empty() == (n < reads));
        CHECK((model.bytes() == 0) == (n < reads));
    }
}

TEST_CASE("families: bytes are those of everything that was learned") {
    const aq::model_config c = tiny_configs()[0];
    const std::size_t matrices = 32 * 32 * 2 + 16 * 32 * 2 + 172 * 32 * 2, vectors = 32 * 7 + 16 * 2 + 172;
    const auto opt = tiny_model<aq::opt_family>(c);
    const auto bloom = tiny_model<aq::bloom_family>(c);
    CHECK(opt.block_bytes() == 3 * 4 * (matrices + vectors));
    CHECK(bloom.block_bytes() == opt.block_bytes());
    CHECK(opt.bytes() == opt.block_bytes() + 4 * (2 * 37 * 32 + 2 * 32 + 40 * 32));
    CHECK(bloom.bytes() == bloom.block_bytes() + 4 * (2 * 37 * 32 + 4 * 32));
}
