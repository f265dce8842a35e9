/// \file
/// One transformer block at LLaMA-7B's shapes with synthetic weights: how long a prompt and a single step take in float, with 8- and
/// with 4-bit activations, and where the time goes. What somebody runs on a new device.
#include <CLI/CLI.hpp>
#include <agilequant/model/llama.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "llama/failure.hpp"
#include "llama_block/block_case.hpp"

namespace aq::example {

namespace {

struct precision_row {
    const char* name;
    int activation_bits;  // 16: everything in float
};
constexpr precision_row precisions[] = {{"float", 16}, {"W4A8", 8}, {"W4A4", 4}};

/// Median over the repetitions, part by part, of `rows` rows through the block after `past` tokens.
part_times time_block(const block_options& o, const llama& model, run_context& context, std::size_t rows, std::size_t past) {
    const model_config& c = model.config();
    block_scratch scratch;
    kv_cache cache;
    require(scratch.reserve(c, std::max(rows, past)), "scratch");
    require(cache.reset(c.kv_heads, c.head_dim(), past + rows, model.options().kv_bits), "cache");
    aligned_buffer<float> x, start;
    aligned_buffer<std::uint32_t> tokens;
    require(start.reset(std::max(rows, past) * c.dim), "input");
    require(x.reset(start.size()), "input");
    require(tokens.reset(std::max(rows, past)), "tokens");
    synthetic_values().fill(start.data(), start.size());
    std::vector<part_times> all;
    std::size_t left = 0;
    const auto run = [&](std::size_t count) {
        std::memcpy(x.data(), start.data(), count * c.dim * sizeof(float));
        require(model.block_at(0).forward(context, model.settings(0), scratch, cache, 0.0, true, {x.data(), count, c.dim},
                                          tokens.data(), left),
                "block");
    };
    if (past > 0) run(past);
    for (std::size_t i = 0; i <= o.repetitions; ++i) {  // the first warms up
        cache.truncate(past);
        part_times times;
        context.times = &times;
        run(rows);
        context.times = nullptr;
        if (i > 0) all.push_back(times);
    }
    std::sort(all.begin(), all.end(), [](const part_times& a, const part_times& b) { return a.total() < b.total(); });
    return all[all.size() / 2];
}

void print_row(const char* name, part_times t, std::size_t rows, double float_seconds) {
    const double all = t.total(), between = t[part::nonlinear] + t[part::quantize];
    std::printf("%-6s %10.2f", name, all * 1e3);
    for (const double part : {t[part::projections], t[part::attention], t[part::mlp], between})
        std::printf(" %10.2f %5.1f %%", part * 1e3, 100 * part / all);
    std::printf(" %11.1f %7.2fx\n", static_cast<double>(rows) / all, float_seconds / all);
}

void run(const block_options& o) {
    run_context context;
    choose(o, context);
    const model_config c = shapes_of(o);
    std::printf("one block: dimension %zu, hidden %zu, %zu heads, kernels %s, %zu threads, median of %zu\n", c.dim, c.hidden,
                c.heads, context.kernels->isa, context.threads.workers, o.repetitions);
    part_times prompts[3], steps[3];
    std::size_t bytes[3] = {};
    for (std::size_t i = 0; i < 3; ++i) {
        std::fprintf(stderr, "%s ...\n", precisions[i].name);
        llama model;
        synthetic_values values;
        require(model.load(c, options_of(o, precisions[i].activation_bits), {&values, synthetic_values::read}),
                precisions[i].name);
        prompts[i] = time_block(o, model, context, o.prompt, 0);
        steps[i] = time_block(o, model, context, 1, o.past);
        bytes[i] = model.block_bytes();
    }
    const char* const head =
        "         total ms     projections ms       attention ms             MLP ms       nonlinear ms      tokens/s  speed-up\n";
    std::printf("\nprompt of %zu tokens\n%s", o.prompt, head);
    for (std::size_t i = 0; i < 3; ++i) print_row(precisions[i].name, prompts[i], o.prompt, prompts[0].total());
    std::printf("\none step after %zu tokens\n%s", o.past, head);
    for (std::size_t i = 0; i < 3; ++i) print_row(precisions[i].name, steps[i], 1, steps[0].total());
    std::printf(
        "\nweights: float %.1f MB, 4 bits %.1f MB. Attention: scores and values, softmax included. Nonlinear: norms, "
        "positions, SiLU,\n"
        "and quantizing activations. W4A4 has 4 bits at %s.\n",
        static_cast<double>(bytes[0]) / 1e6, static_cast<double>(bytes[1]) / 1e6,
        o.all_sites ? "every site" : "the paper's three sites, 8 at the attention's input");
}

}  // namespace

}  // namespace aq::example

int main(int argc, char** argv) {
    aq::example::block_options o;
    CLI::App app("Times one transformer block at LLaMA-7B's shapes, with synthetic weights: float, 8-bit and 4-bit activations.");
    const CLI::Range sizes(std::size_t{1}, aq::max_model_size);
    app.add_option("--prompt", o.prompt, "Tokens in the prompt")->check(CLI::Range(1, 1 << 20))->capture_default_str();
    app.add_option("--past", o.past, "Tokens in the cache before the single step")
        ->check(CLI::Range(0, 1 << 20))
        ->capture_default_str();
    app.add_option("--repetitions", o.repetitions, "Runs, of which the median counts")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    app.add_option("-t,--threads", o.threads, "Threads; 0: one for each core")->check(CLI::Range(0, 1024))->capture_default_str();
    app.add_option("--isa", o.isa, "Instruction set of the kernels (default: AQ_ISA in the environment, or the best there is)");
    app.add_option("--group", o.group, "Weights that share a scale; 0: a whole row")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    app.add_option("--dim", o.dim, "Dimension")->check(sizes)->capture_default_str();
    app.add_option("--hidden", o.hidden, "Hidden size of the MLP")->check(sizes)->capture_default_str();
    app.add_option("--heads", o.heads, "Heads of queries")->check(sizes)->capture_default_str();
    app.add_option("--kv-heads", o.kv_heads, "Heads of keys and values")->check(sizes)->capture_default_str();
    app.add_flag("--pruning", o.is_pruned,
                 "Instead: the prompt through several blocks, pruned by several shares in several places");
    app.add_option("--blocks", o.blocks, "How many blocks those are")->check(CLI::Range(6, 1000))->capture_default_str();
    app.add_flag("--all-sites", o.all_sites, "W4A4 with 4 bits at every site");
    try {
        app.parse(argc, argv);
        if (o.is_pruned) aq::example::print_pruning(o);
        else aq::example::run(o);
        if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) throw aq::example::failure("the output cannot be written");
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? 0 : 2;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "llama_block: %s\n", e.what());
        return 2;
    }
}
