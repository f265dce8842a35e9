// Model files whose checksums are right and whose contents are not: each is refused by file, entry and field.
#include <doctest/doctest.h>

#include "models/model_file_rewriter.hpp"
#include "support/effort.hpp"

using namespace aq_test;
using namespace aq::models;

TEST_CASE("hostile model file: fields of the description") {
    const rewriter r;
    CHECK(r.refusal_with({}) == "");
    const struct {
        const char *field, *values;  // separated by blanks
    } all[] = {
        {"version", "0 2 -1 1.0 \"1\" 99999999999999999999 []"},
        {"name", "7 \"\" \"a\\u001b[31m\" \"a\\nb\" \"\\u0085\""},
        {"family", "\"gpt\" 3 \"\""},
        {"vocabulary", "0 -1 16777217 1e99 256.0 \"256\" 18446744073709551615 true {}"},
        {"dim", "0 -32 16777217 33.5 16777216"},
        {"hidden", "0 16777217 {}"},
        {"layers", "0 -2 4097 2.0 9223372036854775808"},
        {"heads", "0 3 16777216 -4"},
        {"kv_heads", "0 3 8"},
        {"max_length", "0 4194305 -1"},
        {"rope_theta", "0 -1 \"1\" 1e31"},
        {"norm_eps", "-1 2 \"x\""},
        {"rope", "\"spiral\" 1"},
        {"bos", "-1 256 1.0 \"a\" 4294967296 []"},
        {"eos", "3 \"x\" {} [256] [-1] [0.5] [[0]]"},
        {"weight_bits", "0 1 9 15 17 -4 4.0 \"4\" 4294967300 16"},
        {"activation_bits", "0 1 9 15 17 -4 18446744073709551615"},
        {"paper_sites", "1 \"yes\""},
        {"group", "-1 64.5 9223372036854775808 \"a\""},
        {"symmetric", "0"},
        {"two_level", "\"no\""},
        {"trip", "\"maybe\" 0"},
        {"trip_k", "-1 8 0.5"},
        {"attention", "\"log3\" \"\\u001b\" 2"},
        {"kv_bits", "0 3 5 16 33 -8 8.0"},
        {"kv_group", "-16 17 1 1e3"},
        {"rotate_keys", "\"sometimes\" true"},
        {"prune", "-0.1 1 0.991 \"0\""},
        {"prune_layers", "\"1;2\" \"\\u001b[1m\" 2"},
    };
    for (const auto& [field_name, values] : all) {
        const std::string field = field_name, list = values;
        for (std::size_t begin = 0; begin < list.size();) {
            const std::size_t end = std::min(list.find(' ', begin), list.size());
            const std::string value = list.substr(begin, end - begin), message = r.refusal_of_field("model.json", field, value);
            begin = end + 1;
            CAPTURE(field);
            CAPTURE(value);
            CAPTURE(message);
            CHECK(contains(message, "bad: model.json: "));
            const bool is_of_several = field == "dim" || field == "heads" || field == "kv_heads" || value == "16";
            CHECK((is_of_several || contains(message, "model.json: " + field + ": ")));
            CHECK(message.find_first_of("\x1B\n") == message.npos);
        }
    }
    for (const char* field : {"version", "family", "vocabulary", "dim", "layers", "rope_theta", "norm_eps", "weight_bits",
                              "activation_bits", "group", "trip_k", "kv_bits", "kv_group"}) {
        CAPTURE(std::string(field));
        CHECK(contains(r.refusal_of_field("model.json", field, ""), std::string("model.json: ") + field + ": is "));
    }
    const std::string long_name = "\"" + std::string(300, 'x') + "\"", long_list = "\"" + std::string(300, '1') + "\"";
    CHECK(contains(r.refusal_of_field("model.json", "name", long_name), "model.json: name: "));
    CHECK(contains(r.refusal_of_field("model.json", "prune_layers", long_list), "model.json: prune_layers: "));
    CHECK(contains(r.refusal_of_field("model.json", "version", "2"), "version: is 2 but only 1 is read"));
    CHECK(r.refusal_of_field("model.json", "of a later version", "[1]") == "");  // passed over
}

