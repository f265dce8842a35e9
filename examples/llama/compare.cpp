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

struct compare_options {
    settings common;
    text_options text;
    std::size_t steps = 32;
    double prune = 0.2;
};

/// The precisions of the table, in the order of the paper's story. `base` gives group, sites and layers to all of them.
std::vector<precision> precisions(const precision& base) {
    const auto make = [&base](int weights, int activations, const char* trip, const char* attention) {
        precision p = base;
        p.weight_bits = weights;
        p.activation_bits = activations;
        p.trip = trip;
        p.attention = attention;
        p.kv_bits = activations > 8 ? 32 : 8;
        p.prune = 0.0;
        return p;
    };
    return {make(16, 16, "none", "softmax"), make(4, 16, "none", "softmax"),     make(8, 8, "none", "softmax"),
            make(4, 8, "none", "softmax"),   make(4, 8, "none", "log2-ceiling"), make(4, 4, "none", "softmax"),
            make(4, 4, "token", "softmax")};
}

/// What it was made for, and what can still be chosen for a model that is quantized: how attention and its cache are coded.
std::vector<precision> precisions_of_quantized(const precision& stored) {
    std::vector<precision> all{stored};
    for (const char* attention : {"softmax", "log2-ceiling"}) {
        for (const int kv_bits : {32, 8}) {
            if (attention == stored.attention && kv_bits == stored.kv_bits) continue;
            all.push_back(stored);
            all.back().attention = attention;
            all.back().kv_bits = kv_bits;
            all.back().kv_group = kv_bits == stored.kv_bits ? stored.kv_group : 0;
        }
    }
    return all;
}

struct speeds {
    double prompt = 0.0, step = 0.0;
    std::size_t cache_bytes = 0;
};

/// Tokens a second: a prompt of one window (median of three), then steps after half a window.
speeds time_session(any_session& session, const text_window& window, std::size_t steps) {
    using clock = std::chrono::steady_clock;
    const auto seconds = [](clock::time_point begin) { return std::chrono::duration<double>(clock::now() - begin).count(); };
    forward_result result;
    std::vector<double> prompts;
    speeds s;
    for (int i = 0; i < 3; ++i) {
        session.clear();
        const auto begin = clock::now();
        require(session.forward(window.inputs.data(), window.inputs.size(), logits_of::last, result), "prompt");
        prompts.push_back(static_cast<double>(window.inputs.size()) / seconds(begin));
        s.cache_bytes = session.cache_bytes();
    }
    std::sort(prompts.begin(), prompts.end());
    s.prompt = prompts[1];
    session.clear();
    const std::size_t half = (window.inputs.size() + 1) / 2;
    require(session.forward(window.inputs.data(), half, logits_of::last, result), "prompt");
    const auto begin = clock::now();
    steps = std::min(steps, window.inputs.size() - half);
    for (std::size_t i = 0; i < steps; ++i)
        require(session.forward(&window.inputs[half + i], 1, logits_of::last, result), "step");
    s.step = static_cast<double>(steps) / seconds(begin);
    return s;
}

/// Builds, evaluates and times one precision, dense and pruned, and adds its rows.
void compare_one(const compare_options& o, const models::loaded_model& loaded, precision p,
                 const std::vector<text_window>& windows, table& out) {
    evaluation dense;
    for (const double prune : {0.0, o.prune}) {
        p.prune = prune;
        any_model model;
        build(loaded, p, o.common, model);
        any_session session;
        require(session.reset(model, choose(o.common), threads_of(o.common)), "session");
        const std::string name = loaded.quantized ? p.name() + ", KV" + std::to_string(p.kv_bits) : p.name();
        const evaluation e = evaluate(session, windows, name);
        if (prune == 0.0) dense = e;
        const speeds s = time_session(session, windows.front(), o.steps);
        out.add({name, number(e.perplexity(), 4), number(dense.perplexity_where(e), 4), number(100 * e.share(), 1),
                 number(s.prompt, 0), number(s.step, 0), bytes_text(model.bytes()), bytes_text(s.cache_bytes)});
        if (o.prune <= 0.0) return;
    }
}

void compare(const compare_options& o) {
    const kernel_table& kernels = choose(o.common);
    const opened_model opened(o.common);
    const models::loaded_model& loaded = *opened;
    if (o.common.calibration.empty() && !o.common.model.empty() && !loaded.quantized)
        throw failure("TRIP needs a text to calibrate on: add --calibration FILE to --model");
    const std::vector<precision> all = loaded.quantized ? precisions_of_quantized(opened.wanted()) : precisions(opened.wanted());
    const auto windows = windows_of(loaded, o.common, o.text, loaded.config.max_length);
    table rows(
        {"precision", "perplexity", "dense, same positions", "% scored", "prompt tok/s", "step tok/s", "weights", "KV cache"});
    for (const precision& p : all) compare_one(o, loaded, p, windows, rows);
    std::printf("%s, %zu windows of up to %zu tokens, kernels %s, %zu threads\n\n", loaded.name.c_str(), windows.size(),
                loaded.config.max_length, kernels.isa, threads_of(o.common).workers);
    rows.print();
}

}  // namespace

void add_compare(CLI::App& app) {
    auto o = std::make_shared<compare_options>();
    o->text.windows = 16;
    CLI::App& command = *app.add_subcommand(
        "compare", "Every precision beside float, in one table: perplexity, speed, memory, with and without pruning");
    add_text_options(command, o->text);
    command.add_option("--prune", o->prune, "Share of tokens that is gone in the pruned rows; 0: leave them out")
        ->check(between(0.0, 0.99))
        ->capture_default_str();
    command
        .add_option("--prune-layers", o->common.wanted.prune_layers,
                    "Layers that prune, as 2,3 (from 0); half: the first three of the second half")
        ->capture_default_str();
    command.add_option("--group", o->common.wanted.group, "Weights that share a scale; 0: a whole row")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command.add_flag("--paper-sites", o->common.wanted.paper_sites,
                     "W4A4 keeps the attention's input at 8 bits, as the paper does");
    command.add_option("--calibration", o->common.calibration,
                       "Text that TRIP learns its exponents from (default: the embedded model's)");
    add_options(command, o->common, offered::model);
    command.callback([o] { compare(*o); });
}

}  // namespace aq::example
