// Tokens leave on the way: a pruned run against runs made by hand, its figures, and generation after it.
#include <doctest/doctest.h>

#include <numeric>

#include "agilequant/elementwise/norm.hpp"
#include "agilequant/model/session.hpp"
#include "model/plain_llama.hpp"
#include "model/threads.hpp"

using aq::logits_of;
using aq::status;
using namespace aq_test;

namespace {

aq::model_config deep_config() { return tiny_config(37, 32, 44, 5, 4, 2, 64); }

aq::prune_plan plan_of(std::initializer_list<std::pair<std::size_t, double>> layers) {
    aq::prune_plan plan;
    for (const auto& [layer, ratio] : layers) REQUIRE(plan.add(layer, ratio) == status::ok);
    return plan;
}

aq::model_options pruned(aq::model_options o, const aq::prune_plan& plan) {
    o.pruning = plan;
    return o;
}

/// A model run layer by layer, with what each layer keeps decided here: the attention of all rows, then the MLP and all later layers of
/// the survivors alone, each layer with its own cache.
class run_by_hand {
public:
    explicit run_by_hand(const aq::llama& model) : model_(model), caches_(model.config().layers) {
        const aq::model_config& c = model.config();
        context_.kernels = &chosen_kernels();
        REQUIRE(scratch_.reserve(c, c.max_length) == status::ok);
        for (aq::kv_cache& cache : caches_)
            REQUIRE(cache.reset(c.kv_heads, c.head_dim(), c.max_length, model.options().kv_bits) == status::ok);
    }

    std::vector<float> forward(const token_list& tokens, const aq::prune_plan& plan, bool keep_last) {
        const aq::model_config& c = model_.config();
        std::vector<float> x;
        kept.resize(tokens.size());
        std::iota(kept.begin(), kept.end(), 0U);
        for (const std::uint32_t t : tokens) x.insert(x.end(), model_.embedding(t), model_.embedding(t) + c.dim);
        for (std::size_t layer = 0; layer < c.layers; ++layer) {
            const auto& b = model_.block_at(layer);
            const std::size_t rows = kept.size(),
                              drop = static_cast<std::size_t>(static_cast<double>(rows) * plan.ratio(layer) + 1e-6);
            REQUIRE(b.attention.forward(context_, model_.settings(layer), scratch_, caches_[layer], drop > 0,
                                        {x.data(), rows, c.dim}) == status::ok);
            if (drop > 0) survive(rows, drop, keep_last, x);
            REQUIRE(b.mlp.forward(context_, model_.settings(layer), scratch_, {x.data(), kept.size(), c.dim}) == status::ok);
        }
        aq::linear_input input;
        std::vector<float> normed(x.size()), logits(kept.size() * c.vocabulary);
        REQUIRE(aq::rms_norm({x.data(), kept.size(), c.dim}, model_.final_norm().gain.data(), c.norm_eps,
                             {normed.data(), kept.size(), c.dim}) == status::ok);
        REQUIRE(input.prepare(context_, {normed.data(), kept.size(), c.dim}, {}, model_.head()) == status::ok);
        REQUIRE(aq::multiply(context_, input, model_.head(), {logits.data(), kept.size(), c.vocabulary}) == status::ok);
        return logits;
    }

    token_list kept;
    std::size_t length(std::size_t layer) const { return caches_[layer].length(); }

private:
    void survive(std::size_t rows, std::size_t drop, bool keep_last, std::vector<float>& x) {
        const std::size_t dim = model_.config().dim;
        const aq::matrix_view<float> column = scratch_.first_column(rows);
        std::vector<float> score(rows);
        for (std::size_t h = 0; h < column.rows; ++h)
            for (std::size_t i = 0; i < rows; ++i) score[i] += column.row(h)[i];
        CHECK(score[0] == doctest::Approx(static_cast<double>(column.rows)));  // the first token sees only itself
        std::vector<std::size_t> order(rows);
        std::iota(order.begin(), order.end(), std::size_t{0});
        // the least important last; of equal ones the later; the first never, nor the last where it is wanted
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
            const auto rank = [&](std::size_t i) { return i == 0 ? 2 : keep_last && i == rows - 1 ? 1 : 0; };
            return rank(a) != rank(b) ? rank(a) > rank(b) : score[a] > score[b];
        });
        order.resize(rows - drop);
        std::sort(order.begin(), order.end());
        std::vector<float> left;
        token_list tokens;
        for (const std::size_t i : order) {
            left.insert(left.end(), &x[i * dim], &x[i * dim] + dim);
            tokens.push_back(kept[i]);
        }
        x = left;
        kept = tokens;
    }

    const aq::llama& model_;
    aq::run_context context_;
    aq::block_scratch scratch_;
    std::vector<aq::kv_cache> caches_;
};

