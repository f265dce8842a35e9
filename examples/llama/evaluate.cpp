#include "llama/evaluate.hpp"

#include <algorithm>
#include <cmath>

#include "llama/embedded.hpp"
#include "llama/failure.hpp"
#include "llama/terminal.hpp"

namespace aq::example {

namespace {

/// -log of the probability that softmax(logits) gives to the target, in double.
double surprise(const float* logits, std::size_t count, std::uint32_t target) {
    const double top = *std::max_element(logits, logits + count);
    double sum = 0.0;
    for (std::size_t i = 0; i < count; ++i) sum += std::exp(logits[i] - top);
    return top + std::log(sum) - static_cast<double>(logits[target]);
}

double perplexity_of(double sum, std::size_t count) {
    return count == 0 ? std::nan("") : std::exp(sum / static_cast<double>(count));
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view space = " \n\r\t";
    const std::size_t begin = text.find_first_not_of(space);
    return begin == text.npos ? std::string_view() : text.substr(begin, text.find_last_not_of(space) - begin + 1);
}

}  // namespace

std::vector<std::string_view> texts_of(std::string_view all, std::string_view separator) {
    if (separator.empty()) return {all};
    std::vector<std::string_view> texts;
    while (!all.empty()) {
        const std::string_view text = all.substr(0, all.find(separator));
        all.remove_prefix(std::min(all.size(), text.size() + separator.size()));
        if (!trimmed(text).empty()) texts.push_back(trimmed(text));
    }
    return texts;
}

void add_text_options(CLI::App& app, text_options& t) {
    app.add_option("text", t.path, "A text file (default: the embedded model's evaluation text)");
    app.add_option("--windows", t.windows, "Evaluate at most that many windows; 0: the whole text")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    app.add_option("--separator", t.separator,
                   "What stands between the texts of the file, each of which begins a window (default: the file is one text)");
}

std::vector<text_window> windows_of(const models::loaded_model& model, const token_list& text, std::size_t length,
                                    std::size_t limit) {
    std::vector<text_window> result;
    const std::size_t marks = model.bos ? 1 : 0;
    for (std::size_t first = 0; first + 1 - marks < text.size() && (limit == 0 || result.size() < limit); first += length) {
        token_list window = start_of(model);
        const std::size_t last = std::min(text.size(), first + length + 1 - marks);
        window.insert(window.end(), text.begin() + static_cast<std::ptrdiff_t>(first),
                      text.begin() + static_cast<std::ptrdiff_t>(last));
        result.push_back({token_list(window.begin(), window.end() - 1), token_list(window.begin() + 1, window.end())});
    }
    return result;
}

std::vector<text_window> windows_of(const models::loaded_model& model, const settings& s, const text_options& t,
                                    std::size_t length) {
    if (t.path.empty() && !s.model.empty()) throw failure("a text file is needed with --model");
    const std::string all = t.path.empty() ? std::string(evaluation_text()) : read_file(t.path);
    std::vector<text_window> result;
    for (const std::string_view text : texts_of(all, t.separator)) {
        if (t.windows != 0 && result.size() == t.windows) break;
        const std::size_t left = t.windows == 0 ? 0 : t.windows - result.size();
        for (text_window& w : windows_of(model, tokens_of(model, text), length, left)) result.push_back(std::move(w));
    }
    if (result.empty()) throw failure(t.path + ": holds too few tokens to evaluate");
    return result;
}

std::size_t evaluation::scored() const {
    std::size_t count = 0;
    for (const auto& w : windows) count += w.size();
    return count;
}

double evaluation::share() const { return targets == 0 ? 0.0 : static_cast<double>(scored()) / static_cast<double>(targets); }

double evaluation::mean_position() const {
    double sum = 0.0;
    for (const auto& w : windows) {
        for (const score& s : w) sum += s.position;
    }
    return scored() == 0 ? 0.0 : sum / static_cast<double>(scored());
}

double evaluation::perplexity() const {
    double sum = 0.0;
    for (const auto& w : windows) {
        for (const score& s : w) sum += s.surprise;
    }
    return perplexity_of(sum, scored());
}

double evaluation::perplexity_where(const evaluation& other) const {
    double sum = 0.0;
    std::size_t count = 0;
    for (std::size_t w = 0; w < windows.size() && w < other.windows.size(); ++w) {
        auto theirs = other.windows[w].begin();  // both ascend
        for (const score& s : windows[w]) {
            while (theirs != other.windows[w].end() && theirs->position < s.position) ++theirs;
            if (theirs == other.windows[w].end() || theirs->position != s.position) continue;
            sum += s.surprise;
            ++count;
        }
    }
    return perplexity_of(sum, count);
}

evaluation evaluate(any_session& session, const std::vector<text_window>& windows, const std::string& label) {
    evaluation result;
    progress shown(label);
    double sum = 0.0;
    std::size_t count = 0;
    for (const text_window& window : windows) {
        session.clear();
        forward_result run;
        require(session.forward(window.inputs.data(), window.inputs.size(), logits_of::all, run), label);
        auto& scores = result.windows.emplace_back();
        for (std::size_t i = 0; i < run.kept_count; ++i) {
            scores.push_back({run.kept[i], surprise(run.logits.row(i), run.logits.cols, window.targets[run.kept[i]])});
            if (std::isnan(scores.back().surprise))
                throw failure(label + ": the model computes no numbers: its logits are NaN or infinite");
            sum += scores.back().surprise;
        }
        count += scores.size();
        result.targets += window.targets.size();
        shown.show(result.windows.size(), windows.size(), "perplexity " + number(perplexity_of(sum, count), 4));
    }
    return result;
}

}  // namespace aq::example
