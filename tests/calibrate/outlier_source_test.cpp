// Folded outliers leave the function, and multiply the activations of every site by what they should.
#include "calibrate/outlier_source.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "agilequant/model/bloom.hpp"
#include "agilequant/model/opt.hpp"
#include "llama/embedded.hpp"
#include "llama/runner.hpp"
#include "model/plain_families.hpp"
#include "model/plain_llama.hpp"
#include "models/files.hpp"
#include "support/skip.hpp"

using aq::site;
using aq::status;
using aq::weight_id;
using aq::example::fold_outliers;
using aq::example::outlier_factors;
using aq::example::outlier_source;
using namespace aq_test;

namespace {

struct llama_case {
    using family = aq::llama_family;
    template <class T>
    using plain = plain_llama<T>;
    static constexpr bool has_middle = true;
};
struct opt_case {
    using family = aq::opt_family;
    template <class T>
    using plain = plain_opt<T>;
    static constexpr bool has_middle = true;
};
struct bloom_case {
    using family = aq::bloom_family;
    template <class T>
    using plain = plain_bloom<T>;
    static constexpr bool has_middle = false;
};

enum class values { powers_of_two, any };

/// Factors of every site, from 1/2 to 32, or from 1/2 to 36 that are no powers of two.
outlier_factors random_factors(const aq::model_config& c, values kind, bool has_middle) {
    random_source random(83);
    outlier_factors factors;
    for (std::size_t layer = 0; layer < c.layers; ++layer) {
        auto& sites = factors.layers.emplace_back();
        for (std::size_t s = 0; s < aq::site_count; ++s) {
            const bool is_middle = static_cast<site>(s) == site::mlp_middle;
            if (is_middle && !has_middle) continue;
            sites[s].resize(is_middle ? c.hidden : static_cast<site>(s) == site::attention_output ? c.kv_dim() : c.dim);
            for (float& f : sites[s]) {
                f = std::ldexp(1.0F, static_cast<int>(random.below(7)) - 1);
                if (kind == values::any) f *= 1.0F + static_cast<float>(random.below(1000)) / 8000.0F;
            }
        }
    }
    return factors;
}

/// All that enters the sites, in the order in which they are computed, and the logits.
struct seen_activations {
    struct entry {
        std::size_t layer;
        site where;
        std::vector<float> x;
        std::size_t cols;
    };
    std::vector<entry> entries;
    std::vector<float> logits;

    static void see(void* self, std::size_t layer, site where, aq::matrix_view<const float> x) {
        entry e{layer, where, {}, x.cols};
        for (std::size_t r = 0; r < x.rows; ++r) e.x.insert(e.x.end(), x.row(r), x.row(r) + x.cols);
        static_cast<seen_activations*>(self)->entries.push_back(std::move(e));
    }
};

template <class Family>
seen_activations run(const aq::model_config& c, const aq::weight_source& source, const token_list& tokens) {
    aq::transformer<Family> model;
    REQUIRE(model.load(c, {}, source) == status::ok);
    auto session = session_of(model);
    seen_activations seen;
    session.observe({&seen, seen_activations::see});
    seen.logits = forward(session, tokens).logits;
    return seen;
}

/// What channel `col` of a site is multiplied by; where heads share values they share these.
float factor_of(const aq::model_config& c, const outlier_factors& factors, std::size_t layer, site where, std::size_t col) {
    const std::vector<float>& f = factors.at(layer, where);
    if (f.empty()) return 1.0F;
    if (where != site::attention_output) return f[col];
    const std::size_t head = col / c.head_dim(), shared = head * c.kv_heads / c.heads;
    return f[shared * c.head_dim() + col % c.head_dim()];
}

}  // namespace

