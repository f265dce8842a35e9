// A conversation: how tokens may be cut into calls, what it refuses and what is left of it then.
#include "agilequant/model/session.hpp"

#include <doctest/doctest.h>

#include "model/plain_llama.hpp"
#include "model/threads.hpp"

using aq::logits_of;
using aq::status;
using namespace aq_test;

TEST_CASE("n tokens at once, token by token, and in any pieces: the same bits, on every cache") {
    for (const aq::model_config& c : tiny_configs())
        for (const bool is_float : {true, false})
            for (const int kv_bits : {32, 8, 4}) {
                CAPTURE(text(c));
                CAPTURE(is_float);
                CAPTURE(kv_bits);
                const aq::llama model = tiny_model(c, tiny_options(is_float ? 16 : 4, is_float ? 16 : 8, kv_bits));
                const token_list tokens = tiny_tokens(c, c.max_length);
                aq::llama_session session = session_of(model);
                const std::vector<float> expected = forward(session, tokens).logits;
                CHECK(expected.size() == tokens.size() * c.vocabulary);
                for (const std::size_t step : {std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{16}}) {
                    CAPTURE(step);
                    session.clear();
                    CHECK(is_same(run_in_steps(session, tokens, step), expected));
                }
                for (std::size_t layer = 0; layer < c.layers; ++layer) CHECK(session.cache(layer).length() == tokens.size());
            }
}

TEST_CASE("the last logits are those of the last token") {
    const aq::model_config c = tiny_configs()[0];
    const aq::llama model = tiny_model(c, tiny_options(4, 8, 8));
    const token_list tokens = tiny_tokens(c, 13);
    aq::llama_session all = session_of(model), last = session_of(model);
    const outcome_of_run a = forward(all, tokens, logits_of::all), b = forward(last, tokens, logits_of::last);
    CHECK(a.kept.size() == 13);
    CHECK(b.kept == a.kept);
    CHECK(a.kept.back() == 12);
    CHECK(a.sparsity == 0.0);
    CHECK(b.logits.size() == c.vocabulary);
    CHECK(is_same(b.logits, {a.logits.end() - 37, a.logits.end()}));
}

TEST_CASE("a session starts again after clear and reset, as if it were new") {
    const aq::model_config c = tiny_configs()[1], d = tiny_configs()[0];
    const aq::llama model = tiny_model(c, tiny_options(4, 8, 4)), other = tiny_model(d);
    const token_list tokens = tiny_tokens(d, 9), noise = tiny_tokens(c, 20, 8);
    aq::llama_session session = session_of(model);
    const std::vector<float> expected = forward(session, tokens).logits;
    forward(session, noise);
    session.clear();
    CHECK(session.cache_bytes() == 0);
    CHECK(is_same(forward(session, tokens).logits, expected));
    REQUIRE(session.reset(other, chosen_kernels(), aq::serial_executor()) == status::ok);
    aq::llama_session fresh = session_of(other);
    CHECK(is_same(forward(session, tokens).logits, forward(fresh, tokens).logits));
    REQUIRE(session.reset(model, chosen_kernels(), aq::serial_executor(), 9) == status::ok);
    CHECK(is_same(forward(session, tokens).logits, expected));
}

TEST_CASE("threads: 1 to 8 of any kind give the same bits, prompt and steps") {
    const aq::model_config c = tiny_configs()[0];
    for (const aq::model_options& o : {tiny_options(16, 16), tiny_options(4, 8, 8, aq::probability_coding::log2_half_ceiling)}) {
        const aq::llama model = tiny_model(c, o);
        const token_list tokens = tiny_tokens(c, 40);
        aq::llama_session serial = session_of(model);
        std::vector<float> expected = forward(serial, part_of(tokens, 0, 30)).logits;
        const std::vector<float> steps = run_in_steps(serial, part_of(tokens, 30, 10), 1);
        for (const named_executor& e : all_executors(8)) {
            CAPTURE(e.name);
            aq::llama_session session = session_of(model, e.threads);
            CHECK(is_same(forward(session, part_of(tokens, 0, 30)).logits, expected));
            CHECK(is_same(run_in_steps(session, part_of(tokens, 30, 10), 1), steps));
        }
    }
}

