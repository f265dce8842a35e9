#include "models/tokenizer.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "models/files.hpp"
#include "support/skip.hpp"

using namespace aq::models;
using aq_test::contains;
using aq_test::llama2c_vocabulary;
using aq_test::raw;
using aq_test::refusal;

namespace {

const std::filesystem::path shared = std::filesystem::path(AQ_SHARED_DATA) / "llama";

std::string read_file(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

/// The scores and texts of a vocabulary file, read without any check.
struct piece {
    float score;
    std::string text;
};

std::vector<piece> pieces_of(const std::string& file) {
    std::vector<piece> pieces;
    for (std::size_t at = 4; at < file.size();) {
        piece p{};
        std::int32_t length = 0;
        std::memcpy(&p.score, &file[at], 4);
        std::memcpy(&length, &file[at + 4], 4);
        p.text = file.substr(at + 8, static_cast<std::size_t>(length));
        at += 8 + p.text.size();
        pieces.push_back(p);
    }
    return pieces;
}

int lookup(const std::vector<piece>& pieces, const std::string& text) {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
        if (pieces[i].text == text) return static_cast<int>(i);
    }
    return -1;
}

/// The definition: as long as two neighbours have a union, merge those with the best score, the leftmost where scores are
/// equal. `text` is ASCII.
std::vector<int> encode_by_definition(const std::vector<piece>& pieces, const std::string& text) {
    std::vector<int> tokens;
    for (const char c : " " + text) {
        const int id = lookup(pieces, std::string(1, c));
        tokens.push_back(id >= 0 ? id : 3 + static_cast<unsigned char>(c));
    }
    for (;;) {
        std::size_t best = tokens.size();
        int merged = -1;
        for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
            const int id = lookup(
                pieces, pieces[static_cast<std::size_t>(tokens[i])].text + pieces[static_cast<std::size_t>(tokens[i + 1])].text);
            if (id >= 0 &&
                (merged < 0 || pieces[static_cast<std::size_t>(id)].score > pieces[static_cast<std::size_t>(merged)].score))
                best = i, merged = id;
        }
        if (merged < 0) return tokens;
        tokens[best] = merged;
        tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
}

std::string decode_all(const tokenizer& t, const std::vector<int>& tokens, int previous) {
    std::string text;
    for (const int token : tokens) {
        text += t.decode(token, previous);
        previous = token;
    }
    return text;
}

}  // namespace

TEST_CASE("byte tokenizer: a token is a byte") {
    const auto t = make_byte_tokenizer();
    std::string text;
    for (int i = 0; i < 256; ++i) text += static_cast<char>(i);
    const std::vector<int> tokens = t->encode(text);
    REQUIRE(tokens.size() == 256);
    for (int i = 0; i < 256; ++i) CHECK(tokens[static_cast<std::size_t>(i)] == i);
    CHECK(decode_all(*t, tokens, 0) == text);
    CHECK(t->encode("").empty());
    CHECK(t->decode(256, 0).empty());
    CHECK(t->decode(-1, 0).empty());
}

TEST_CASE("llama2.c tokenizer: merges, byte fallback and the space in front") {
    const std::string file = llama2c_vocabulary({"ab", "bc", " a", " ", "a", "b", "c", "\xC3\xA9", "abc"});
    const auto t = make_llama2c_tokenizer({"tokenizer.bin", file}, 268);
    enum : int { ab = 259, bc, _a, space, a, b, c, e_acute, abc };
    CHECK(t->encode("").empty());
    CHECK(t->encode("abc") == std::vector<int>{space, abc});  // ab first (score 0), then abc, though " a" scores more than abc
    CHECK(t->encode("bcb") == std::vector<int>{space, bc, b});
    CHECK(t->encode("a") == std::vector<int>{_a});
    CHECK(t->encode("\xC3\xA9") == std::vector<int>{space, e_acute});
    CHECK(t->encode("\xC3") == std::vector<int>{space, 3 + 0xC3});
    CHECK(t->encode("\xE2\x82\xAC") == std::vector<int>{space, 3 + 0xE2, 3 + 0x82, 3 + 0xAC});
    CHECK(t->encode("\x80\x80\x80\x80\x80z") ==
          std::vector<int>{space, 3 + 0x80, 3 + 0x80, 3 + 0x80, 3 + 0x80, 3 + 0x80, 3 + 'z'});
    CHECK(t->encode(std::string(1, '\0')) == std::vector<int>{space, 3});

    CHECK(t->decode(_a, 1) == "a");  // after the start of the text its space goes
    CHECK(t->decode(_a, b) == " a");
    CHECK(t->decode(3 + 0x0A, 1) == "\n");
    CHECK(t->decode(3 + 0x20, 1) == " ");
    CHECK(t->decode(268, 1).empty());
    CHECK(t->decode(-1, 1).empty());
}

