// Whole models of a few thousand weights: against a plain implementation in double, and in every combination of formats.
#include "agilequant/model/transformer.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "agilequant/kernels/reference.hpp"
#include "model/plain_llama.hpp"
#include "model/threads.hpp"
#include "support/gemm_case.hpp"

using aq::status;
using aq::weight_id;
using namespace aq_test;

namespace {

enum class trip_form { none, token, fixed };
constexpr const char* trip_names[] = {"none", "a scale for each token", "static"};

struct combination {
    int weight_bits, activation_bits, kv_bits;
    trip_form trip;
    aq::probability_coding coding;
};

std::vector<combination> combinations() {
    std::vector<combination> all;
    std::size_t next = 0;
    for (const int weights : {16, 8, 4, 2})
        for (const int activations : {16, 8, 4})
            for (const trip_form trip : {trip_form::none, trip_form::token, trip_form::fixed}) {
                constexpr int kv[] = {8, 4, 32};
                // the caches and codings, one after another
                all.push_back({weights, activations, kv[next % 3], trip, static_cast<aq::probability_coding>(next % 7)});
                ++next;
            }
    return all;
}

aq::llama model_of(const aq::model_config& c, const combination& f) {
    aq::model_options o = tiny_options(f.weight_bits, f.activation_bits, f.kv_bits, f.coding);
    for (aq::site_format& s : o.sites) {
        s.activations.is_static = f.trip == trip_form::fixed;
        s.activations.is_asymmetric = s.activations.is_asymmetric || f.trip != trip_form::none;
    }
    if (f.trip == trip_form::none) return tiny_model(c, o);
    const aq::activation_profile profile = tiny_profile(c, o, tiny_tokens(c, 20, 99));
    return tiny_model(c, o, &profile);
}

std::string text(const combination& f) {
    return "W" + std::to_string(f.weight_bits) + "A" + std::to_string(f.activation_bits) + " KV" + std::to_string(f.kv_bits) +
           " TRIP " + trip_names[static_cast<int>(f.trip)] + " coding " + std::to_string(static_cast<int>(f.coding));
}

/// Delivers the weights of another model's blocks as what their codes stand for, and everything else from the same seed.
struct dequantized_source {
    const aq::llama& model;
    tiny_weights rest;

    static status read(void* self, weight_id id, std::size_t layer, aq::matrix_view<float> out) {
        auto& s = *static_cast<dequantized_source*>(self);
        const aq::block<aq::llama_family>& b = s.model.block_at(layer);
        const aq::linear* l = nullptr;
        switch (id) {
            case weight_id::q: l = &b.attention.q; break;
            case weight_id::k: l = &b.attention.k; break;
            case weight_id::v: l = &b.attention.v; break;
            case weight_id::o: l = &b.attention.o; break;
            case weight_id::gate: l = &b.mlp.gate; break;
            case weight_id::up: l = &b.mlp.up; break;
            case weight_id::down: l = &b.mlp.down; break;
            default: return s.rest.source().read(s.rest.source().self, id, layer, out);
        }
        std::vector<double> w(out.rows * out.cols);
        aq::reference::dequantize(l->weights(), {w.data(), out.rows, out.cols});
        for (std::size_t i = 0; i < w.size(); ++i) out.row(i / out.cols)[i % out.cols] = static_cast<float>(w[i]);
        return status::ok;
    }
};

}  // namespace

TEST_CASE("float: the logits of a plain implementation in double, as near as plain float comes") {
    for (const aq::model_config& c : tiny_configs()) {
        CAPTURE(text(c));
        tiny_weights weights(tiny_seed);
        plain_llama<double> in_double(c, weights.source());
        plain_llama<float> in_float(c, weights.source());
        const token_list tokens = tiny_tokens(c, c.max_length);
        const aq::llama model = tiny_model(c);
        aq::llama_session session = session_of(model);
        float_error(forward(session, tokens).logits, in_float.forward(tokens), in_double.forward(tokens));
    }
}