TEST_CASE("tokens and capacity: what is refused leaves the sequence as it was") {
    const aq::model_config c = tiny_configs()[0];
    const aq::llama model = tiny_model(c);
    const token_list tokens = tiny_tokens(c, 12);
    aq::llama_session whole = session_of(model);
    const std::vector<float> expected = run_in_steps(whole, tokens, 6);
    aq::llama_session session = session_of(model, aq::serial_executor(), 12);
    aq::forward_result r;
    token_list bad = part_of(tokens, 0, 6);
    bad[4] = static_cast<std::uint32_t>(c.vocabulary);
    const auto refuses_everything = [&](std::size_t room) {
        CHECK(session.forward(bad.data(), std::min<std::size_t>(room, 6), logits_of::all, r) == (room == 0 ? status::bad_argument
                                                                                                 : room < 5
                                                                                                     ? status::ok
                                                                                                     : status::bad_argument));
        CHECK(session.forward(nullptr, 3, logits_of::all, r) == status::bad_argument);
        CHECK(session.forward(tokens.data(), 0, logits_of::all, r) == status::bad_argument);
        bad[4] = 0xFFFFFFFFU;
        CHECK(session.forward(bad.data(), 5, logits_of::last, r) == (room < 5 ? status::cache_full : status::bad_argument));
        const token_list many = tiny_tokens(c, room + 1);
        CHECK(session.forward(many.data(), many.size(), logits_of::all, r) == status::cache_full);
    };
    refuses_everything(12);
    CHECK(session.cache(0).length() == 0);
    std::vector<float> logits = forward(session, part_of(tokens, 0, 6)).logits;
    refuses_everything(6);
    const std::vector<float> rest = forward(session, part_of(tokens, 6, 6)).logits;
    logits.insert(logits.end(), rest.begin(), rest.end());
    CHECK(is_same(logits, expected));
    refuses_everything(0);
    for (std::size_t layer = 0; layer < c.layers; ++layer) CHECK(session.cache(layer).length() == 12);
}

TEST_CASE("reset: capacity, empty models, and sessions without one") {
    const aq::model_config c = tiny_configs()[0];
    const aq::llama model = tiny_model(c), empty;
    aq::llama_session session;
    aq::forward_result r;
    const std::uint32_t token = 1;
    CHECK(session.forward(&token, 1, logits_of::last, r) == status::bad_argument);
    CHECK(session.cache_bytes() == 0);
    session.clear();
    CHECK(session.reset(empty, chosen_kernels(), {}) == status::bad_argument);
    CHECK(session.reset(model, chosen_kernels(), {}, c.max_length + 1) == status::bad_argument);
    CHECK(session.forward(&token, 1, logits_of::last, r) == status::bad_argument);
    REQUIRE(session.reset(model, chosen_kernels(), {}) == status::ok);
    CHECK(session.cache(2).capacity() == c.max_length);
    REQUIRE(session.reset(model, chosen_kernels(), {}, 1) == status::ok);
    CHECK(session.forward(&token, 1, logits_of::last, r) == status::ok);
    CHECK(session.forward(&token, 1, logits_of::last, r) == status::cache_full);
    CHECK(session.reset(empty, chosen_kernels(), {}) == status::bad_argument);
    CHECK(session.forward(&token, 1, logits_of::last, r) == status::bad_argument);
}

TEST_CASE("the cache takes what its bits say") {
    const aq::model_config c = tiny_configs()[3];  // heads of 36: 48 channels, one group
    const token_list tokens = tiny_tokens(c, 10);
    const auto used = [&](int bits) {
        const aq::llama model = tiny_model(c, tiny_options(16, 16, bits));
        aq::llama_session session = session_of(model);
        forward(session, tokens);
        return session.cache_bytes();
    };
    CHECK(used(32) == 10 * 4 * 2 * 48 * 4);
    CHECK(used(8) == 10 * 4 * 2 * (48 + 2));
    CHECK(used(4) == 10 * 4 * (2 * (24 + 2) + 1));
}

TEST_CASE("a cache in 8 bits is nearer to float than one in 4, and both are near") {
    const aq::model_config c = tiny_configs()[0];
    const token_list tokens = tiny_tokens(c, 40);
    const auto logits = [&](int bits) {
        const aq::llama model = tiny_model(c, tiny_options(16, 16, bits));
        aq::llama_session session = session_of(model);
        return forward(session, tokens).logits;
    };
    const std::vector<float> exact = logits(32);
    const auto distance = [&](int bits) {
        const std::vector<float> coded = logits(bits);
        double error = 0.0, size = 0.0;
        for (std::size_t i = 0; i < exact.size(); ++i) {
            error += std::pow(static_cast<double>(coded[i]) - static_cast<double>(exact[i]), 2.0);
            size += std::pow(static_cast<double>(exact[i]), 2.0);
        }
        return error / size;
    };
    const double at_8 = distance(8), at_4 = distance(4);
    CAPTURE(at_8);
    CAPTURE(at_4);
    CHECK(at_8 > 0.0);
    CHECK(at_8 * 30 < at_4);
    CHECK(at_4 < 0.5);
}
