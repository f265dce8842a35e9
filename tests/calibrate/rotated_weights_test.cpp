// Rotated models compute the same function, without the outlier channels.
#include "calibrate/rotated_weights.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>

#include "agilequant/model/bloom.hpp"
#include "agilequant/model/opt.hpp"
#include "llama/embedded.hpp"
#include "llama/runner.hpp"
#include "model/plain_families.hpp"
#include "model/plain_llama.hpp"

using aq::status;
using aq::weight_id;
using aq::example::rotated_weights;
using aq::example::rotation_choice;
using namespace aq_test;

namespace {

struct llama_case {
    using family = aq::llama_family;
    template <class T>
    using plain = plain_llama<T>;
};
struct opt_case {
    using family = aq::opt_family;
    template <class T>
    using plain = plain_opt<T>;
};
struct bloom_case {
    using family = aq::bloom_family;
    template <class T>
    using plain = plain_bloom<T>;
};

/// Blocks of 16 with 3, of 32 with 3, powers of two that are squares or not, 4 with 5; heads of 6 to 64, shared and not.
std::vector<aq::model_config> configs() {
    return {tiny_config(50, 48, 40, 2, 6, 1, 33, aq::rope_pairing::interleaved),
            tiny_config(37, 64, 172, 3, 4, 2, 24),
            tiny_config(31, 96, 64, 2, 3, 1, 20),
            tiny_config(31, 192, 80, 1, 3, 3, 16),
            tiny_config(29, 32, 28, 2, 4, 4, 20),
            tiny_config(17, 20, 7, 2, 2, 1, 24)};
}

template <class Family>
std::vector<rotation_choice> choices() {
    if (!aq::example::can_rotate_residual<Family>) return {{false, true}, {false, false}};
    return {{true, false}, {false, true}, {true, true}, {false, false}};
}

/// The weights of the tests, and one channel of one norm with a gain of `factor` times its own, which changes the function.
struct spiked_weights {
    tiny_weights weights{tiny_seed};
    weight_id spiked = weight_id::embedding_norm;
    float factor = 1.0F;

    static status read(void* self, weight_id id, std::size_t layer, aq::matrix_view<float> out) {
        auto& s = *static_cast<spiked_weights*>(self);
        const aq::weight_source inner = s.weights.source();
        AQ_TRY(inner.read(inner.self, id, layer, out));
        for (std::size_t r = 0; r < out.rows && id == s.spiked; ++r) out.row(r)[3] *= s.factor;
        return status::ok;
    }
    [[nodiscard]] aq::weight_source source() { return {this, read}; }
};

/// What a plain decoder may be given, which asks for the weights of all families: a norm of the embedding that nobody uses is delivered.
struct tolerant_source {
    aq::weight_source inner;
    static status read(void* self, weight_id id, std::size_t layer, aq::matrix_view<float> out) {
        const auto& s = *static_cast<const tolerant_source*>(self);
        const status result = s.inner.read(s.inner.self, id, layer, out);
        const bool is_refused = id == weight_id::embedding_norm || id == weight_id::embedding_norm_bias;
        return is_refused && result == status::bad_argument ? status::ok : result;
    }
    [[nodiscard]] aq::weight_source source() { return {this, read}; }
};

std::vector<float> values_of(const aq::weight_source& source, const aq::model_config& c, weight_id id, std::size_t layer = 0,
                             std::size_t gap = 0) {
    const aq::matrix_shape shape = aq::shape_of(c, id);
    matrix out(shape.rows, shape.cols, gap);
    REQUIRE(source.read(source.self, id, layer, out.view()) == status::ok);
    std::vector<float> values;
    for (std::size_t r = 0; r < shape.rows; ++r) values.insert(values.end(), out.view().row(r), out.view().row(r) + shape.cols);
    return values;
}

/// The largest |x| of a row over its root mean square, mean over the rows of all layers, for each site.
struct peaks {
    double sum[aq::site_count] = {}, count[aq::site_count] = {};
    static void see(void* self, std::size_t, aq::site where, aq::matrix_view<const float> x) {
        auto& p = *static_cast<peaks*>(self);
        for (std::size_t r = 0; r < x.rows; ++r) {
            double squares = 0.0, largest = 0.0;
            for (std::size_t c = 0; c < x.cols; ++c) {
                const double v = std::abs(static_cast<double>(x.row(r)[c]));
                squares += v * v;
                largest = std::max(largest, v);
            }
            if (squares == 0.0) continue;
            p.sum[static_cast<std::size_t>(where)] += largest / std::sqrt(squares / static_cast<double>(x.cols));
            p.count[static_cast<std::size_t>(where)] += 1.0;
        }
    }
    [[nodiscard]] double of(aq::site s) const { return sum[static_cast<std::size_t>(s)] / count[static_cast<std::size_t>(s)]; }
};

template <class Family>
peaks peaks_of(const aq::model_config& c, const aq::weight_source& source, const token_list& tokens) {
    aq::transformer<Family> model;
    REQUIRE(model.load(c, {}, source) == status::ok);
    auto session = session_of(model);
    peaks p;
    session.observe({&p, peaks::see});
    forward(session, tokens);
    return p;
}

}  // namespace

