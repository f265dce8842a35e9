// One site at a time: each mixture of two states against a model that is put together by hand.
#include "calibrate/site_shares.hpp"

#include <doctest/doctest.h>

#include "agilequant/elementwise/hadamard.hpp"
#include "model/threads.hpp"
#include "support/tiny_divergence.hpp"

using aq::site;
using aq::status;
using aq::weight_id;
using namespace aq::example;
using namespace aq_test;

namespace {

/// The site whose input a matrix multiplies, as docs/model.md has it.
std::size_t site_behind(weight_id id) {
    switch (id) {
        case weight_id::q:
        case weight_id::k:
        case weight_id::v: return 0;
        case weight_id::o: return 1;
        case weight_id::gate:
        case weight_id::up: return 2;
        case weight_id::down: return 3;
        default: return 4;
    }
}

constexpr weight_id matrices[] = {weight_id::q,    weight_id::k,  weight_id::v,   weight_id::o,
                                  weight_id::gate, weight_id::up, weight_id::down};

/// A quantized model: formats of its own for each site, exponents, all matrices rounded to nearest for them.
struct state_case {
    aq::activation_profile profile;
    std::vector<aq::packed_storage<>> storage;  // [layers, matrices]
    tiny_weights weights{tiny_seed};

    state_case(const aq::model_config& c, int bits, std::uint64_t seed) : storage(c.layers * std::size(matrices)) {
        random_source random(seed);
        REQUIRE(profile.reset(c) == status::ok);
        for (std::size_t i = 0; i < c.layers * aq::site_count; ++i) {
            const auto where = static_cast<site>(i % aq::site_count);
            aq::site_format& f = profile.format(i / aq::site_count, where);
            f.is_float = random.below(5) == 0;
            f.activations.bits = bits;
            f.activations.is_asymmetric = random.below(2) == 0;
            f.is_rotated = random.below(3) == 0;
            for (std::size_t k = 0; k < profile.channels(where); ++k)
                profile.exponents(i / aq::site_count, where)[k] = static_cast<std::uint8_t>(random.below(3));
        }
        for (std::size_t i = 0; i < storage.size(); ++i) {
            const std::size_t layer = i / std::size(matrices);
            const weight_id id = matrices[i % std::size(matrices)];
            const auto where = static_cast<site>(site_behind(id));
            const aq::matrix_shape shape = aq::shape_of(c, id);
            matrix w(shape.rows, shape.cols);
            REQUIRE(weights.source().read(&weights, id, layer, w.view()) == status::ok);
            if (profile.format(layer, where).is_rotated) REQUIRE(aq::hadamard(w.view()) == status::ok);
            REQUIRE(aq::pack(w.view(), {bits, true, 16}, profile.exponents(layer, where), storage[i]) == status::ok);
        }
    }
    [[nodiscard]] aq::weight_source source() { return {this, read, packed}; }
    [[nodiscard]] model_state state() { return {source(), &profile}; }

    static aq::status read(void* self, weight_id id, std::size_t layer, aq::matrix_view<float> out) {
        tiny_weights& w = static_cast<state_case*>(self)->weights;
        return w.source().read(&w, id, layer, out);
    }
    static aq::status packed(void* self, weight_id id, std::size_t layer, aq::packed_weights& out) {
        auto& s = *static_cast<state_case*>(self);
        for (std::size_t i = 0; i < std::size(matrices); ++i) {
            if (matrices[i] == id) out = s.storage[layer * std::size(matrices) + i].view();
        }
        return status::ok;
    }
};

/// `base` with some sites, [layers * sites], of `other`, put together by hand.
struct by_hand {
    state_case &base, &other;
    std::vector<bool> is_other;
    aq::activation_profile profile;

