#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>

#include "llama/commands.hpp"
#include "llama/evaluate.hpp"
#include "llama/failure.hpp"
#include "llama/terminal.hpp"

namespace aq::example {

namespace {

struct perplexity_options {
    settings common;
    text_options text;
    std::size_t length = 0;
    std::string beside;  ///< another model
};

/// Another model, in float and not pruned, on the positions that `e` scored.
double perplexity_beside(const perplexity_options& o, const std::vector<text_window>& windows, const evaluation& e) {
    settings other;
    other.model = o.beside == "embedded" ? "" : o.beside;
    other.tokenizer = o.common.tokenizer;
    other.context = std::max(o.common.context, o.length);
    other.threads = o.common.threads;
    const opened_model opened(other);
    any_model model;
    build(*opened, {}, other, model);
    any_session session;
    require(session.reset(model, choose(o.common), threads_of(other)), "session");
    return evaluate(session, windows, "beside").perplexity_where(e);
}

void perplexity(const perplexity_options& o) {
    const kernel_table& kernels = choose(o.common);
    settings common = o.common;
    common.context = std::max(common.context, o.length);
    const opened_model opened(common);
    const models::loaded_model& loaded = *opened;
    const auto windows = windows_of(loaded, o.common, o.text, o.length == 0 ? loaded.config.max_length : o.length);
    any_model model;
    build(loaded, opened.wanted(), o.common, model);
    any_session session;
    require(session.reset(model, kernels, threads_of(o.common)), "session");
    const auto begin = std::chrono::steady_clock::now();
    const evaluation e = evaluate(session, windows, opened.wanted().name());
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    std::printf("%s, %s: perplexity %s over %zu tokens in %zu windows", loaded.name.c_str(), opened.wanted().name().c_str(),
                number(e.perplexity(), 4).c_str(), e.scored(), windows.size());
    if (e.scored() != e.targets) std::printf(", %s %% of the positions", number(100 * e.share(), 1).c_str());
    if (!o.beside.empty()) {
        const double other = perplexity_beside(o, windows, e);
        std::printf("; %s there has %s, so that is %s", o.beside.c_str(), number(other, 4).c_str(),
                    change(e.perplexity(), other).c_str());
    }
    std::printf(", %s tokens a second\n", number(static_cast<double>(e.targets) / seconds, 0).c_str());
}

}  // namespace

void add_perplexity(CLI::App& app) {
    auto o = std::make_shared<perplexity_options>();
    CLI::App& command = *app.add_subcommand("perplexity", "Measure how well a text is predicted");
    add_text_options(command, o->text);
    command.add_option("--length", o->length, "Tokens in a window (default: all of the context)")->check(CLI::NonNegativeNumber);
    command.add_option("--beside", o->beside, "Another model, or `embedded`: its perplexity in float on the same positions");
    add_options(command, o->common, offered::pruning);
    command.callback([o] { perplexity(*o); });
}

}  // namespace aq::example