TEST_CASE("every weight has its place: another number in any of them changes the logits") {
    const aq::model_config c = tiny_configs()[0];
    struct changed_source {
        tiny_weights weights{tiny_seed};
        weight_id id;
        std::size_t layer;
        static status read(void* self, weight_id id, std::size_t layer, aq::matrix_view<float> out) {
            auto& s = *static_cast<changed_source*>(self);
            const aq::weight_source inner = s.weights.source();
            AQ_TRY(inner.read(inner.self, id, layer, out));
            if (id == s.id && layer == s.layer) out.row(out.rows - 1)[out.cols - 1] += 1.0F;
            return status::ok;
        }
    };
    token_list tokens = tiny_tokens(c, 6);
    tokens[0] = static_cast<std::uint32_t>(c.vocabulary - 1);  // whose embedding is the one that changes
    const aq::llama same = tiny_model(c);
    aq::llama_session session = session_of(same);
    const std::vector<float> expected = forward(session, tokens).logits;
    for (int id = 0; id < 12; ++id)
        for (std::size_t layer = 0; layer < c.layers; ++layer) {
            const bool is_of_a_layer = id >= static_cast<int>(weight_id::attention_norm);
            if (!is_of_a_layer && layer > 0) continue;
            changed_source source;
            source.id = static_cast<weight_id>(id);
            source.layer = layer;
            aq::llama model;
            REQUIRE(model.load(c, {}, {&source, changed_source::read}) == status::ok);
            aq::llama_session changed = session_of(model);
            CAPTURE(id);
            CAPTURE(layer);
            CHECK_FALSE(is_same(forward(changed, tokens).logits, expected));
        }
}

TEST_CASE("every combination of weights, activations, TRIP, cache and coding: the same bits at once and token by token") {
    const aq::model_config c = tiny_configs()[0];
    const token_list tokens = tiny_tokens(c, 17);
    const aq::llama reference = tiny_model(c);
    aq::llama_session reference_session = session_of(reference);
    const std::vector<float> in_float = forward(reference_session, tokens).logits;
    for (const combination& f : combinations()) {
        CAPTURE(text(f));
        const aq::llama model = model_of(c, f);
        aq::llama_session at_once = session_of(model), in_steps = session_of(model), in_pieces = session_of(model);
        const std::vector<float> logits = forward(at_once, tokens).logits;
        CHECK(is_same(logits, run_in_steps(in_steps, tokens, 1)));
        CHECK(is_same(logits, run_in_steps(in_pieces, tokens, 5)));
        bool is_finite = true;
        for (const float v : logits) is_finite = is_finite && std::isfinite(v);
        CHECK(is_finite);
        const bool is_float = f.weight_bits == 16 && f.kv_bits == 32 && f.coding == aq::probability_coding::softmax;
        CHECK(is_same(logits, in_float) == is_float);
    }
}

TEST_CASE("every combination: the same bits on every instruction set and with 1 to 8 threads of any kind") {
    const std::vector<named_executor> executors = all_executors(8);
    const aq::model_config c = tiny_configs()[0];
    const token_list tokens = tiny_tokens(c, 9);
    const aq::kernel_table& scalar = *aq::isa_entries[0].kernels;
    std::size_t next = 0;
    for (const combination& f : combinations()) {
        CAPTURE(text(f));
        const aq::llama model = model_of(c, f);
        aq::llama_session session = session_of(model, aq::serial_executor(), 0, scalar);
        const std::vector<float> expected = forward(session, tokens).logits;
        for (const aq::kernel_table* kernels : runnable_kernels()) {
            CAPTURE(std::string(kernels->isa));
            aq::llama_session serial = session_of(model, aq::serial_executor(), 0, *kernels);
            CHECK(is_same(forward(serial, tokens).logits, expected));
            for (std::size_t i = 0; i < 3; ++i) {  // all of them come up over the combinations, and all at once below
                const named_executor& e = executors[next++ % executors.size()];
                CAPTURE(e.name);
                aq::llama_session threaded = session_of(model, e.threads, 0, *kernels);
                CHECK(is_same(forward(threaded, tokens).logits, expected));
            }
        }
    }
    for (const combination& f : {combination{16, 16, 32, trip_form::none, aq::probability_coding::softmax},
                                 combination{4, 8, 8, trip_form::token, aq::probability_coding::log2_half_ceiling}}) {
        const aq::llama model = model_of(c, f);
        aq::llama_session session = session_of(model, aq::serial_executor(), 0, scalar);
        const std::vector<float> expected = forward(session, tokens).logits;
        for (const named_executor& e : executors) {
            CAPTURE(e.name);
            aq::llama_session threaded = session_of(model, e.threads);
            CHECK(is_same(forward(threaded, tokens).logits, expected));
        }
    }
}

TEST_CASE("packed weights with float activations: the bits of a float model of the numbers that the codes stand for") {
    for (const aq::model_config& c : tiny_configs())
        for (const int bits : {2, 3, 4, 8}) {
            CAPTURE(text(c));
            CAPTURE(bits);
            const aq::llama packed = tiny_model(c, tiny_options(bits, 16));
            dequantized_source source{packed, tiny_weights(tiny_seed)};
            aq::llama plain;
            REQUIRE(plain.load(c, {}, {&source, dequantized_source::read}) == status::ok);
            aq::llama_session a = session_of(packed), b = session_of(plain);
            const token_list tokens = tiny_tokens(c, 7);
            CHECK(is_same(forward(a, tokens).logits, forward(b, tokens).logits));
        }
}