TEST_CASE_TEMPLATE("folded outliers: powers of two give the same bits, and activations that are exactly so much larger", F,
                   llama_case, opt_case, bloom_case) {
    for (const aq::model_config& c : tiny_configs()) {
        CAPTURE(text(c));
        const token_list tokens = tiny_tokens(c, c.max_length);
        tiny_weights weights(tiny_seed);
        const outlier_factors factors = random_factors(c, values::powers_of_two, F::has_middle);
        outlier_source folded(c, weights.source(), factors);
        const seen_activations before = run<typename F::family>(c, weights.source(), tokens),
                               after = run<typename F::family>(c, folded.source(), tokens);
        CHECK(is_same(before.logits, after.logits));
        REQUIRE(before.entries.size() == c.layers * aq::site_count);
        REQUIRE(after.entries.size() == before.entries.size());
        for (std::size_t i = 0; i < before.entries.size(); ++i) {
            const auto &b = before.entries[i], &a = after.entries[i];
            CAPTURE(b.layer);
            CAPTURE(static_cast<int>(b.where));
            REQUIRE(a.x.size() == b.x.size());
            std::size_t wrong = 0;
            for (std::size_t k = 0; k < b.x.size(); ++k)
                wrong += a.x[k] == b.x[k] * factor_of(c, factors, b.layer, b.where, k % b.cols) ? 0U : 1U;
            CHECK(wrong == 0);
        }
    }
}

TEST_CASE_TEMPLATE("folded outliers: other factors change logits by the rounding of weights only", F, llama_case, opt_case,
                   bloom_case) {
    for (const aq::model_config& c : tiny_configs()) {
        CAPTURE(text(c));
        const token_list tokens = tiny_tokens(c, c.max_length);
        tiny_weights weights(tiny_seed);
        outlier_source folded(c, weights.source(), random_factors(c, values::any, F::has_middle));
        typename F::template plain<double> in_double(c, weights.source()), changed(c, folded.source());
        typename F::template plain<float> in_float(c, weights.source());
        const std::vector<double> expected = in_double.forward(tokens), logits = changed.forward(tokens);
        const std::vector<float> plain = in_float.forward(tokens);
        double error = 0.0, yardstick = 0.0;
        for (std::size_t i = 0; i < logits.size(); ++i) {
            error = std::max(error, std::abs(logits[i] - expected[i]));
            yardstick = std::max(yardstick, std::abs(static_cast<double>(plain[i]) - expected[i]));
        }
        CAPTURE(error);
        CAPTURE(yardstick);
        // Weights rounded up to three times are about as much as every product and sum rounded once.
        CHECK(error <= 2.0 * yardstick);
        CHECK(error > 0.0);
    }
}

TEST_CASE("folded outliers: what belongs to no site is the inner source's, and factors that do not fit are refused") {
    const aq::model_config c = tiny_configs()[0];
    tiny_weights weights(tiny_seed);
    const outlier_factors factors = random_factors(c, values::any, true);
    outlier_source folded(c, weights.source(), factors);
    std::size_t same = 0;
    for (std::size_t i = 0; i < aq::weight_count; ++i) {
        const auto id = static_cast<weight_id>(i);
        const aq::matrix_shape shape = aq::shape_of(c, id);
        matrix plain(shape.rows, shape.cols), changed(shape.rows, shape.cols);
        REQUIRE(weights.source().read(&weights, id, 0, plain.view()) == status::ok);
        REQUIRE(folded.source().read(&folded, id, 0, changed.view()) == status::ok);
        same += is_same({plain.data.begin(), plain.data.end()}, {changed.data.begin(), changed.data.end()}) ? 1U : 0U;
    }
    CHECK(same == 11);  // embedding, positions, head; the norms of embedding and end, with biases; biases of q, k, o and down
    const auto read = [&](const outlier_factors& of, weight_id id) {
        outlier_source source(c, weights.source(), of);
        const aq::matrix_shape shape = aq::shape_of(c, id);
        matrix out(shape.rows, shape.cols);
        return source.source().read(&source, id, 1, out.view());
    };
    const struct {
        site where;
        std::vector<weight_id> ids;
    } touched[] = {{site::attention, {weight_id::attention_norm, weight_id::attention_norm_bias, weight_id::q, weight_id::v}},
                   {site::attention_output, {weight_id::v, weight_id::v_bias, weight_id::o}},
                   {site::mlp, {weight_id::mlp_norm, weight_id::mlp_norm_bias, weight_id::gate, weight_id::up}},
                   {site::mlp_middle, {weight_id::up, weight_id::up_bias, weight_id::down}}};
    for (const auto& t : touched) {
        for (const weight_id id : t.ids) {
            CAPTURE(static_cast<int>(id));
            outlier_factors wrong = factors;
            wrong.layers[1][static_cast<std::size_t>(t.where)].pop_back();
            CHECK(read(factors, id) == status::ok);
            CHECK(read(wrong, id) == status::bad_shape);
            CHECK(read({}, id) == status::bad_shape);
        }
    }
    CHECK(read({}, weight_id::head) == status::ok);
    aq::opt model;
    weights.fail_from(weights.reads());
    CHECK(model.load(c, {}, folded.source()) == status::source_failed);
}

