#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>

#include "llama/commands.hpp"
#include "llama/failure.hpp"
#include "llama/runner.hpp"
#include "llama/terminal.hpp"

namespace aq::example {

namespace {

struct generate_options {
    settings common;
    std::string prompt;
    double temperature = 0.8, top_p = 0.95;
    std::uint64_t seed = 1813;
    std::size_t tokens = 400;
};

/// Chooses the next token. The same logits and seed give the same token everywhere: no distribution of the standard library.
class sampler {
public:
    sampler(double temperature, double top_p, std::uint64_t seed) : temperature_(temperature), top_p_(top_p), random_(seed) {}

    [[nodiscard]] std::uint32_t next(const float* logits, std::size_t count) {
        const std::uint32_t top = likeliest(logits, count);
        if (temperature_ <= 0.0) return top;
        choices_.clear();
        double sum = 0.0;
        for (std::uint32_t i = 0; i < count; ++i) {
            if (logits[i] != logits[i]) continue;
            choices_.push_back({std::exp((static_cast<double>(logits[i]) - static_cast<double>(logits[top])) / temperature_), i});
            sum += choices_.back().first;
        }
        std::sort(choices_.begin(), choices_.end(),
                  [](const auto& a, const auto& b) { return a.first > b.first || (a.first == b.first && a.second < b.second); });
        double mass = 0.0;
        std::size_t kept = 0;
        while (kept < choices_.size() && mass < top_p_ * sum) mass += choices_[kept++].first;
        double left = static_cast<double>(random_() >> 11) * 0x1p-53 * mass;
        for (std::size_t i = 0; i < kept; ++i) {
            left -= choices_[i].first;
            if (left < 0.0) return choices_[i].second;
        }
        return choices_.front().second;
    }

private:
    /// The first of the largest; NaN is none. A model whose every logit is NaN cannot go on.
    [[nodiscard]] static std::uint32_t likeliest(const float* logits, std::size_t count) {
        std::size_t top = count;
        for (std::size_t i = 0; i < count; ++i) {
            if (logits[i] == logits[i] && (top == count || logits[i] > logits[top])) top = i;
        }
        if (top == count || std::isinf(logits[top]))
            throw failure("the model computes no numbers: its logits are NaN or infinite");
        return static_cast<std::uint32_t>(top);
    }

    double temperature_, top_p_;
    std::mt19937_64 random_;
    std::vector<std::pair<double, std::uint32_t>> choices_;
};

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void generate(const generate_options& o) {
    const kernel_table& kernels = choose(o.common);
    const opened_model opened(o.common);
    const models::loaded_model& loaded = *opened;
    any_model model;
    build(loaded, opened.wanted(), o.common, model);
    any_session session;
    require(session.reset(model, kernels, threads_of(o.common)), "session");

    token_list prompt = start_of(loaded);
    for (const std::uint32_t token : tokens_of(loaded, o.prompt)) prompt.push_back(token);
    if (prompt.empty()) throw failure("--prompt: this model has no start token, so a prompt is needed");
    if (prompt.size() > loaded.config.max_length)
        throw failure("--prompt: " + std::to_string(prompt.size()) + " tokens are more than the " +
                      std::to_string(loaded.config.max_length) + " positions of the model (or of --context)");

    sampler choose_next(o.temperature, o.top_p, o.seed);
    forward_result result;
    const auto begin = std::chrono::steady_clock::now();
    require(session.forward(prompt.data(), prompt.size(), logits_of::last, result), "prompt");
    const double prompt_seconds = seconds_since(begin);
    const double sparsity = result.sparsity;
    std::fputs(o.prompt.c_str(), stdout);
    const auto steps = std::chrono::steady_clock::now();
    std::uint32_t previous = prompt.back();
    std::size_t made = 0;
    while (made < o.tokens && prompt.size() + made < loaded.config.max_length) {
        const std::uint32_t token = choose_next.next(result.logits.data, result.logits.cols);
        if (loaded.ends_at(static_cast<int>(token))) break;
        const std::string text = loaded.tokenizer->decode(static_cast<int>(token), static_cast<int>(previous));
        std::fwrite(text.data(), 1, text.size(), stdout);
        std::fflush(stdout);
        previous = token;
        if (++made == o.tokens || prompt.size() + made == loaded.config.max_length)
            break;  // nobody asks for what follows the last one
        require(session.forward(&token, 1, logits_of::last, result), "step " + std::to_string(made));
    }
    std::printf("\n");
    std::fflush(stdout);
    std::fprintf(stderr, "%s, %s: prompt %zu tokens at %s a second%s, %zu steps at %s a second\n", loaded.name.c_str(),
                 opened.wanted().name().c_str(), prompt.size(),
                 number(static_cast<double>(prompt.size()) / prompt_seconds, 0).c_str(),
                 sparsity > 0.0 ? (" (" + number(100 * sparsity, 1) + " % pruned)").c_str() : "", made,
                 number(static_cast<double>(made) / seconds_since(steps), 0).c_str());
}

}  // namespace

void add_generate(CLI::App& app) {
    auto o = std::make_shared<generate_options>();
    CLI::App& command = *app.add_subcommand("generate", "Write text, token by token as it comes");
    command.add_option("-p,--prompt", o->prompt, "What the text begins with (default: nothing)");
    command.add_option("-n,--tokens", o->tokens, "At most that many; a text never exceeds the model's length")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command.add_option("--temperature", o->temperature, "0: always the likeliest token; 1: as the model says")
        ->check(between(0.0, 100.0))
        ->capture_default_str();
    command.add_option("--top-p", o->top_p, "Choose among the likeliest tokens that have this share of the probability")
        ->check(between(0.0, 1.0))
        ->capture_default_str();
    command.add_option("--seed", o->seed, "The same seed writes the same text")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    add_options(command, o->common, offered::pruning);
    command.callback([o] { generate(*o); });
}

}  // namespace aq::example
