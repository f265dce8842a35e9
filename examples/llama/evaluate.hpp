/// \file
/// Perplexity of a text: mean surprise of the next token, over windows of the model's length.
#pragma once

#include <functional>
#include <vector>

#include "llama/runner.hpp"

namespace aq::example {

/// A window: what the model is shown, and the token that follows each of them.
struct text_window {
    token_list inputs, targets;
};

/// Cuts a text into windows of at most `length` targets, each after the model's start mark (without one, a window's first token
/// is shown but not asked for). `limit`: at most that many windows; 0: all.
[[nodiscard]] std::vector<text_window> windows_of(const models::loaded_model& model, const token_list& text, std::size_t length,
                                                  std::size_t limit);

/// The surprise of every target that was scored, in nats.
struct evaluation {
    struct score {
        std::uint32_t position;  ///< in its window
        double surprise;
    };
    std::vector<std::vector<score>> windows;
    std::size_t targets = 0;  ///< scored or not

    [[nodiscard]] std::size_t scored() const;
    [[nodiscard]] double share() const;
    [[nodiscard]] double perplexity() const;
    /// The perplexity of this run on the positions that `other` scored.
    [[nodiscard]] double perplexity_where(const evaluation& other) const;
};

/// Runs every window through the session from empty caches. With pruning only the tokens that survive are scored, each against
/// its own next token (Agile-Quant section 4.1).
[[nodiscard]] evaluation evaluate(llama_session& session, const std::vector<text_window>& windows, const std::string& label);

}  // namespace aq::example