std::vector<aq::model_options> formats() {
    return {tiny_options(16, 16), tiny_options(4, 8, 8, aq::probability_coding::log2_half_ceiling),
            tiny_options(4, 4, 4, aq::probability_coding::log2_paper),
            tiny_options(8, 8, 32, aq::probability_coding::log2_maximum)};
}

bool is_ascending(const token_list& t) {
    return std::adjacent_find(t.begin(), t.end(), [](std::uint32_t a, std::uint32_t b) { return a >= b; }) == t.end();
}

}  // namespace

TEST_CASE("ratio 0, and a ratio that drops less than a token, are dense bit for bit") {
    const aq::model_config c = deep_config();
    for (const aq::model_options& o : formats()) {
        const aq::llama dense = tiny_model(c, o);
        const token_list tokens = tiny_tokens(c, 40);
        aq::llama_session session = session_of(dense);
        const outcome_of_run expected = forward(session, tokens);
        for (const aq::prune_plan& plan : {plan_of({{1, 0.0}, {3, 0.0}}), plan_of({{0, 0.02}, {4, 0.02}})}) {
            const aq::llama model = tiny_model(c, pruned(o, plan));
            aq::llama_session same = session_of(model);
            const outcome_of_run run = forward(same, tokens);
            CHECK(is_same(run.logits, expected.logits));
            CHECK(run.kept == expected.kept);
            CHECK(run.sparsity == 0.0);
        }
    }
}

TEST_CASE("a pruned run is the dense run of the survivors from that layer on, and so are the steps after it") {
    const aq::model_config c = deep_config();
    const token_list tokens = tiny_tokens(c, 60);
    for (const aq::model_options& o : formats())
        for (const aq::prune_plan& plan :
             {plan_of({{2, 0.5}}), plan_of({{0, 0.25}}), plan_of({{4, 0.7}}), plan_of({{1, 0.3}, {2, 0.3}, {4, 0.3}})})
            for (const logits_of which : {logits_of::all, logits_of::last}) {
                const aq::llama model = tiny_model(c, pruned(o, plan)), dense = tiny_model(c, o);
                const bool keep_last = which == logits_of::last;
                aq::llama_session session = session_of(model);
                run_by_hand by_hand(dense);
                const token_list prompt = part_of(tokens, 0, 50);
                const outcome_of_run run = forward(session, prompt, which);
                std::vector<float> expected = by_hand.forward(prompt, plan, keep_last);
                if (keep_last) expected.erase(expected.begin(), expected.end() - static_cast<std::ptrdiff_t>(c.vocabulary));
                CHECK(run.kept == by_hand.kept);
                CHECK(run.kept.size() < 50);
                CHECK(run.kept.front() == 0);
                CHECK(is_ascending(run.kept));
                if (keep_last) CHECK(run.kept.back() == 49);
                CHECK(is_same(run.logits, expected));
                for (std::size_t i = 50; i < 60; ++i) {
                    const outcome_of_run step = forward(session, part_of(tokens, i, 1), which);
                    CHECK(is_same(step.logits, by_hand.forward(part_of(tokens, i, 1), {}, false)));
                    CHECK(step.kept == token_list{0});
                    CHECK(step.sparsity == 0.0);
                }
                std::size_t rows = 50;
                for (std::size_t layer = 0; layer < c.layers; ++layer) {
                    CHECK(session.cache(layer).length() == rows + 10);
                    CHECK(by_hand.length(layer) == rows + 10);
                    rows = plan.rows_after(layer, rows);
                }
            }
}

