// Models whose weights come packed, whose sites differ from layer to layer, or whose activations are rotated.
#include <doctest/doctest.h>

#include <map>
#include <utility>

#include "support/tiny_model.hpp"

using namespace aq_test;
using aq::site;
using aq::status;
using aq::weight_id;

namespace {

constexpr std::pair<weight_id, site> linears[] = {{weight_id::q, site::attention},    {weight_id::k, site::attention},
                                                  {weight_id::v, site::attention},    {weight_id::o, site::attention_output},
                                                  {weight_id::gate, site::mlp},       {weight_id::up, site::mlp},
                                                  {weight_id::down, site::mlp_middle}};

/// Packs some weights of a tiny model itself, by round-to-nearest, and leaves the others to be read.
class packing_source {
public:
    packing_source(const aq::model_config& c, const aq::weight_format& format, const aq::activation_profile& profile,
                   bool (*is_packed)(weight_id, std::size_t layer))
        : weights_(tiny_seed) {
        for (std::size_t layer = 0; layer < c.layers; ++layer) {
            for (const auto& [id, where] : linears) {
                if (!is_packed(id, layer)) continue;
                const aq::matrix_shape shape = aq::shape_of(c, id);
                std::vector<float> values(shape.rows * shape.cols);
                const aq::matrix_view<float> w(values.data(), shape.rows, shape.cols);
                const aq::weight_source inner = weights_.source();
                REQUIRE(inner.read(inner.self, id, layer, w) == status::ok);
                if (profile.format(layer, where).is_rotated) REQUIRE(aq::hadamard(w) == status::ok);
                REQUIRE(aq::pack(aq::matrix_view<const float>(w), format, profile.exponents(layer, where), packed[{id, layer}]) ==
                        status::ok);
            }
        }
    }
    [[nodiscard]] aq::weight_source source() { return {this, read, deliver}; }

    std::map<std::pair<weight_id, std::size_t>, aq::packed_storage<>> packed;

private:
    static status read(void* self, weight_id id, std::size_t layer, aq::matrix_view<float> out) {
        const aq::weight_source inner = static_cast<packing_source*>(self)->weights_.source();
        return inner.read(inner.self, id, layer, out);
    }
    static status deliver(void* self, weight_id id, std::size_t layer, aq::packed_weights& out) {
        auto& all = static_cast<packing_source*>(self)->packed;
        const auto found = all.find({id, layer});
        out = found == all.end() ? aq::packed_weights{} : found->second.view();
        return status::ok;
    }
    tiny_weights weights_;
};

bool all_of_them(weight_id, std::size_t) { return true; }

}  // namespace

TEST_CASE("weights that come packed give the bits of those that the model packs itself, all of them or some") {
    const aq::model_config c = tiny_configs()[0];
    const aq::model_options o = tiny_options(4, 4);
    aq::activation_profile profile = tiny_profile(c, o, tiny_tokens(c, 20, 99));
    profile.format(1, site::mlp_middle).is_rotated = true;
    const token_list tokens = tiny_tokens(c, 20);
    const aq::llama own = tiny_model(c, o, &profile);
    auto session = session_of(own);
    const std::vector<float> expected = forward(session, tokens).logits;
    const auto check = [&](bool (*is_packed)(weight_id, std::size_t)) {
        packing_source packed(c, o.weights, profile, is_packed);
        aq::llama model;
        REQUIRE(model.load(c, o, packed.source(), &profile) == status::ok);
        CHECK(model.bytes() == own.bytes());
        const aq::llama moved = std::move(model);
        auto run = session_of(moved);
        CHECK(is_same(forward(run, tokens).logits, expected));
    };
    check(all_of_them);
    check([](weight_id id, std::size_t layer) { return layer == 1 || id == weight_id::down; });
    check([](weight_id, std::size_t) { return false; });
}

TEST_CASE("packed weights are used whatever the options say of weights: here beside float ones") {
    const aq::model_config c = tiny_configs()[0];
    aq::activation_profile profile;
    REQUIRE(profile.reset(c) == status::ok);
    packing_source packed(c, tiny_options(4, 16).weights, profile, [](weight_id id, std::size_t) { return id == weight_id::o; });
    aq::llama model;
    REQUIRE(model.load(c, {}, packed.source()) == status::ok);
    CHECK_FALSE(model.block_at(1).attention.o.is_float());
    CHECK(model.block_at(1).attention.q.is_float());
    CHECK(model.block_at(1).attention.o.weights().codes == packed.packed[std::pair(weight_id::o, std::size_t{1})].view().codes);
}

