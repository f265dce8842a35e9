// One block: against its pieces put together by hand, with another format at every site; what it refuses, sees and times.
#include "agilequant/model/block.hpp"

#include <doctest/doctest.h>

#include "agilequant/elementwise/norm.hpp"
#include "agilequant/model/llama.hpp"
#include "model/threads.hpp"
#include "support/tiny_model.hpp"

using aq::site;
using aq::status;
using namespace aq_test;

namespace {

aq::site_format site_of(int bits, bool is_asymmetric) {
    aq::site_format f;
    f.is_float = bits > 8;
    f.activations.bits = f.is_float ? 8 : bits;
    f.activations.is_asymmetric = is_asymmetric;
    return f;
}

/// A format of its own for every site, so that none can stand in for another.
aq::model_options mixed_options(int kv_bits) {
    aq::model_options o = tiny_options(4, 8, kv_bits);
    o.sites[0] = site_of(8, false);
    o.sites[1] = site_of(4, true);
    o.sites[2] = site_of(6, true);
    o.sites[3] = site_of(16, false);
    return o;
}

struct rows_of_x {
    aq::aligned_buffer<float> data;
    std::vector<std::uint32_t> tokens;
    std::size_t rows, cols;

    rows_of_x(std::size_t m, std::size_t dim, std::uint64_t seed) : tokens(m), rows(m), cols(dim) {
        REQUIRE(data.reset(m * dim) == status::ok);
        random_source random(seed);
        for (float& v : data) v = random.value();
        for (std::size_t i = 0; i < m; ++i) tokens[i] = static_cast<std::uint32_t>(100 + i);
    }
    aq::matrix_view<float> view() { return {data.data(), rows, cols}; }
    std::vector<float> values() const { return {data.begin(), data.end()}; }
};

/// What a block runs in.
struct workplace {
    aq::run_context context;
    aq::block_scratch scratch;
    aq::kv_cache cache;

    workplace(const aq::llama& model, std::size_t rows, std::size_t capacity) {
        const aq::model_config& c = model.config();
        context.kernels = &chosen_kernels();
        REQUIRE(scratch.reserve(c, rows) == status::ok);
        REQUIRE(cache.reset(c.kv_heads, c.head_dim(), capacity, model.options().kv_bits) == status::ok);
    }
    status forward(const aq::llama& model, std::size_t layer, double ratio, bool keep_last, rows_of_x& x, std::size_t& left) {
        return model.block_at(layer).forward(context, model.settings(layer), scratch, cache, ratio, keep_last, x.view(),
                                             x.tokens.data(), left);
    }
};

/// A product of the block, from its input to its output, without anything shared.
matrix product(aq::run_context& context, const matrix& x, const aq::site_format& f, const aq::linear& l) {
    aq::linear_input input;
    matrix y(x.rows, l.n());
    REQUIRE(input.prepare(context, x.view(), f, l) == status::ok);
    REQUIRE(aq::multiply(context, input, l, y.view()) == status::ok);
    return y;
}

matrix normed(const aq::llama& model, const float* gain, const matrix& x) {
    matrix y(x.rows, x.cols);
    REQUIRE(aq::rms_norm(x.view(), gain, model.config().norm_eps, y.view()) == status::ok);
    return y;
}

void add(const matrix& y, matrix& x) {
    for (std::size_t r = 0; r < x.rows; ++r)
        for (std::size_t c = 0; c < x.cols; ++c) x.at(r, c) += y.at(r, c);
}

/// The formula of a LLaMA block, step by step, rows one after another.
matrix by_hand(const aq::llama& model, std::size_t layer, matrix x) {
    const aq::model_config& c = model.config();
    const aq::block<aq::llama_family>& b = model.block_at(layer);
    const aq::site_format* const sites = model.options().sites;
    aq::run_context context;
    context.kernels = &chosen_kernels();
    const matrix n = normed(model, b.attention.norm.gain.data(), x);
    matrix q = product(context, n, sites[0], b.attention.q), k = product(context, n, sites[0], b.attention.k);
    const matrix v = product(context, n, sites[0], b.attention.v);
    aq::aligned_buffer<float> table;
    REQUIRE(table.reset(c.max_length * c.head_dim()) == status::ok);
    REQUIRE(aq::make_rope_table(c.rope_theta, {table.data(), c.max_length, c.head_dim()}) == status::ok);
    aq::kv_cache cache;
    REQUIRE(cache.reset(c.kv_heads, c.head_dim(), x.rows, model.options().kv_bits) == status::ok);
    matrix attended(x.rows, c.dim);
    for (std::size_t r = 0; r < x.rows; ++r) {
        for (const auto& [heads, row] :
             {std::pair(c.heads, &q.data[r * q.stride]), std::pair(c.kv_heads, &k.data[r * k.stride])}) {
            REQUIRE(aq::rope({table.data(), c.max_length, c.head_dim()}, r, c.rope, {row, heads, c.head_dim()}) == status::ok);
        }
        REQUIRE(cache.append(std::as_const(k).view().rows_from(r, 1), v.view().rows_from(r, 1)) == status::ok);
        aq::attention_job job;
        job.q = std::as_const(q).view().rows_from(r, 1);
        job.cache = cache.view();
        job.out = attended.view().rows_from(r, 1);
        job.heads = c.heads;
        job.coding = model.options().coding;
        aq::aligned_buffer<std::byte> scratch;
        REQUIRE(scratch.reset(aq::attention_scratch_bytes(job.cache, job.coding)) == status::ok);
        REQUIRE(aq::attention(*context.kernels, job, scratch.data(), scratch.size()) == status::ok);
    }
    // the residual is added to the product, which is what the epilogue does
    matrix o = product(context, attended, sites[1], b.attention.o);
    add(x, o);
    const matrix m = normed(model, b.mlp.norm.gain.data(), o), gate = product(context, m, sites[2], b.mlp.gate);
    matrix middle = product(context, m, sites[2], b.mlp.up);
    for (std::size_t r = 0; r < x.rows; ++r)
        aq::silu_gate(&gate.data[r * c.hidden], &middle.data[r * c.hidden], c.hidden, &middle.data[r * c.hidden]);
    matrix down = product(context, middle, sites[3], b.mlp.down);
    add(o, down);
    return down;
}

}  // namespace