    by_hand(const aq::model_config& c, state_case& from, state_case& to, std::vector<bool> changed)
        : base(from), other(to), is_other(std::move(changed)) {
        REQUIRE(profile.reset(c) == status::ok);
        for (std::size_t i = 0; i < is_other.size(); ++i) {
            const std::size_t layer = i / 4;
            const auto where = static_cast<site>(i % 4);
            const aq::activation_profile& p = is_other[i] ? other.profile : base.profile;
            profile.format(layer, where) = p.format(layer, where);
            for (std::size_t k = 0; k < p.channels(where); ++k) profile.exponents(layer, where)[k] = p.exponents(layer, where)[k];
        }
    }
    static aq::status read(void* self, weight_id id, std::size_t layer, aq::matrix_view<float> out) {
        return state_case::read(&static_cast<by_hand*>(self)->base, id, layer, out);
    }
    static aq::status packed(void* self, weight_id id, std::size_t layer, aq::packed_weights& out) {
        auto& s = *static_cast<by_hand*>(self);
        if (site_behind(id) == 4) return status::ok;
        return state_case::packed(s.is_other[layer * 4 + site_behind(id)] ? &s.other : &s.base, id, layer, out);
    }
    template <class Kind>
    plain_divergence divergence(const aq::model_config& c, const std::vector<token_list>& windows,
                                const aq::model_options& formats) {
        return divergence_of<Kind>(c, windows, formats, {this, read, packed}, &profile);
    }
};

void check(double kl, const plain_divergence& plain) {
    CAPTURE(kl);
    CAPTURE(plain.mean());
    CHECK(std::fabs(kl - plain.mean()) <= plain.tolerance());
}

}  // namespace

TEST_CASE_TEMPLATE("site shares: each site alone, none and all of them, are what models put together by hand are", F, llama_kind,
                   opt_kind, bloom_kind) {
    for (const aq::model_config& c : tiny_configs()) {
        CAPTURE(text(c));
        const auto windows = tiny_windows(c);
        aq::model_options formats;
        formats.kv_bits = 8;
        REQUIRE(formats.pruning.add(0, 0.2) == status::ok);
        state_case base(c, 8, 3), changed(c, 4, 4);
        const aq::models::loaded_model model = tiny_loaded<F>(c, base.weights);
        output_distance distance;
        REQUIRE(distance.begin(model, windows, tiny_run(formats)) == status::ok);
        site_shares shares;
        std::vector<double> progress;
        REQUIRE(measure_shares(distance, base.state(), changed.state(), shares, [&](double d) { progress.push_back(d); }) ==
                status::ok);
        const std::size_t count = c.layers * aq::site_count;
        REQUIRE(shares.sites.size() == count);
        REQUIRE(progress.size() == count + 2);
        CHECK(std::is_sorted(progress.begin(), progress.end()));
        CHECK(progress.back() == 1.0);
        check(shares.base, by_hand(c, base, changed, std::vector<bool>(count)).divergence<F>(c, windows, formats));
        check(shares.all, by_hand(c, base, changed, std::vector<bool>(count, true)).divergence<F>(c, windows, formats));
        double sum = 0.0, all_shares = 0.0;
        for (std::size_t i = 0; i < count; ++i) {
            CAPTURE(i);
            std::vector<bool> one(count);
            one[i] = true;
            check(shares.sites[i], by_hand(c, base, changed, one).divergence<F>(c, windows, formats));
            CHECK(shares.sites[i] != shares.base);
            sum += shares.sites[i] - shares.base;
        }
        for (std::size_t i = 0; i < count; ++i) {
            CHECK(shares.share(i) == doctest::Approx((shares.sites[i] - shares.base) / sum));
            all_shares += shares.share(i);
        }
        CHECK(all_shares == doctest::Approx(1.0));
    }
}