TEST_CASE("hostile model file: sizes that the weights do not have allocate nothing") {
    const rewriter r;
    const auto with = [&](const char* field, const char* value) { return r.refusal_of_field("model.json", field, value); };
    CHECK(contains(with("layers", "4096"), "layers.2.q: is missing"));
    CHECK(contains(with("layers", "1"), "'layers.1."));
    CHECK(contains(with("vocabulary", "16777216"), "embedding: is [256,32] but the model has [16777216,32]"));
    CHECK(contains(with("hidden", "16777216"), "layers.0.gate: is [44,32] but the model has [16777216,32]"));
    CHECK(contains(with("dim", "64"), "layers.0.q: is [32,32] but the model has [64,64]"));
    CHECK(with("max_length", "4194304") == "");  // RoPE: whoever runs it says how much of that there is memory for
    aq::pack_writer writer;
    std::string json = rewriter::changed(rewriter::changed(r.text("model.json"), "layers", "4096"), "hidden", "16777216"), bytes;
    REQUIRE(writer.add("model.json", std::string_view(json)) == aq::status::ok);
    REQUIRE(writer.write(sink_of(bytes)) == aq::status::ok);
    CHECK(contains(r.refusal_of_bytes(bytes), "bad: layers.0.q: is missing"));
    const rewriter opt(family::opt);
    CHECK(contains(opt.refusal_of_field("model.json", "max_length", "4194304"),
                   "positions: is [24,32] but the model has [4194304,32]"));
    CHECK(contains(opt.refusal_of_field("model.json", "family", "\"llama\""), "layers.0.gate: is missing"));
    CHECK(contains(opt.refusal_of_field("model.json", "family", "\"bloom\""), "embedding_norm: is missing"));
}

TEST_CASE("hostile model file: what is no JSON") {
    const rewriter r;
    const std::string good = r.text("model.json"), deep = "{\"a\": " + std::string(2000, '[') + std::string(2000, ']') + "}";
    const std::string objects = [] {
        std::string s;
        for (int i = 0; i < 100; ++i) s += "{\"a\":";
        return s + "1" + std::string(100, '}');
    }();
    for (const std::string entry : {"model.json", "layers.1.sites"}) {
        for (const std::string& text :
             {std::string(""), std::string("{"), std::string("[]"), std::string("3"), std::string("null"),
              good.substr(0, good.size() / 2), good + "x", std::string("{\"a\": 1e999}"), deep, objects,
              std::string("{\"dim\": 1, \"dim\": 1}"), std::string("\xFF\xFE{}"), std::string(64, '\0')}) {
            const std::string message = r.refusal_of_text(entry, text);
            CAPTURE(text.substr(0, 30));
            CHECK(contains(message, "bad: " + entry + ": "));
        }
        CHECK(contains(r.refusal_of_text(entry, deep), "nested deeper"));
        CHECK(contains(r.refusal_of_text(entry, "{\"a\": \"" + std::string(2 << 20, 'x') + "\"}"), "bad: " + entry + ": "));
    }
}

TEST_CASE("hostile model file: formats of sites") {
    const rewriter r;
    const std::string entry = "layers.0.sites";
    const auto with = [&](const char* object, const char* field, const char* value) {
        return r.refusal_of_field(entry, field, value, object);
    };
    const struct {
        const char *object, *field, *value;
    } all[] = {
        {"attention", "bits", "9"},
        {"attention", "bits", "1"},
        {"attention", "bits", "0"},
        {"attention", "bits", "17"},
        {"attention", "bits", "4.0"},
        {"attention", "bits", "\"4\""},
        {"attention", "asymmetric", "1"},
        {"attention", "scale", "0"},
        {"attention", "scale", "-1"},
        {"attention", "scale", "1e39"},
        {"attention", "scale", "1e-300"},
        {"attention", "scale", "\"a\""},
        {"attention", "zero", "256"},
        {"attention", "zero", "3.5"},
        {"attention", "zero", "-1"},
        {"attention", "zero", "1e300"},
        {"attention", "zero", "16"},
        {"attention", "rotated", "0"},
        {"attention_output", "clip", "0"},
        {"attention_output", "clip", "1.01"},
        {"attention_output", "clip", "-1"},
        {"attention_output", "clip", "[]"},
        {"mlp", "bits", "-1"},
        {"mlp_middle", "bits", "{}"},
    };
    for (const auto& one : all) {
        const std::string object = one.object, field = one.field, value = one.value,
                          message = with(one.object, one.field, one.value);
        CAPTURE(object);
        CAPTURE(field);
        CAPTURE(value);
        CAPTURE(message);
        CHECK(contains(message, "bad: layers.0.sites: " + object + ": "));
    }
    CHECK(contains(with("attention", "zero", ""), "attention: zero: is missing"));
    CHECK(contains(with("attention", "bits", ""), "attention: bits: is missing"));
    CHECK(contains(r.refusal_of_text(entry, "{}"), "layers.0.sites: attention: is missing"));
    CHECK(contains(r.refusal_of_text(entry, "{\"attention\": 4}"), "layers.0.sites: attention: "));
    CHECK(contains(r.refusal_of_text(entry, "{\"a\\u001b\": {}}"), "layers.0.sites: 'a?': is no site"));
}