TEST_CASE("a block is its formula, with a format of its own at every site, in any cache and coding") {
    for (const aq::model_config& c : tiny_configs())
        for (const int kv_bits : {32, 8, 4}) {
            CAPTURE(text(c));
            CAPTURE(kv_bits);
            aq::model_options o = mixed_options(kv_bits);
            o.coding = kv_bits == 32 ? aq::probability_coding::softmax : aq::probability_coding::log2_half_ceiling;
            const aq::llama model = tiny_model(c, o);
            rows_of_x x(11, c.dim, 3);
            matrix expected(11, c.dim);
            std::copy(x.data.begin(), x.data.end(), expected.data.begin());
            expected = by_hand(model, c.layers - 1, expected);
            expected.data.pop_back();
            workplace w(model, 11, 11);
            std::size_t left = 0;
            REQUIRE(w.forward(model, c.layers - 1, 0.0, true, x, left) == status::ok);
            CHECK(left == 11);
            CHECK(is_same(x.values(), expected.data));
            CHECK(w.cache.length() == 11);
        }
}

TEST_CASE("without room in the cache nothing changes") {
    const aq::llama model = tiny_model(tiny_configs()[0]);
    workplace w(model, 8, 10);
    rows_of_x x(8, 32, 1), y(3, 32, 2);
    std::size_t left = 0;
    REQUIRE(w.forward(model, 0, 0.0, false, x, left) == status::ok);
    const std::vector<float> before = y.values();
    CHECK(w.forward(model, 0, 0.0, false, y, left) == status::cache_full);
    CHECK(is_same(y.values(), before));
    CHECK(w.cache.length() == 8);
    rows_of_x z(2, 32, 2);
    CHECK(w.forward(model, 0, 0.0, false, z, left) == status::ok);
    CHECK(w.cache.length() == 10);
}

TEST_CASE("memory that is larger and dirty makes no difference") {
    const aq::llama model = tiny_model(tiny_configs()[0], mixed_options(8));
    workplace fresh(model, 5, 40), used(model, 40, 40);
    rows_of_x large(40, 32, 9), x(5, 32, 4), y(5, 32, 4);
    std::size_t left = 0;
    for (float& v : large.data) v = std::numeric_limits<float>::quiet_NaN();
    REQUIRE(used.forward(model, 1, 0.5, true, large, left) == status::ok);
    used.cache.clear();
    REQUIRE(used.forward(model, 1, 0.4, true, x, left) == status::ok);
    REQUIRE(fresh.forward(model, 1, 0.4, true, y, left) == status::ok);
    CHECK(left == 3);
    CHECK(is_same(x.values(), y.values()));
    CHECK(x.tokens == y.tokens);
}