TEST_CASE("site shares: from float, a site that stays float costs nothing, and threads change no bit") {
    const aq::model_config c = tiny_configs()[0];
    const auto windows = tiny_windows(c);
    tiny_weights weights(tiny_seed);
    const aq::models::loaded_model model = tiny_loaded<llama_kind>(c, weights);
    state_case changed(c, 4, 4);
    aq::activation_profile in_float;
    REQUIRE(in_float.reset(c) == status::ok);
    std::vector<site_shares> found;
    for (const named_executor& e : all_executors(2)) {
        output_distance distance;
        REQUIRE(distance.begin(model, windows, tiny_run({}, e.threads)) == status::ok);
        site_shares shares;
        REQUIRE(measure_shares(distance, {model.source, &in_float}, changed.state(), shares) == status::ok);
        found.push_back(shares);
        CHECK(shares.base == 0.0);
        CHECK(shares.all > 0.0);
        CHECK(shares.sites == found[0].sites);
        CHECK(shares.all == found[0].all);
    }
    for (const double kl : found[0].sites) CHECK(kl > 0.0);
    output_distance distance;
    REQUIRE(distance.begin(model, windows, tiny_run()) == status::ok);
    site_shares none;
    REQUIRE(measure_shares(distance, {model.source, &in_float}, {model.source, &in_float}, none) == status::ok);
    CHECK(none.sites == std::vector<double>(c.layers * aq::site_count));
    CHECK(none.all == 0.0);
    CHECK(none.share(0) == 0.0);
}

TEST_CASE("site shares: any mixture, whatever it was before") {
    const aq::model_config c = tiny_configs()[1];
    const auto windows = tiny_windows(c);
    state_case base(c, 8, 5), changed(c, 3, 6);
    const std::size_t count = c.layers * aq::site_count;
    const aq::models::loaded_model model = tiny_loaded<opt_kind>(c, base.weights);
    output_distance distance;
    REQUIRE(distance.begin(model, windows, tiny_run()) == status::ok);
    mixed_state mixed;
    REQUIRE(mixed.reset(model.family, c, base.state(), changed.state()) == status::ok);
    for (std::uint64_t seed = 1; seed <= 6; ++seed) {
        CAPTURE(seed);
        random_source random(seed);
        std::vector<bool> is_other;
        for (std::size_t i = 0; i < count; ++i) {
            is_other.push_back(random.below(2) == 1);
            mixed.take_second(i / aq::site_count, static_cast<site>(i % aq::site_count), is_other[i]);
        }
        for (std::size_t i = 0; i < count; ++i) {  // which packed matrices have within, but others may ask for them
            const auto where = static_cast<site>(i % aq::site_count);
            const std::uint8_t* const exponents = mixed.state().profile->exponents(i / aq::site_count, where);
            const aq::activation_profile& p = is_other[i] ? changed.profile : base.profile;
            CHECK(std::equal(exponents, exponents + p.channels(where), p.exponents(i / aq::site_count, where)));
        }
        double kl = 0.0;
        REQUIRE(distance.of(mixed.state().weights, *mixed.state().profile, kl) == status::ok);
        check(kl, by_hand(c, base, changed, is_other).divergence<opt_kind>(c, windows, {}));
    }
}

TEST_CASE("site shares: what is refused") {
    const aq::model_config c = tiny_configs()[2];
    state_case base(c, 8, 3), changed(c, 4, 4), foreign(tiny_configs()[0], 4, 4);
    const aq::models::loaded_model model = tiny_loaded<llama_kind>(c, base.weights);
    output_distance distance;
    site_shares shares;
    CHECK(measure_shares(distance, base.state(), changed.state(), shares) == status::bad_argument);
    REQUIRE(distance.begin(model, tiny_windows(c), tiny_run()) == status::ok);
    CHECK(measure_shares(distance, base.state(), foreign.state(), shares) == status::bad_shape);
    CHECK(measure_shares(distance, base.state(), {changed.source(), nullptr}, shares) == status::null_pointer);
    CHECK(measure_shares(distance, {{}, &base.profile}, changed.state(), shares) == status::null_pointer);
    base.weights.fail_from(base.weights.reads());
    CHECK(measure_shares(distance, base.state(), changed.state(), shares) == status::source_failed);
}
