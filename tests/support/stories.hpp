/// \file
/// The stories that golden.json was made on, where ../shared/data is there, and later ones to calibrate on.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "llama/evaluate.hpp"
#include "models/load.hpp"
#include "support/model_case.hpp"
#include "support/skip.hpp"

namespace aq_test {

inline const std::filesystem::path shared_llama = std::filesystem::path(AQ_SHARED_DATA) / "llama";
inline const std::filesystem::path shared_stories =
    std::filesystem::path(AQ_SHARED_DATA) / "text" / "tinystories_train_head_2MiB.txt";

/// The models that are one function: as trained, and with the outlier channels of TinyLlama folded in.
inline const std::filesystem::path plain_model = shared_llama / "stories260K.bin";
inline const std::filesystem::path outlier_model = shared_llama / "stories260K-outlier-tinyllama.bin";

/// Both; of the two the harder one where is_slow().
inline std::vector<std::filesystem::path> story_models() {
    if (is_slow()) return {outlier_model};
    return {plain_model, outlier_model};
}

inline bool have_stories() { return have(plain_model) && have(outlier_model) && have(shared_stories); }

/// Stories first .. first + count of the file, without the white space around them. Story 0 counts, but golden.json begins with 1: the file is a
/// piece of a longer one, whose first story may lack its beginning.
inline std::vector<std::string> stories(std::size_t first, std::size_t count) {
    constexpr std::string_view mark = "<|endoftext|>", space = " \n\r\t";
    const std::string file = aq::example::read_file(shared_stories.string());
    std::string_view rest = file;
    std::vector<std::string> result;
    for (std::size_t i = 0; i < first + count && !rest.empty(); ++i) {
        const std::string_view story = rest.substr(0, rest.find(mark));
        rest.remove_prefix(std::min(rest.size(), story.size() + mark.size()));
        const std::size_t begin = story.find_first_not_of(space), end = story.find_last_not_of(space);
        if (i >= first && begin != story.npos) result.emplace_back(story.substr(begin, end - begin + 1));
    }
    return result;
}

/// The first `count` of the 20 stories, each a window: the start mark and the story, cut to 384 tokens; every token but the mark is a target.
inline std::vector<aq::example::text_window> story_windows(const aq::models::loaded_model& model, std::size_t count) {
    constexpr std::size_t length = 384;
    std::vector<aq::example::text_window> result;
    for (const std::string& text : stories(1, count)) {
        aq::example::token_list tokens = aq::example::start_of(model);
        const aq::example::token_list rest = aq::example::tokens_of(model, text);
        tokens.insert(tokens.end(), rest.begin(), rest.end());
        if (tokens.size() > length) tokens.resize(length);
        result.push_back({{tokens.begin(), tokens.end() - 1}, {tokens.begin() + 1, tokens.end()}});
    }
    return result;
}

/// Tokens of `count` of the stories after the 20, in one run with the mark between them: some 350 a story.
inline aq::example::token_list story_calibration(const aq::models::loaded_model& model, std::size_t count) {
    aq::example::token_list result;
    for (const std::string& text : stories(21, count)) {
        const aq::example::token_list mark = result.empty() ? aq::example::token_list() : aq::example::start_of(model);
        const aq::example::token_list tokens = aq::example::tokens_of(model, text);
        result.insert(result.end(), mark.begin(), mark.end());
        result.insert(result.end(), tokens.begin(), tokens.end());
    }
    return result;
}

}  // namespace aq_test