TEST_CASE("more bits are nearer to float; TRIP is nearer where channels differ") {
    const aq::model_config c = tiny_configs()[0];  // with its outlier channels
    const token_list tokens = tiny_tokens(c, 30);
    const aq::llama reference = tiny_model(c);
    aq::llama_session reference_session = session_of(reference);
    const std::vector<float> exact = forward(reference_session, tokens).logits;
    const auto distance = [&](const combination& f) {
        const aq::llama model = model_of(c, f);
        aq::llama_session session = session_of(model);
        const std::vector<float> logits = forward(session, tokens).logits;
        double error = 0.0, size = 0.0;
        for (std::size_t i = 0; i < logits.size(); ++i) {
            error += std::pow(static_cast<double>(logits[i]) - static_cast<double>(exact[i]), 2.0);
            size += std::pow(static_cast<double>(exact[i]), 2.0);
        }
        return error / size;
    };
    const auto of = [&](int weights, int activations, trip_form trip) {
        return distance({weights, activations, 32, trip, aq::probability_coding::softmax});
    };
    const double w8 = of(8, 16, trip_form::none), w4 = of(4, 16, trip_form::none), w2 = of(2, 16, trip_form::none);
    CAPTURE(w8);
    CAPTURE(w4);
    CAPTURE(w2);
    CHECK(w8 > 0.0);
    CHECK(w8 * 30 < w4);  // steps 17 times finer: up to 289 times less energy, until the error is as large as the logits
    CHECK(w4 < w2);
    const double a8 = of(8, 8, trip_form::none), a4 = of(8, 4, trip_form::none), trip = of(8, 4, trip_form::token);
    CAPTURE(a8);
    CAPTURE(a4);
    CAPTURE(trip);
    CHECK(w8 < a8);
    CHECK(a8 * 10 < a4);
    CHECK(trip * 2 < a4);
}

TEST_CASE("configs that are none are refused") {
    const aq::model_config good = tiny_configs()[0];
    REQUIRE(aq::validate(good) == status::ok);
    std::vector<aq::model_config> bad;
    for (std::size_t aq::model_config::*size :
         {&aq::model_config::vocabulary, &aq::model_config::dim, &aq::model_config::hidden, &aq::model_config::layers,
          &aq::model_config::heads, &aq::model_config::kv_heads, &aq::model_config::max_length}) {
        for (const std::size_t value :
             {std::size_t{0}, aq::max_model_size + 2, static_cast<std::size_t>(-1), std::size_t{1} << 63}) {
            bad.push_back(good);
            bad.back().*size = value;
        }
    }
    const auto add = [&](auto change) {
        bad.push_back(good);
        change(bad.back());
    };
    const float nan = std::numeric_limits<float>::quiet_NaN();
    add([](auto& c) { c.heads = 5; });
    add([](auto& c) { c.kv_heads = 3; });
    add([](auto& c) { c.kv_heads = 8; });
    add([](auto& c) { c.dim = 36; });       // heads of 9
    add([](auto& c) { c.dim = 4 * 258; });  // heads larger than the cache takes
    add([](auto& c) { c.max_length = aq::max_kv_length + 1; });
    add([](auto& c) { c.rope_theta = 0.0F; });
    add([nan](auto& c) { c.rope_theta = nan; });
    add([](auto& c) { c.norm_eps = -1.0F; });
    add([nan](auto& c) { c.norm_eps = nan; });
    for (const aq::model_config& c : bad) {
        CAPTURE(text(c));
        tiny_weights weights(1);
        aq::llama model;
        CHECK(aq::validate(c) == status::bad_argument);
        CHECK(model.load(c, {}, weights.source()) == status::bad_argument);
        CHECK(weights.reads() == 0);
        CHECK(model.is_empty());
    }
}

TEST_CASE("a source that fails, at any weight, is what load answers, and leaves an empty model") {
    const aq::model_config c = tiny_configs()[2];
    const std::size_t reads = 3 + c.layers * 9;
    aq::llama model;
    for (std::size_t n = 0; n < reads; ++n) {
        tiny_weights weights(1), whole(1);
        weights.fail_from(n);
        REQUIRE(model.load(c, tiny_options(4, 8), whole.source()) == status::ok);
        CHECK_FALSE(model.is_empty());
        CHECK(model.load(c, tiny_options(4, 8), weights.source()) == status::source_failed);
        CHECK(weights.reads() == n + 1);
        CHECK(model.is_empty());
        CHECK(model.bytes() == 0);
    }
    tiny_weights weights(1);
    weights.fail_from(reads);
    CHECK(model.load(c, {}, weights.source()) == status::ok);
    CHECK(weights.reads() == reads);
    CHECK(model.load(c, {}, {}) == status::null_pointer);
    CHECK(model.is_empty());
}