TEST_CASE("a packed weight of another shape or tile is refused, and one of another layout when it is met") {
    const aq::model_config c = tiny_configs()[0];
    const aq::model_options o = tiny_options(4, 8);
    aq::activation_profile profile;
    REQUIRE(profile.reset(c, o.sites) == status::ok);
    packing_source packed(c, o.weights, profile, all_of_them);
    const auto load = [&](auto spoil) {
        struct spoiled {
            aq::weight_source inner;
            decltype(spoil) change;
            static status read(void* self, weight_id id, std::size_t layer, aq::matrix_view<float> out) {
                auto& s = *static_cast<spoiled*>(self);
                return s.inner.read(s.inner.self, id, layer, out);
            }
            static status deliver(void* self, weight_id id, std::size_t layer, aq::packed_weights& out) {
                auto& s = *static_cast<spoiled*>(self);
                AQ_TRY(s.inner.packed(s.inner.self, id, layer, out));
                return s.change(id, out);
            }
        } source{packed.source(), spoil};
        aq::llama model;
        const status s = model.load(c, o, {&source, spoiled::read, spoiled::deliver});
        CHECK(model.is_empty() == (s != status::ok));
        return s;
    };
    CHECK(load([](weight_id, aq::packed_weights&) { return status::ok; }) == status::ok);
    CHECK(load([](weight_id, aq::packed_weights& w) { return w.n += 1, status::ok; }) == status::bad_shape);
    CHECK(load([](weight_id, aq::packed_weights& w) { return w.layout.k -= 1, status::ok; }) == status::bad_shape);
    CHECK(load([](weight_id, aq::packed_weights& w) { return w.tile.nr = 8, status::ok; }) == status::wrong_tile);
    CHECK(load([](weight_id, aq::packed_weights& w) { return w.scales = nullptr, status::ok; }) == status::null_pointer);
    CHECK(load([](weight_id id, aq::packed_weights&) { return id == weight_id::up ? status::source_failed : status::ok; }) ==
          status::source_failed);

    profile.exponents(0, site::attention)[3] = 2;
    packing_source other(c, o.weights, profile, [](weight_id id, std::size_t layer) { return id == weight_id::k && layer == 0; });
    aq::llama model;
    REQUIRE(model.load(c, o, other.source()) == status::ok);
    auto session = session_of(model);
    aq::forward_result r;
    const std::uint32_t token = 1;
    CHECK(session.forward(&token, 1, aq::logits_of::last, r) == status::wrong_layout);
}

TEST_CASE("each site of each layer has the format that the profile gives it") {
    const aq::model_config c = tiny_configs()[0];
    const aq::model_options o = tiny_options(4, 8);
    const token_list tokens = tiny_tokens(c, 20);
    const auto run = [&](const aq::activation_profile* profile) {
        const aq::llama model = tiny_model(c, o, profile);
        auto session = session_of(model);
        return forward(session, tokens).logits;
    };
    const std::vector<float> everywhere = run(nullptr);
    aq::activation_profile profile;
    REQUIRE(profile.reset(c, o.sites) == status::ok);
    CHECK(is_same(run(&profile), everywhere));
    for (std::size_t layer = 0; layer < c.layers; ++layer) {
        for (const site s : {site::attention, site::attention_output, site::mlp, site::mlp_middle}) {
            aq::activation_profile other;
            REQUIRE(other.reset(c, o.sites) == status::ok);
            other.format(layer, s).activations = {4, true, false, {}};
            CHECK_FALSE(is_same(run(&other), everywhere));
        }
    }
    profile.format(c.layers - 1, site::mlp).activations.bits = 9;
    aq::llama model;
    CHECK(model.load(c, o, tiny_weights(1).source(), &profile) == status::bad_argument);
}

namespace {

double distance_to(const std::vector<float>& a, const std::vector<float>& b) {
    double error = 0.0, energy = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        error += (a[i] - b[i]) * (a[i] - b[i]);
        energy += b[i] * b[i];
    }
    return error / energy;
}

}  // namespace

TEST_CASE("a rotation changes nothing in float, and helps 4 bits where channels differ") {
    for (const aq::model_config& c : tiny_configs()) {
        CAPTURE(text(c));
        const token_list tokens = tiny_tokens(c, 20);
        const auto run = [&](aq::model_options o, bool is_rotated, std::size_t step) {
            for (aq::site_format& s : o.sites) s.is_rotated = is_rotated;
            const aq::llama model = tiny_model(c, o);
            auto session = session_of(model);
            return run_in_steps(session, tokens, step);
        };
        const std::vector<float> exact = run({}, false, 20);
        CHECK(distance_to(run({}, true, 20), exact) < 1e-9);
        CHECK_FALSE(is_same(run({}, true, 20), exact));
        const double plain = distance_to(run(tiny_options(8, 4), false, 20), exact);
        const std::vector<float> rotated = run(tiny_options(8, 4), true, 20);
        if (aq::hadamard_block(c.dim) >= 16) CHECK(distance_to(rotated, exact) < plain);  // spread over fewer, it need not
        CHECK(is_same(run(tiny_options(8, 4), true, 7), rotated));
    }
}

TEST_CASE("an observer sees rows as they are before a rotation") {
    const aq::model_config c = tiny_configs()[0];
    const token_list tokens = tiny_tokens(c, 9);
    struct seen_rows {
        std::vector<float> values;
        static void see(void* self, std::size_t, site, aq::matrix_view<const float> x) {
            auto& all = static_cast<seen_rows*>(self)->values;
            all.insert(all.end(), x.data, x.data + x.rows * x.cols);
        }
    };
    const auto run = [&](bool is_rotated) {
        aq::model_options o;
        for (aq::site_format& s : o.sites) s.is_rotated = is_rotated;
        const aq::llama model = tiny_model(c, o);
        auto session = session_of(model);
        seen_rows seen;
        session.observe({&seen, seen_rows::see});
        forward(session, tokens);
        return seen.values;
    };
    const std::vector<float> plain = run(false), rotated = run(true);
    REQUIRE(plain.size() == rotated.size());
    CHECK(distance_to(rotated, plain) < 1e-9);
}