TEST_CASE_TEMPLATE(
    "rotated weights: the same logits in double but for the rounding of weights, and in float as near as plain float", F,
    llama_case, opt_case, bloom_case) {
    for (const aq::model_config& c : configs()) {
        CAPTURE(text(c));
        const token_list tokens = tiny_tokens(c, c.max_length);
        tiny_weights weights(tiny_seed);
        typename F::template plain<double> in_double(c, weights.source());
        typename F::template plain<float> in_float(c, weights.source());
        const std::vector<double> expected = in_double.forward(tokens);
        const std::vector<float> plain = in_float.forward(tokens);
        for (const rotation_choice choice : choices<typename F::family>()) {
            CAPTURE(choice.residual);
            CAPTURE(choice.heads);
            rotated_weights rotated(c, weights.source(), choice);
            tolerant_source tolerant{rotated.source()};
            typename F::template plain<double> turned(c, tolerant.source());
            const std::vector<double> logits = turned.forward(tokens);
            double error = 0.0, yardstick = 0.0;
            for (std::size_t i = 0; i < logits.size(); ++i) {
                error = std::max(error, std::abs(logits[i] - expected[i]));
                yardstick = std::max(yardstick, std::abs(static_cast<double>(plain[i]) - expected[i]));
            }
            CAPTURE(error);
            CAPTURE(yardstick);
            // Weights that are rounded once are less than weights exact and every sum rounded, in several places of a block, but of another kind.
            CHECK(error <= 2.0 * yardstick);
            aq::transformer<typename F::family> model;
            REQUIRE(model.load(c, {}, rotated.source()) == status::ok);
            auto session = session_of(model);
            float_error(forward(session, tokens).logits, plain, expected);
        }
    }
}

TEST_CASE("rotated weights: gains are 1 and biases 0, and what is not rotated is the inner source's") {
    const aq::model_config c = configs()[1];
    tiny_weights weights(tiny_seed);
    rotated_weights residual(c, weights.source(), {true, false}), heads(c, weights.source(), {false, true});
    for (const weight_id norm : {weight_id::attention_norm, weight_id::mlp_norm, weight_id::final_norm}) {
        CHECK(values_of(residual.source(), c, norm) == std::vector<float>(c.dim, 1.0F));
        CHECK(values_of(heads.source(), c, norm) == values_of(weights.source(), c, norm));
        CHECK(values_of(heads.source(), c, aq::bias_of(norm)) == values_of(weights.source(), c, aq::bias_of(norm)));
        if (norm == weight_id::final_norm) continue;  // the head has no bias that could take it in
        CHECK(values_of(residual.source(), c, aq::bias_of(norm)) == std::vector<float>(c.dim, 0.0F));
    }
    std::size_t same = 0;
    for (std::size_t i = 0; i < aq::weight_count; ++i) {
        const auto id = static_cast<weight_id>(i);
        same += values_of(heads.source(), c, id, 1) == values_of(weights.source(), c, id, 1) ? 1U : 0U;
    }
    CHECK(same == aq::weight_count - 3);  // v, its bias, o
}

TEST_CASE("rotated weights: the same bits at every reading, whatever the stride, and positions one by one") {
    const aq::model_config c = configs()[2];
    tiny_weights weights(tiny_seed);
    rotated_weights rotated(c, weights.source());
    const aq::weight_source source = rotated.source();
    for (std::size_t i = 0; i < aq::weight_count; ++i) {
        const auto id = static_cast<weight_id>(i);
        if (id == weight_id::embedding_norm || id == weight_id::embedding_norm_bias) continue;
        CHECK(is_same(values_of(source, c, id, 1), values_of(source, c, id, 1, 5)));
    }
    std::vector<float> first(c.dim * 2);
    REQUIRE(source.read(source.self, weight_id::positions, 0, {first.data(), 2, c.dim}) == status::ok);
    const std::vector<float> all = values_of(source, c, weight_id::positions);
    CHECK(is_same(first, {all.begin(), all.begin() + static_cast<std::ptrdiff_t>(2 * c.dim)}));
}