TEST_CASE("options that are none are refused") {
    const aq::model_config c = tiny_configs()[2];
    tiny_weights weights(1);
    aq::llama model;
    for (const int bits : {0, 1, 9, -3}) {
        aq::model_options o = tiny_options(4, 8);
        o.weights.bits = bits;
        CHECK(model.load(c, o, weights.source()) == status::unsupported_format);
        o = tiny_options(4, 8);
        o.sites[2].activations.bits = bits;
        CHECK(model.load(c, o, weights.source()) == status::bad_argument);
        CHECK(model.is_empty());
    }
    aq::model_options kv = tiny_options(4, 8);
    kv.kv_bits = 5;
    REQUIRE(model.load(c, kv, weights.source()) == status::ok);
    aq::llama_session session;
    CHECK(session.reset(model, chosen_kernels(), {}) == status::unsupported_format);
}

TEST_CASE("a profile has to be there for static scales, and be one of this model, with scales that are numbers") {
    const aq::model_config c = tiny_configs()[0];
    aq::model_options o = tiny_options(4, 4);
    for (aq::site_format& s : o.sites) s.activations.is_static = true;
    tiny_weights weights(1);
    aq::llama model;
    CHECK(model.load(c, o, weights.source()) == status::bad_argument);
    aq::activation_profile profile = tiny_profile(c, o, tiny_tokens(c, 10));
    CHECK(model.load(c, o, weights.source(), &profile) == status::ok);
    for (std::size_t aq::model_config::*size : {&aq::model_config::layers, &aq::model_config::dim, &aq::model_config::hidden}) {
        aq::model_config smaller = c;
        smaller.*size -= size == &aq::model_config::layers ? 1 : 16;
        aq::activation_profile other;
        REQUIRE(other.reset(smaller) == status::ok);
        CHECK_FALSE(other.fits(c));
        CHECK(model.load(c, o, weights.source(), &other) == status::bad_shape);
        CHECK(model.load(c, tiny_options(4, 4), weights.source(), &other) == status::bad_shape);
    }
    for (const float scale : {0.0F, -1.0F, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        aq::activation_profile broken = tiny_profile(c, o, tiny_tokens(c, 10));
        broken.format(2, aq::site::mlp_middle).activations.fixed.scale = scale;
        CHECK(model.load(c, o, weights.source(), &broken) == status::bad_argument);
    }
    profile.exponents(1, aq::site::mlp)[3] = 200;
    CHECK(model.load(c, o, weights.source(), &profile) == status::bad_argument);
    o.float_weights = true;  // exponents and scales have no meaning then
    CHECK(model.load(c, o, weights.source(), &profile) == status::ok);
}

TEST_CASE("a model counts its bytes, tells of its progress, moves, and loads itself again") {
    const aq::model_config c = tiny_configs()[0];
    struct progress {
        std::vector<std::size_t> done;
        static void loaded(void* self, std::size_t layers_done, std::size_t layers) {
            CHECK(layers == 3);
            static_cast<progress*>(self)->done.push_back(layers_done);
        }
    } seen;
    tiny_weights weights(tiny_seed);
    aq::llama model;
    REQUIRE(model.load(c, {}, weights.source(), nullptr, {&seen, progress::loaded}) == status::ok);
    CHECK(seen.done == std::vector<std::size_t>{1, 2, 3});
    const std::size_t matrices = 32 * 32 * 2 + 16 * 32 * 2 + 172 * 32 * 3;
    CHECK(model.block_bytes() == 3 * 4 * (matrices + 2 * 32));
    CHECK(model.bytes() == model.block_bytes() + 4 * (2 * 37 * 32 + 32));
    const std::size_t packed = tiny_model(c, tiny_options(4, 8)).block_bytes();
    CHECK(packed > 3 * matrices / 2);
    CHECK(packed < 3 * matrices);

    const token_list tokens = tiny_tokens(c, 5);
    aq::llama_session session = session_of(model);
    const std::vector<float> expected = forward(session, tokens).logits;
    aq::llama moved = std::move(model);
    aq::llama_session after = session_of(moved);
    CHECK(is_same(forward(after, tokens).logits, expected));
    REQUIRE(moved.load(moved.config(), moved.options(), weights.source()) == status::ok);
    aq::llama_session again = session_of(moved);
    CHECK(is_same(forward(again, tokens).logits, expected));
}
