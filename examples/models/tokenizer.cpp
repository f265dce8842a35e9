#include "models/tokenizer.hpp"

#include <cmath>
#include <cstdio>
#include <optional>
#include <queue>
#include <unordered_map>

namespace aq::models {
namespace {

class byte_tokenizer final : public tokenizer {
public:
    [[nodiscard]] std::size_t vocabulary() const noexcept override { return 256; }

    [[nodiscard]] std::vector<int> encode(std::string_view text) const override {
        std::vector<int> tokens;
        tokens.reserve(text.size());
        for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
        return tokens;
    }

    [[nodiscard]] std::string decode(int token, int) const override {
        return token >= 0 && token < 256 ? std::string(1, static_cast<char>(static_cast<unsigned char>(token))) : std::string();
    }
};

constexpr int start_of_text = 1, first_byte_token = 3, end_of_bytes = first_byte_token + 256;

/// "<0x0A>" for 10.
std::string byte_name(int byte) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(byte & 0xFF));
    return text;
}

class llama2c_tokenizer final : public tokenizer {
public:
    llama2c_tokenizer(const named_bytes& file, std::size_t vocabulary);

    [[nodiscard]] std::size_t vocabulary() const noexcept override { return pieces_.size(); }
    [[nodiscard]] std::vector<int> encode(std::string_view text) const override;
    [[nodiscard]] std::string decode(int token, int previous) const override;

private:
    struct piece {
        std::string_view text;
        float score;
    };

    [[nodiscard]] std::optional<int> find(const std::string& text) const;
    void append_characters(std::string_view text, std::vector<int>& tokens) const;
    void merge(std::vector<int>& tokens) const;

    std::vector<piece> pieces_;
    std::string storage_;  // the file's bytes: the pieces point into it
    std::unordered_map<std::string_view, int> ids_;
};

llama2c_tokenizer::llama2c_tokenizer(const named_bytes& file, std::size_t vocabulary) : storage_(file.bytes) {
    if (vocabulary < static_cast<std::size_t>(end_of_bytes)) {
        fail(file.name, "the model's vocabulary of " + std::to_string(vocabulary) + " tokens has no room for the " +
                            std::to_string(end_of_bytes) + " that the format starts with");
    }
    byte_reader reader({file.name, storage_});
    const auto longest = reader.number<std::int32_t>("max_token_length");
    if (longest < 1) fail(file.name, "max_token_length is " + std::to_string(longest));
    for (std::size_t token = 0; token < vocabulary; ++token) {
        const std::string field = "token " + std::to_string(token);
        const auto score = reader.number<float>(field);
        const auto length = reader.number<std::int32_t>(field);
        if (!std::isfinite(score)) fail(inside(file.name, field), "the score is not a finite number");
        if (length < 0 || length > longest) {
            fail(inside(file.name, field),
                 "the length is " + std::to_string(length) + ", outside 0 to max_token_length, " + std::to_string(longest));
        }
        const std::string_view text = reader.take(static_cast<std::uint64_t>(length), field);
        const int id = static_cast<int>(token);
        const bool is_byte = id >= first_byte_token && id < end_of_bytes;
        if (is_byte && text != byte_name(id - first_byte_token)) {
            fail(inside(file.name, field), "is " + in_quotes(text) + " but must be the byte " + byte_name(id - first_byte_token));
        }
        pieces_.push_back({text, score});
        ids_.emplace(text, id);
    }
    if (reader.remaining() > 0) {
        fail(file.name, "the file goes on for " + std::to_string(reader.remaining()) + " bytes after the " +
                            std::to_string(vocabulary) + " tokens of the model's vocabulary");
    }
}

std::optional<int> llama2c_tokenizer::find(const std::string& text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

/// One token for each UTF-8 character that has one, else one for each of its bytes. Broken UTF-8 is taken as it comes.
void llama2c_tokenizer::append_characters(std::string_view text, std::vector<int>& tokens) const {
    for (std::size_t begin = 0; begin < text.size();) {
        constexpr std::size_t longest = 4;
        std::size_t end = begin + 1;
        while (end < text.size() && end - begin < longest && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) ++end;
        const std::string_view character = text.substr(begin, end - begin);
        if (const auto id = find(std::string(character))) {
            tokens.push_back(*id);
        } else {
            for (const char c : character) tokens.push_back(first_byte_token + static_cast<unsigned char>(c));
        }
        begin = end;
    }
}

/// Tokens form a list linked by position; a queue holds every pair of neighbours that has a union, best first. A pair whose
/// tokens have changed since it was queued is skipped when it comes up.
void llama2c_tokenizer::merge(std::vector<int>& tokens) const {
    struct pair {
        float score;
        std::size_t left, right;
        int left_token, right_token, merged;
        bool operator<(const pair& other) const { return score != other.score ? score < other.score : left > other.left; }
    };
    const std::size_t count = tokens.size();
    std::vector<std::size_t> next(count), before(count);
    std::priority_queue<pair> queue;
    const auto consider = [&](std::size_t left, std::size_t right) {
        const int a = tokens[left], b = tokens[right];
        const auto merged =
            find(std::string(pieces_[static_cast<std::size_t>(a)].text).append(pieces_[static_cast<std::size_t>(b)].text));
        if (merged) queue.push({pieces_[static_cast<std::size_t>(*merged)].score, left, right, a, b, *merged});
    };
    for (std::size_t i = 0; i < count; ++i) {
        next[i] = i + 1;
        before[i] = i - 1;  // that of 0 is never used
        if (i + 1 < count) consider(i, i + 1);
    }
    constexpr int gone = -1;
    while (!queue.empty()) {
        const pair best = queue.top();
        queue.pop();
        if (tokens[best.left] != best.left_token || tokens[best.right] != best.right_token) continue;
        tokens[best.left] = best.merged;
        tokens[best.right] = gone;
        const std::size_t after = next[best.left] = next[best.right];
        if (after < count) {
            before[after] = best.left;
            consider(best.left, after);
        }
        if (best.left > 0) consider(before[best.left], best.left);
    }
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count; i = next[i]) tokens[kept++] = tokens[i];
    tokens.resize(kept);
}

std::vector<int> llama2c_tokenizer::encode(std::string_view text) const {
    if (text.empty()) return {};
    std::vector<int> tokens;
    append_characters(" ", tokens);  // the vocabulary's words begin with their space
    append_characters(text, tokens);
    merge(tokens);
    return tokens;
}

std::string llama2c_tokenizer::decode(int token, int previous) const {
    if (token < 0 || static_cast<std::size_t>(token) >= pieces_.size()) return {};
    if (token >= first_byte_token && token < end_of_bytes)
        return {static_cast<char>(static_cast<unsigned char>(token - first_byte_token))};
    std::string_view text = pieces_[static_cast<std::size_t>(token)].text;
    if (previous == start_of_text && !text.empty() && text.front() == ' ') text.remove_prefix(1);
    return std::string(text);
}

}  // namespace

std::unique_ptr<tokenizer> make_byte_tokenizer() { return std::make_unique<byte_tokenizer>(); }

std::unique_ptr<tokenizer> make_llama2c_tokenizer(const named_bytes& file, std::size_t vocabulary) {
    return std::make_unique<llama2c_tokenizer>(file, vocabulary);
}

}  // namespace aq::models