TEST_CASE("llama2.c tokenizer: the queue merges what the definition merges") {
    constexpr unsigned seed = 11;
    CAPTURE(seed);
    std::mt19937 random(seed);
    const auto pick = [&](std::size_t bound) { return static_cast<std::size_t>(random() % bound); };
    for (int round = 0; round < 60; ++round) {
        // Short words over three letters, each once, with scores that often tie.
        std::vector<std::string> words{"a", "b", " "};
        for (int i = 0; i < 25; ++i) {
            std::string word;
            for (std::size_t n = 2 + pick(3); n > 0; --n) word += "ab "[pick(3)];
            if (std::find(words.begin(), words.end(), word) == words.end()) words.push_back(word);
        }
        std::string file = llama2c_vocabulary({});
        for (const std::string& word : words)
            file += raw(-static_cast<float>(pick(6))) + raw(static_cast<std::int32_t>(word.size())) + word;
        const auto t = make_llama2c_tokenizer({"tokenizer.bin", file}, 259 + words.size());
        std::string text;
        for (std::size_t n = 1 + pick(60); n > 0; --n) text += "aabb c"[pick(6)];
        CHECK(t->encode(text) == encode_by_definition(pieces_of(file), text));
    }
}

TEST_CASE("llama2.c tokenizer: a long text takes no quadratic time") {
    const auto t = make_llama2c_tokenizer({"tokenizer.bin", llama2c_vocabulary({"aa", "aaaa", "a", " "})}, 263);
    const std::vector<int> tokens = t->encode(std::string(400000, 'a'));
    CHECK(tokens.size() == 1 + 100000);
}

TEST_CASE("llama2.c tokenizer: broken files are refused by token") {
    const std::string good = llama2c_vocabulary({"ab", ""});
    const auto message_of = [](const std::string& file, std::size_t vocabulary = 261) {
        return refusal([&] { return make_llama2c_tokenizer({"tokenizer.bin", file}, vocabulary); });
    };
    CHECK(message_of(good) == "");
    for (std::size_t size = 0; size < good.size(); ++size) CHECK(contains(message_of(good.substr(0, size)), "tokenizer.bin: "));
    CHECK(contains(message_of(good, 260), "the file goes on for 8 bytes after the 260 tokens"));
    CHECK(contains(message_of(good, 262), "token 261 takes 4 bytes"));
    CHECK(contains(message_of(good, 258), "has no room for the 259"));
    CHECK(contains(message_of(llama2c_vocabulary({"ab", ""}, 5)), "token 2: the length is 6, outside 0 to max_token_length, 5"));
    CHECK(contains(message_of(llama2c_vocabulary({"ab", ""}, -1)), "max_token_length is -1"));

    const std::size_t end = good.size() - 8;  // of the last token's score and length
    const auto with_last = [&](float score, std::int32_t length) { return good.substr(0, end) + raw(score) + raw(length); };
    CHECK(contains(message_of(with_last(0.0F, -1)), "token 260: the length is -1"));
    CHECK(contains(message_of(with_last(0.0F, std::numeric_limits<std::int32_t>::max())), "token 260: the length is 2147483647"));
    CHECK(contains(message_of(with_last(0.0F, 16)), "token 260 takes 16 bytes"));
    CHECK(contains(message_of(with_last(std::numeric_limits<float>::quiet_NaN(), 0)),
                   "token 260: the score is not a finite number"));
    std::string swapped = good;
    swapped[swapped.find("<0x41>") + 3] = '5';
    CHECK(contains(message_of(swapped), "token 68: is '<0x51>' but must be the byte <0x41>"));
}

TEST_CASE("llama2.c tokenizer: the published vocabulary gives the golden tokens") {
    if (!aq_test::have(shared / "golden.json") || !aq_test::have(shared / "tok512.bin")) return;
    const std::string file = read_file(shared / "tok512.bin");
    const auto t = make_llama2c_tokenizer({"tok512.bin", file}, 512);
    const auto golden = nlohmann::json::parse(read_file(shared / "golden.json"));
    for (const char* model : {"stories260K", "stories260K-outlier-tinyllama"}) {
        const auto& expected = golden.at(model);
        const auto prompt = expected.at("prompt").get<std::string>();
        auto ids = expected.at("prompt_ids").get<std::vector<int>>();
        REQUIRE(ids.front() == 1);
        ids.erase(ids.begin());
        CHECK(t->encode(prompt) == ids);
        CHECK(decode_all(*t, ids, 1) == prompt);

        const auto continuation = expected.at("greedy_64_ids").get<std::vector<int>>();
        ids.insert(ids.end(), continuation.begin(), continuation.end());
        std::string text = expected.at("text").get<std::string>();  // with the first space, and bytes by name
        for (std::size_t at = text.find("<0x0A>"); at != std::string::npos; at = text.find("<0x0A>")) text.replace(at, 6, "\n");
        CHECK(" " + decode_all(*t, ids, 1) == text);
        CHECK(t->encode(text.substr(1)) == ids);
    }
    const std::vector<piece> pieces = pieces_of(file);
    for (const char* text : {"Lily's mom said: \"No!\"", "  two  spaces", "12345 + 67", "thethethe and and", "~[x]\n\n\tQ"}) {
        CHECK(t->encode(text) == encode_by_definition(pieces, text));
        CHECK(decode_all(*t, t->encode(text), 1) == text);
    }
}