TEST_CASE("the last row survives beside the first where it is asked for, whatever the ratio") {
    const aq::llama model = tiny_model(tiny_configs()[0]);
    for (const std::size_t rows : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{20}})
        for (const double ratio : {0.0, 0.3, 0.5, 0.9, 0.999})
            for (const bool keep_last : {false, true}) {
                CAPTURE(rows);
                CAPTURE(ratio);
                CAPTURE(keep_last);
                workplace w(model, rows, rows);
                rows_of_x x(rows, 32, rows);
                std::size_t left = 0;
                REQUIRE(w.forward(model, 1, ratio, keep_last, x, left) == status::ok);
                CHECK(left == std::max(aq::kept_rows(rows, ratio), std::min<std::size_t>(rows, keep_last ? 2 : 1)));
                CHECK(x.tokens[0] == 100);
                if (keep_last) CHECK(x.tokens[left - 1] == 99 + rows);
                for (std::size_t i = 1; i < left; ++i) CHECK(x.tokens[i] > x.tokens[i - 1]);
                CHECK(w.cache.length() == rows);
            }
}

TEST_CASE("an observer sees the four sites of the layer in order, the last two after pruning") {
    struct seen {
        std::vector<std::pair<site, aq::matrix_shape>> sites;
        static void see(void* self, std::size_t layer, site where, aq::matrix_view<const float> x) {
            CHECK(layer == 1);
            bool is_finite = true;
            for (std::size_t i = 0; i < x.rows * x.cols; ++i) is_finite = is_finite && std::isfinite(x.data[i]);
            CHECK(is_finite);
            static_cast<seen*>(self)->sites.emplace_back(where, x.shape());
        }
    } all;
    const aq::llama model = tiny_model(tiny_configs()[0]);
    workplace w(model, 10, 10);
    rows_of_x x(10, 32, 1);
    aq::block_settings settings = model.settings(1);
    settings.observer = {&all, seen::see};
    std::size_t left = 0;
    REQUIRE(model.block_at(1).forward(w.context, settings, w.scratch, w.cache, 0.4, true, x.view(), x.tokens.data(), left) ==
            status::ok);
    const std::vector<std::pair<site, aq::matrix_shape>> expected{
        {site::attention, {10, 32}}, {site::attention_output, {10, 32}}, {site::mlp, {6, 32}}, {site::mlp_middle, {6, 172}}};
    CHECK(all.sites == expected);
    // rows that are written for an observer are those that are otherwise on the way to their codes alone
    const aq::llama mixed = tiny_model(tiny_configs()[0], mixed_options(8));
    workplace seen_by(mixed, 10, 10), unseen(mixed, 10, 10);
    rows_of_x y(10, 32, 1), z(10, 32, 1);
    aq::block_settings observed = mixed.settings(1);
    observed.observer = {&all, seen::see};
    REQUIRE(mixed.block_at(1).forward(seen_by.context, observed, seen_by.scratch, seen_by.cache, 0.4, true, y.view(),
                                      y.tokens.data(), left) == status::ok);
    REQUIRE(unseen.forward(mixed, 1, 0.4, true, z, left) == status::ok);
    CHECK(is_same(y.values(), z.values()));
}

TEST_CASE("every part of a block takes time where it is asked for, and results do not depend on it") {
    const aq::llama model = tiny_model(tiny_configs()[0], mixed_options(8));
    workplace w(model, 30, 30), quiet(model, 30, 30);
    rows_of_x x(30, 32, 1), y(30, 32, 1);
    aq::part_times times;
    w.context.times = &times;
    std::size_t left = 0;
    REQUIRE(w.forward(model, 0, 0.1, true, x, left) == status::ok);
    REQUIRE(quiet.forward(model, 0, 0.1, true, y, left) == status::ok);
    double sum = 0.0;
    for (const double s : times.seconds) {
        CHECK(s > 0.0);
        sum += s;
    }
    CHECK(times.total() == doctest::Approx(sum));
    CHECK(is_same(x.values(), y.values()));
}