TEST_CASE("in float: the same survivors and logits as the plain implementation in double, prompt and steps") {
    const aq::model_config c = deep_config();
    const token_list tokens = tiny_tokens(c, 56);
    const aq::prune_plan plan = plan_of({{1, 0.25}, {3, 0.5}});
    const std::vector<double> ratios{0.0, 0.25, 0.0, 0.5, 0.0};
    for (const std::uint64_t seed : {std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{3}}) {
        CAPTURE(seed);
        tiny_weights weights(seed);
        plain_llama<double> in_double(c, weights.source());
        plain_llama<float> in_float(c, weights.source());
        const aq::llama model = tiny_model(c, pruned({}, plan), nullptr, seed);
        aq::llama_session session = session_of(model);
        const token_list prompt = part_of(tokens, 0, 48);
        outcome_of_run run = forward(session, prompt);
        std::vector<double> expected = in_double.forward(prompt, ratios);
        std::vector<float> plain = in_float.forward(prompt, ratios);
        CHECK(run.kept == in_double.kept);
        CHECK(run.kept.size() == 18);
        REQUIRE(plain.size() == expected.size());
        float_error(run.logits, plain, expected);
        for (std::size_t layer = 0; layer < c.layers; ++layer) CHECK(session.cache(layer).length() == in_double.length(layer));
        run.logits.clear(), plain.clear(), expected.clear();
        for (std::size_t i = 48; i < 56; ++i) {
            const token_list token = part_of(tokens, i, 1);
            for (const float v : forward(session, token).logits) run.logits.push_back(v);
            for (const float v : in_float.forward(token)) plain.push_back(v);
            for (const double v : in_double.forward(token)) expected.push_back(v);
        }
        float_error(run.logits, plain, expected);
    }
}

TEST_CASE("a model of the later layers alone, fed with the survivors, gives the logits of the pruned run") {
    // Layer 0 of the first model prunes; the second has its layers 1 to 4, with the survivors' rows for an embedding.
    const aq::model_config c = deep_config();
    struct later_layers {
        tiny_weights weights{tiny_seed};
        std::vector<float> rows;  // [kept, dim], the input of layer 1
        static status read(void* self, aq::weight_id id, std::size_t layer, aq::matrix_view<float> out) {
            auto& s = *static_cast<later_layers*>(self);
            const aq::weight_source inner = s.weights.source();
            if (id == aq::weight_id::embedding) {
                REQUIRE(s.rows.size() == out.rows * out.cols);
                std::copy(s.rows.begin(), s.rows.end(), out.data);
                return status::ok;
            }
            return inner.read(inner.self, id, id >= aq::weight_id::attention_norm ? layer + 1 : layer, out);
        }
    } source;
    const aq::prune_plan plan = plan_of({{0, 0.4}});
    const token_list tokens = tiny_tokens(c, 61);
    const aq::llama model = tiny_model(c, pruned({}, plan));
    aq::llama_session session = session_of(model);
    const outcome_of_run run = forward(session, tokens);
    REQUIRE(run.kept.size() == 37);  // the vocabulary's size, so that head and embedding have one shape

    // the rows that leave layer 0
    aq::model_config one = c;
    one.layers = 1;
    const aq::llama first = tiny_model(one);
    aq::run_context context;
    context.kernels = &chosen_kernels();
    aq::block_scratch scratch;
    aq::kv_cache cache;
    REQUIRE(scratch.reserve(one, 61) == status::ok);
    REQUIRE(cache.reset(c.kv_heads, c.head_dim(), 61, 32) == status::ok);
    std::vector<float> x;
    for (const std::uint32_t t : tokens) x.insert(x.end(), first.embedding(t), first.embedding(t) + c.dim);
    REQUIRE(first.block_at(0).attention.forward(context, first.settings(0), scratch, cache, false, {x.data(), 61, c.dim}) ==
            status::ok);
    for (const std::uint32_t t : run.kept) source.rows.insert(source.rows.end(), &x[t * c.dim], &x[t * c.dim] + c.dim);
    REQUIRE(first.block_at(0).mlp.forward(context, first.settings(0), scratch, {source.rows.data(), 37, c.dim}) == status::ok);

    aq::model_config rest = c;
    rest.layers = 4;
    aq::llama later;
    REQUIRE(later.load(rest, {}, {&source, later_layers::read}) == status::ok);
    aq::llama_session dense = session_of(later);
    token_list all(37);
    std::iota(all.begin(), all.end(), 0U);
    CHECK(is_same(forward(dense, all).logits, run.logits));
}

