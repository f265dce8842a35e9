// A walk from layer to layer shows at every site what a session of the whole model shows.
#include "calibrate/layer_walk.hpp"

#include <doctest/doctest.h>

#include "calibrate/tiny_case.hpp"
#include "model/threads.hpp"

using aq::site;
using aq::status;
using aq::weight_id;
using aq::example::layer_state;
using aq::example::layer_walk;
using aq::example::quantized_weights;
using aq::example::site_rows;
using aq::example::token_windows;
using namespace aq_test;

namespace {

/// Packs by round-to-nearest what `is_packed` names.
void pack_some(const aq::models::loaded_model& m, bool (*is_packed)(weight_id, std::size_t layer), quantized_weights& q) {
    for (std::size_t layer = 0; layer < m.config.layers; ++layer) {
        for (const auto& [where, ids] : aq::example::linears_of(m.family)) {
            for (const weight_id id : ids) {
                if (!is_packed(id, layer)) continue;
                const aq::matrix_shape shape = aq::shape_of(m.config, id);
                std::vector<float> values(shape.rows * shape.cols);
                const aq::matrix_view<float> w(values.data(), shape.rows, shape.cols);
                REQUIRE(m.source.read(m.source.self, id, layer, w) == status::ok);
                if (q.profile.format(layer, where).is_rotated) REQUIRE(aq::hadamard(w) == status::ok);
                aq::packed_storage<> packed;
                const aq::weight_format format{4, true, 16};
                REQUIRE(aq::pack(aq::matrix_view<const float>(w), format, q.profile.exponents(layer, where), packed) ==
                        status::ok);
                q.put(id, layer, std::move(packed));
            }
        }
    }
}

/// Formats that differ from site to site and from layer to layer.
void make_formats(const aq::model_config& c, quantized_weights& q) {
    for (std::size_t i = 0; i < c.layers * aq::site_count; ++i) {
        const auto where = static_cast<site>(i % aq::site_count);
        aq::site_format& f = q.profile.format(i / aq::site_count, where);
        f.is_float = i % 7 == 2;
        f.activations.bits = i % 3 == 0 ? 4 : 8;
        f.activations.is_asymmetric = i % 2 == 0;
        f.is_rotated = i % 5 == 1;
        if (i % 4 == 3) f.activations.is_static = true, f.activations.fixed = {0.1F, 3};
        for (std::size_t k = 0; k < q.profile.channels(where); k += 3) q.profile.exponents(i / aq::site_count, where)[k] = 2;
    }
}

layer_state state_of(quantized_weights& q, std::size_t layer) {
    layer_state s{q.source(), {}};
    for (std::size_t i = 0; i < aq::site_count; ++i) s.sites[i] = q.profile.format(layer, static_cast<site>(i));
    return s;
}

/// Every row of every site, and whose they are, against a session of the whole model.
template <class Family>
void check_walk(const aq::models::loaded_model& m, const aq::model_options& o, quantized_weights& q, const token_windows& windows,
                const aq::executor& threads = aq::serial_executor()) {
    const auto model_with = [&](const aq::prune_plan& plan) {
        aq::model_options formats = o;
        formats.pruning = plan;
        aq::transformer<Family> model;
        REQUIRE(model.load(m.config, formats, q.source(), &q.profile) == status::ok);
        return model;
    };
    const std::vector<shown_rows> shown = rows_shown(model_with(o.pruning), windows);
    const std::unique_ptr<layer_walk> walk = walk_through(m, o, threads);
    REQUIRE(walk->begin(windows) == status::ok);
    REQUIRE(walk->windows() == windows.size());
    for (std::size_t layer = 0; layer < m.config.layers; ++layer) {
        CAPTURE(layer);
        REQUIRE(walk->layer() == layer);
        const std::vector<token_list> before = tokens_left(model_with(plan_before(o.pruning, layer)), windows),
                                      after = tokens_left(model_with(plan_before(o.pruning, layer + 1)), windows);
        REQUIRE(walk->set(state_of(q, layer)) == status::ok);
        site_rows rows;
        for (std::size_t w = 0; w < windows.size(); ++w) {
            for (std::size_t i : {std::size_t{3}, std::size_t{0}, std::size_t{2}, std::size_t{1}, std::size_t{3}}) {
                CAPTURE(w);
                CAPTURE(i);
                REQUIRE(walk->look(w, static_cast<site>(i), rows) == status::ok);
                CHECK(rows.channels == q.profile.channels(static_cast<site>(i)));
                CHECK(is_same(rows.values, shown[w].at(layer, i)));
                CHECK(rows.tokens == (i < 2 ? before[w] : after[w]));
            }
        }
        REQUIRE(walk->advance() == status::ok);
    }
    CHECK(walk->layer() == m.config.layers);
    CHECK(walk->set(state_of(q, m.config.layers - 1)) == status::bad_argument);
}

template <class Case>
void check_family(const aq::model_config& c, const aq::model_options& o, bool is_coded, bool (*is_packed)(weight_id, std::size_t),
                  const aq::executor& threads = aq::serial_executor()) {
    CAPTURE(text(c));
    tiny_weights weights(tiny_seed);
    const aq::models::loaded_model m = loaded(Case::kind, c, weights);
    quantized_weights q;
    REQUIRE(q.begin(c, m.source) == status::ok);
    if (is_coded) make_formats(c, q);
    pack_some(m, is_packed, q);
    check_walk<typename Case::family>(m, o, q, tiny_windows(c, 4), threads);
}

bool none_of_them(weight_id, std::size_t) { return false; }
bool all_of_them(weight_id, std::size_t) { return true; }
bool some_of_them(weight_id id, std::size_t layer) { return layer == 1 || id == weight_id::o || id == weight_id::down; }

/// Log2 codes for probabilities, and a cache of 8 bits with keys rotated.
aq::model_options coded_attention() {
    aq::model_options o = tiny_options(16, 16, 8, aq::probability_coding::log2_ceiling);
    o.rotates_keys = true;
    return o;
}

}  // namespace