TEST_CASE("folded outliers: a model gets those of a file or made-up ones, and says so") {
    aq::models::loaded_model model = aq::example::embedded_model();
    const std::string name = model.name;
    const auto made_up = fold_outliers(model);
    CHECK(model.name == name + " with outlier channels");
    CHECK(model.source.self == made_up.get());

    const temporary_folder folder;
    CHECK(contains(refusal([&] { return fold_outliers(model, folder.path() / "none"); }), "none"));
    CHECK(contains(refusal([&] { return fold_outliers(model, folder.write("text", "nothing of the kind")); }), "text"));
    model.source.packed = [](void*, weight_id, std::size_t, aq::packed_weights&) { return status::ok; };
    CHECK(contains(refusal([&] { return fold_outliers(model); }), "are packed"));
    CHECK(model.source.self == made_up.get());
}

TEST_CASE("folded outliers: the embedded model with those of large models computes the same with other activations") {
    const std::filesystem::path file = std::filesystem::path(AQ_SHARED_DATA) / "actstats" / "opt-1.3b.act_scales.safetensors";
    if (!have(file)) return;
    const aq::models::loaded_model plain = aq::example::embedded_model();
    aq::models::loaded_model model = aq::example::embedded_model();
    const auto kept = fold_outliers(model, file);
    CHECK(contains(model.name, "with outlier channels of opt-1.3b"));
    aq::example::token_list tokens = aq::example::tokens_of(plain, aq::example::evaluation_text());
    tokens.resize(32);
    const seen_activations before = run<aq::llama_family>(plain.config, plain.source, tokens),
                           after = run<aq::llama_family>(model.config, model.source, tokens);
    double error = 0.0, size = 0.0;
    for (std::size_t i = 0; i < before.logits.size(); ++i) {
        error = std::max(error, std::abs(static_cast<double>(after.logits[i]) - static_cast<double>(before.logits[i])));
        size = std::max(size, std::abs(static_cast<double>(before.logits[i])));
    }
    CHECK(error < 2e-5 * size);  // as much as float_error allows plain loops in float
    for (std::size_t i = 0; i < before.entries.size(); ++i) {
        const auto &b = before.entries[i], &a = after.entries[i];
        double largest = 0.0;
        for (std::size_t c = 0; c < b.cols; ++c) {
            double plain_energy = 0.0, energy = 0.0;
            for (std::size_t k = c; k < b.x.size(); k += b.cols) {
                plain_energy += static_cast<double>(b.x[k]) * static_cast<double>(b.x[k]);
                energy += static_cast<double>(a.x[k]) * static_cast<double>(a.x[k]);
            }
            if (plain_energy > 0.0) largest = std::max(largest, std::sqrt(energy / plain_energy));
        }
        CAPTURE(b.layer);
        CAPTURE(static_cast<int>(b.where));
        const bool is_norms = b.where == site::attention || b.where == site::mlp;
        CHECK(largest >
              (is_norms ? 9.0 : 1.5));  // its largest channel is at 10 to 25 times the median in all but the first layer
    }
}