TEST_CASE("the paper's figures: 2048 tokens, 32 layers, nine tenths gone after three of them") {
    const aq::model_config c = tiny_config(11, 2, 1, 32, 1, 1, 2049);
    aq::model_options o;
    // layers 10, 11 and 12 counted from 1, as the paper's figure has it; this library counts from 0
    REQUIRE(aq::make_progressive_plan(0.9, 9, 3, o.pruning) == status::ok);
    CHECK(o.pruning.ratio(9) == doctest::Approx(0.53584).epsilon(1e-5));
    const aq::llama model = tiny_model(c, o);
    aq::llama_session session = session_of(model);
    const outcome_of_run run = forward(session, tiny_tokens(c, 2048), logits_of::last);
    CHECK(run.kept.size() == 206);
    CHECK(run.kept.front() == 0);
    CHECK(run.kept.back() == 2047);
    CHECK(is_ascending(run.kept));
    CHECK(run.sparsity == doctest::Approx(0.6315).epsilon(1e-4));
    CHECK(run.sparsity == doctest::Approx(aq::token_sparsity(o.pruning, 32, 2048)).epsilon(1e-12));
    forward(session, {3}, logits_of::last);
    for (std::size_t layer = 0; layer < 32; ++layer) {
        CHECK(session.cache(layer).length() == 1 + (layer <= 9 ? 2048 : layer == 10 ? 951 : layer == 11 ? 442 : 206));
    }
}

TEST_CASE("steps and what follows a prompt are never pruned; after clear a prompt is again") {
    const aq::model_config c = deep_config();
    const aq::llama model = tiny_model(c, pruned({}, plan_of({{0, 0.9}})));
    aq::llama_session session = session_of(model);
    const token_list tokens = tiny_tokens(c, 30);
    CHECK(forward(session, part_of(tokens, 0, 1)).kept.size() == 1);
    CHECK(forward(session, part_of(tokens, 1, 20)).kept.size() == 20);  // a second piece is no prompt
    session.clear();
    CHECK(forward(session, tokens).kept.size() == 3);
    CHECK(forward(session, part_of(tokens, 0, 20)).kept.size() == 20);
    session.clear();
    const outcome_of_run two = forward(session, part_of(tokens, 0, 2), logits_of::last);
    CHECK(two.kept == token_list{0, 1});  // the first and the last, although the ratio leaves one
}

TEST_CASE("the room in the caches is that of the first layer, whatever was pruned later") {
    const aq::model_config c = deep_config();
    const aq::llama model = tiny_model(c, pruned({}, plan_of({{1, 0.5}})));
    aq::llama_session session = session_of(model, aq::serial_executor(), 20);
    const token_list tokens = tiny_tokens(c, 20);
    const std::size_t before = session.cache_bytes();
    forward(session, part_of(tokens, 0, 18), logits_of::last);
    CHECK(before == 0);
    CHECK(session.cache_bytes() == (18 * 2 + 9 * 3) * std::size_t{2 * 2 * 16 * 4});
    forward(session, part_of(tokens, 18, 2));
    aq::forward_result r;
    CHECK(session.forward(tokens.data(), 1, logits_of::last, r) == status::cache_full);
    CHECK(session.cache(4).length() == 11);
}

TEST_CASE("a plan that names a layer which is not there, or is none, is refused") {
    const aq::model_config c = deep_config();
    aq::prune_plan descending = plan_of({{1, 0.1}, {2, 0.1}});
    std::swap(descending.entries[0], descending.entries[1]);
    aq::prune_plan too_much = plan_of({{1, 0.1}});
    too_much.entries[0].ratio = 1.0;
    aq::prune_plan too_long;
    too_long.count = aq::prune_plan::capacity + 1;
    for (const aq::prune_plan& plan : {plan_of({{5, 0.1}}), plan_of({{1, 0.1}, {70, 0.0}}), descending, too_much, too_long}) {
        const aq::llama model = tiny_model(c, pruned({}, plan));
        aq::llama_session session;
        CHECK(session.reset(model, chosen_kernels(), {}) == status::bad_argument);
    }
}

TEST_CASE("pruned runs have the same bits with any number of threads and on every instruction set") {
    const aq::model_config c = deep_config();
    for (const aq::model_options& o : formats()) {
        const aq::llama model = tiny_model(c, pruned(o, plan_of({{1, 0.3}, {3, 0.4}})));
        const token_list tokens = tiny_tokens(c, 50);
        aq::llama_session serial = session_of(model, aq::serial_executor(), 0, *aq::isa_entries[0].kernels);
        const outcome_of_run expected = forward(serial, tokens);
        for (const aq::isa_entry& isa : aq::isa_entries) {
            if (!isa.runs_on(aq::isa::this_cpu())) continue;
            for (const named_executor& e : all_executors(3)) {
                CAPTURE(e.name);
                aq::llama_session session = session_of(model, e.threads, 0, *isa.kernels);
                const outcome_of_run run = forward(session, tokens);
                CHECK(run.kept == expected.kept);
                CHECK(is_same(run.logits, expected.logits));
            }
        }
    }
}