TEST_CASE_TEMPLATE("walks: at every site of every layer the rows that a session shows, in float and with packed weights", F,
                   llama_case, opt_case, bloom_case) {
    for (const aq::model_config& c : tiny_configs()) {
        check_family<F>(c, {}, false, none_of_them);
        check_family<F>(c, coded_attention(), true, all_of_them);
        check_family<F>(c, {}, true, some_of_them);
    }
}

TEST_CASE_TEMPLATE("walks: pruned where the plan says so, each row with its token", F, llama_case, opt_case, bloom_case) {
    aq::model_config c = tiny_configs()[0];
    c.layers = 4;
    aq::model_options o = coded_attention();
    o.pruning = plan_of({{1, 0.4}, {2, 0.5}});
    check_family<F>(c, o, true, all_of_them);
    check_family<F>(c, o, true, some_of_them);
    o = {};
    o.pruning = plan_of({{0, 0.9}});
    check_family<F>(c, o, false, none_of_them);
}

TEST_CASE("walks: the same rows by any threads") {
    for (const named_executor& e : all_executors(3)) {
        CAPTURE(e.name);
        aq::model_options o = coded_attention();
        o.pruning = plan_of({{0, 0.3}});
        check_family<llama_case>(tiny_configs()[0], o, true, some_of_them, e.threads);
    }
}