TEST_CASE("hostile model file: entries that are missing, of another kind or shape, or have no place") {
    for (const family f : families) {
        const rewriter r(f);
        for (const std::string& name : r.names()) {
            CAPTURE(name);
            if (name != "head") CHECK(contains(r.refusal_with({}, name), "bad: " + name + ": is missing"));
            const std::vector<float> values(64);
            const auto floats = [&](aq::pack_writer& w) {
                return w.add(name, aq::matrix_view<const float>{values.data(), 7, 9});
            };
            CHECK(contains(r.refusal_with({{name, floats}}), "bad: " + name + ": "));
            const auto bytes = [&](aq::pack_writer& w) { return w.add(name, std::string_view("7")); };
            CHECK(contains(r.refusal_with({{name, bytes}}), "bad: " + name + ": "));
            const auto matrix = [&](aq::pack_writer& w) {
                return w.add(name, r.matrix(name.find("down") == name.npos ? "layers.0.down" : "layers.0.q"));
            };
            CHECK(contains(r.refusal_with({{name, matrix}}), "bad: " + name + ": "));
        }
        for (const std::string name : {"layers.2.q", "layers.0.q2", "nonsense", "mark", "layers.00.q", "layers.0.\xC3\xA9"}) {
            const auto more = [&](aq::pack_writer& w) { return w.add(name, std::string_view("x")); };
            CHECK(contains(r.refusal_with({{name, more}}), "has no place in the model"));
        }
    }
}

TEST_CASE("hostile model file: matrices of one site that are packed for different inputs") {
    const rewriter r;
    const std::vector<float> w = r.original().values(r.original().model.source, weight_id::k, 0);
    aq::packed_storage<> packed;
    REQUIRE(aq::pack({w.data(), 16, 32}, {4, true, 16}, nullptr, packed) == aq::status::ok);  // without the site's exponents
    const auto add = [&](aq::pack_writer& writer) { return writer.add("layers.0.k", packed.view()); };
    CHECK(contains(r.refusal_with({{"layers.0.k", add}}), "bad: layers.0.k: is packed for another input than layers.0.q"));
}

TEST_CASE("hostile model file: a vocabulary without its tokenizer, and a broken one") {
    const rewriter r;
    const temporary_folder folder;
    const std::string tokenizer = llama2c_vocabulary({});  // 259 tokens; the model has 256
    CHECK(contains(r.refusal_of_text("tokenizer.bin", tokenizer), "bad: tokenizer.bin: "));
    model_file_case c(family::llama, false, nullptr, 259);  // which takes the bytes for its tokens
    write_model_file(folder.path() / "m", c.model, c.q, c.made_for);
    CHECK(contains(refusal([&] { return load_model_file(mapped_file(folder.path() / "m")).name; }),
                   "m: tokenizer.bin: is missing"));
}

TEST_CASE("hostile model file: no damaged byte is overlooked, and no text in place of the description does harm") {
    const rewriter r;
    const std::string good = r.bytes();
    random_source random(77);
    for (std::size_t i = 0; i < 400 / slowdown; ++i) {
        std::string bytes = good;
        const std::size_t at = random.below(i % 2 == 0 ? 8192 : bytes.size());
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
        CAPTURE(at);
        CHECK(contains(r.refusal_of_bytes(bytes), "bad: "));
        if (i % 8 == 0) CHECK(contains(r.refusal_of_bytes(good.substr(0, at + 1)), "bad: "));
    }
    const std::string digits = "0123456789-.e\",:{}[]\x1B n";
    for (std::size_t i = 0; i < 400 / slowdown; ++i) {
        for (const std::string entry : {"model.json", "layers.1.sites"}) {
            std::string text = r.text(entry);
            for (std::size_t n = 0; n <= random.below(3); ++n)
                text[random.below(text.size())] = digits[random.below(digits.size())];
            const std::string message = r.refusal_of_text(entry, text);  // or none: some numbers may be others
            CHECK(message.find_first_of("\x1B\n") == message.npos);
        }
    }
}
