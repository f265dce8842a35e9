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

/// The text that a command evaluates on, as the command line names it.
struct text_options {
    std::string path;         ///< a file; empty: the embedded model's text
    std::string separator;    ///< stands between the texts of the file; empty: it holds one
    std::size_t windows = 0;  ///< at most that many; 0: all
};

/// Adds the file, --windows and --separator.
void add_text_options(CLI::App& app, text_options& t);

/// What stands between separators, without empty texts; all of it where there is no separator.
[[nodiscard]] std::vector<std::string_view> texts_of(std::string_view all, std::string_view separator);

/// Cuts a text into windows of at most `length` targets, each after the model's start mark (without one, a window's first token
/// is shown but not asked for). `limit`: at most that many windows; 0: all.
[[nodiscard]] std::vector<text_window> windows_of(const models::loaded_model& model, const token_list& text, std::size_t length,
                                                  std::size_t limit);

/// The windows of the texts that the options name; none reaches from one text into the next. failure: there is no text, or no token.
[[nodiscard]] std::vector<text_window> windows_of(const models::loaded_model& model, const settings& s, const text_options& t,
                                                  std::size_t length);

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
    /// Of the positions that were scored: half of the length where all are, less where early ones are.
    [[nodiscard]] double mean_position() const;
    [[nodiscard]] double perplexity() const;
    /// The perplexity of this run on the positions that `other` scored.
    [[nodiscard]] double perplexity_where(const evaluation& other) const;
};

/// Runs every window through the session from empty caches. With pruning only the tokens that survive are scored, each against
/// its own next token (Agile-Quant section 4.1).
[[nodiscard]] evaluation evaluate(any_session& session, const std::vector<text_window>& windows, const std::string& label);

}  // namespace aq::example