TEST_CASE("walks: a layer may be set again, and looking moves nothing") {
    const aq::model_config c = tiny_configs()[0];
    tiny_weights weights(tiny_seed);
    const aq::models::loaded_model m = loaded(aq::models::family::llama, c, weights);
    quantized_weights q;
    REQUIRE(q.begin(c, m.source) == status::ok);
    make_formats(c, q);
    pack_some(m, all_of_them, q);
    const std::unique_ptr<layer_walk> walk = walk_through(m, {});
    REQUIRE(walk->begin(tiny_windows(c, 3)) == status::ok);
    const auto look = [&](const layer_state& state) {
        site_rows rows;
        REQUIRE(walk->set(state) == status::ok);
        REQUIRE(walk->look(2, site::mlp_middle, rows) == status::ok);
        return rows.values;
    };
    const layer_state in_float{m.source, {}};
    const std::vector<float> exact = look(in_float);
    CHECK_FALSE(is_same(look(state_of(q, 0)), exact));
    CHECK(is_same(look(in_float), exact));
    REQUIRE(walk->advance() == status::ok);
    CHECK_FALSE(is_same(look(in_float), exact));
    REQUIRE(walk->begin(tiny_windows(c, 3)) == status::ok);
    CHECK(is_same(look(in_float), exact));
}

TEST_CASE("walks: windows, plans and formats that cannot be are refused, and then there is nothing to look at") {
    const aq::model_config c = tiny_configs()[0];
    tiny_weights weights(tiny_seed);
    const aq::models::loaded_model m = loaded(aq::models::family::bloom, c, weights);
    const auto begin = [&](const token_windows& windows, aq::model_options o = {}) {
        const std::unique_ptr<layer_walk> walk = walk_through(m, o);
        const status s = walk->begin(windows);
        CHECK(walk->windows() == (s == status::ok ? windows.size() : 0));
        CHECK((walk->set({m.source, {}}) == status::ok) == (s == status::ok));
        return s;
    };
    const token_list good = tiny_tokens(c, c.max_length);
    token_list unknown = good, too_long = good;
    unknown.back() = static_cast<std::uint32_t>(c.vocabulary);
    too_long.push_back(0);
    CHECK(begin({good, good}) == status::ok);
    CHECK(begin({}) == status::bad_argument);
    CHECK(begin({good, {}}) == status::bad_argument);
    CHECK(begin({good, unknown}) == status::bad_argument);
    CHECK(begin({good, too_long}) == status::bad_argument);
    aq::model_options o;
    o.pruning = plan_of({{3, 0.5}});
    CHECK(begin({good}, o) == status::bad_argument);
    o = {};
    o.kv_bits = 5;
    CHECK(begin({good}, o) == status::unsupported_format);
    weights.fail_from(weights.reads());
    CHECK(begin({good}) == status::source_failed);
    weights.fail_from(static_cast<std::size_t>(-1));
    CHECK(aq::example::make_walk(m.family, c, m.source, {})->begin({good}) == status::bad_argument);  // no kernels
}

TEST_CASE("walks: what is not set cannot be looked at") {
    const aq::model_config c = tiny_configs()[0];
    tiny_weights weights(tiny_seed);
    const aq::models::loaded_model m = loaded(aq::models::family::llama, c, weights);
    const std::unique_ptr<layer_walk> walk = walk_through(m, {});
    const layer_state in_float{m.source, {}};
    site_rows rows;
    CHECK(walk->advance() == status::bad_argument);
    CHECK(walk->look(0, site::mlp, rows) == status::bad_argument);
    REQUIRE(walk->begin(tiny_windows(c, 2)) == status::ok);
    CHECK(walk->look(0, site::mlp, rows) == status::bad_argument);
    REQUIRE(walk->set(in_float) == status::ok);
    CHECK(walk->look(1, site::mlp, rows) == status::ok);
    CHECK(walk->look(2, site::mlp, rows) == status::bad_argument);
    layer_state bad = in_float;
    bad.sites[1].is_float = false;
    bad.sites[1].activations.bits = 9;
    CHECK(walk->set(bad) == status::bad_argument);
    CHECK(walk->look(0, site::mlp, rows) == status::bad_argument);
    REQUIRE(walk->set(in_float) == status::ok);
    REQUIRE(walk->advance() == status::ok);
    CHECK(walk->look(0, site::mlp, rows) == status::bad_argument);  // of the next layer, which is not set
    CHECK(walk->advance() == status::bad_argument);
    CHECK(walk->layer() == 1);
}
