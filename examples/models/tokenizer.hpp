/// \file
/// Text to tokens and back. Two kinds: bytes, and the vocabulary file of llama2.c. Not here: the marks for the start and end
/// of a text, which belong to the model (loaded_model.hpp).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/bytes.hpp"

namespace aq::models {

class tokenizer {
public:
    virtual ~tokenizer() = default;
    [[nodiscard]] virtual std::size_t vocabulary() const noexcept = 0;
    /// The tokens of a text, without marks for its start or end. Any bytes are accepted.
    [[nodiscard]] virtual std::vector<int> encode(std::string_view text) const = 0;
    /// The bytes of one token, which may be part of a character; `previous` is the token before it, -1 at the very start.
    /// A token outside the vocabulary has none.
    [[nodiscard]] virtual std::string decode(int token, int previous) const = 0;
};

/// A token is a byte.
[[nodiscard]] std::unique_ptr<tokenizer> make_byte_tokenizer();

/// The file that llama2.c calls tokenizer.bin, for a model of `vocabulary` tokens: a longest length, then score, length and
/// bytes of each token. Tokens 3 to 258 must be the 256 bytes. Encoding merges the neighbours whose union has the best
/// score, leftmost first, until none is left: the same tokens as llama2.c, in n log n steps where it takes n^2.
[[nodiscard]] std::unique_ptr<tokenizer> make_llama2c_tokenizer(const named_bytes& file, std::size_t vocabulary);

}  // namespace aq::models