TEST_CASE("rotated weights: an outlier channel is spread, be it a norm's or the residual stream's") {
    // Of the gain nothing is left in front of the linear. One channel of a residual stream of 64 that is 50 times as large as the others: of a row's
    // root mean square m it has less than 8 m, of which every channel gets an eighth, and the others together have less than 1.3 m.
    const aq::model_config c = configs()[1];
    const token_list tokens = tiny_tokens(c, 20);
    for (const weight_id id : {weight_id::attention_norm, weight_id::mlp_norm, weight_id::embedding}) {
        spiked_weights weights;
        weights.spiked = id;
        weights.factor = 50.0F;
        rotated_weights rotated(c, weights.source());
        const auto check = [&](const peaks& before, const peaks& after) {
            for (const aq::site s : {aq::site::attention, aq::site::mlp}) {
                CAPTURE(static_cast<int>(id));
                CAPTURE(static_cast<int>(s));
                CHECK(after.of(s) < 3.2);
                CHECK(before.of(s) > 3.2);
                if ((id == weight_id::attention_norm) == (s == aq::site::attention)) CHECK(before.of(s) > 5.0);
            }
        };
        check(peaks_of<aq::llama_family>(c, weights.source(), tokens), peaks_of<aq::llama_family>(c, rotated.source(), tokens));
        check(peaks_of<aq::opt_family>(c, weights.source(), tokens), peaks_of<aq::opt_family>(c, rotated.source(), tokens));
    }
}

TEST_CASE("rotated weights: what cannot be rotated is refused, and what fails is passed on") {
    const aq::model_config c = configs()[5];
    tiny_weights weights(tiny_seed);
    rotated_weights rotated(c, weights.source()), heads(c, weights.source(), {false, true});
    aq::bloom bloom;
    CHECK(bloom.load(c, {}, rotated.source()) == status::bad_argument);
    CHECK(bloom.load(c, {}, heads.source()) == status::ok);
    CHECK_FALSE(aq::example::can_rotate_residual<aq::bloom_family>);
    CHECK(aq::example::can_rotate_residual<aq::opt_family>);

    spiked_weights zero;  // a gain of 0 in the final norm is lost with a bias, and is nothing without one
    zero.spiked = weight_id::final_norm;
    zero.factor = 0.0F;
    rotated_weights of_zero(c, zero.source());
    aq::opt opt;
    CHECK(opt.load(c, {}, of_zero.source()) == status::bad_argument);
    aq::llama llama;
    CHECK(llama.load(c, {}, of_zero.source()) == status::ok);

    matrix out(c.dim, c.dim + 1);
    CHECK(rotated.source().read(&rotated, weight_id::q, 0, out.view()) == status::bad_shape);
    CHECK(rotated.source().read(&rotated, weight_id::q, 0, {out.data.data(), c.dim, c.dim, c.dim - 1}) == status::bad_stride);
    CHECK(rotated.source().read(&rotated, weight_id::q, 0, {nullptr, c.dim, c.dim}) == status::null_pointer);
    rotated_weights of_nothing({}, weights.source());
    CHECK(of_nothing.source().read(&of_nothing, weight_id::q, 0, out.view()) == status::bad_argument);

    aq::opt last;
    std::size_t failures = 0;
    for (std::size_t n = 0; n < 1000; ++n, ++failures) {
        tiny_weights failing(1);
        failing.fail_from(n);
        rotated_weights r(c, failing.source());
        const status s = last.load(c, {}, r.source());
        if (s == status::ok) break;
        REQUIRE(s == status::source_failed);
    }
    CHECK(failures > 40);
    CHECK(failures < 1000);
}

TEST_CASE("rotated weights: what rotation leaves of the peaks of the embedded model") {
    const aq::models::loaded_model model = aq::example::embedded_model();
    aq::example::token_list tokens = aq::example::tokens_of(model, aq::example::evaluation_text());
    tokens.resize(64);
    rotated_weights rotated(model.config, model.source);
    const peaks before = peaks_of<aq::llama_family>(model.config, model.source, tokens),
                after = peaks_of<aq::llama_family>(model.config, rotated.source(), tokens);
    CHECK(after.of(aq::site::attention) < before.of(aq::site::attention));
    CHECK(after.of(aq::site::mlp) < before.of(aq::site::mlp));
    // The largest of 256 independent normal numbers is at 2.9 on average; rotated channels are about that.
    CHECK(after.of(aq::site::attention) < 3.3);
    CHECK(after.of(aq::site::mlp) < 3.3);
}
