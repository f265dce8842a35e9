// What pruning saves: a prompt through the same block again and again, each time with a cache of its own.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "llama/failure.hpp"
#include "llama_block/block_case.hpp"

namespace aq::example {

namespace {

/// A prompt's way through all blocks.
class stack {
public:
    stack(const block_options& o, const llama& model, run_context& context)
        : model_(model), context_(context), caches_(o.blocks), rows_(o.prompt) {
        const model_config& c = model.config();
        require(scratch_.reserve(c, rows_), "scratch");
        for (kv_cache& cache : caches_) require(cache.reset(c.kv_heads, c.head_dim(), rows_, model.options().kv_bits), "cache");
        require(start_.reset(rows_ * c.dim), "input");
        require(x_.reset(start_.size()), "input");
        require(tokens_.reset(rows_), "tokens");
        synthetic_values().fill(start_.data(), start_.size());
    }

    /// The parts of the time, of all blocks together.
    part_times run(const prune_plan& plan) {
        const model_config& c = model_.config();
        std::memcpy(x_.data(), start_.data(), start_.size() * sizeof(float));
        part_times times;
        context_.times = &times;
        std::size_t rows = rows_;
        for (std::size_t layer = 0; layer < caches_.size(); ++layer) {
            caches_[layer].clear();
            require(model_.block_at(0).forward(context_, model_.settings(0), scratch_, caches_[layer], plan.ratio(layer), true,
                                               {x_.data(), rows, c.dim}, tokens_.data(), rows),
                    "block");
        }
        context_.times = nullptr;
        return times;
    }

private:
    const llama& model_;
    run_context& context_;
    std::vector<kv_cache> caches_;
    std::size_t rows_;
    block_scratch scratch_;
    aligned_buffer<float> start_, x_;
    aligned_buffer<std::uint32_t> tokens_;
};

/// The median run of several.
part_times median(stack& blocks, const prune_plan& plan, std::size_t repetitions) {
    std::vector<part_times> all;
    for (std::size_t i = 0; i < repetitions; ++i) all.push_back(blocks.run(plan));
    std::sort(all.begin(), all.end(), [](const part_times& a, const part_times& b) { return a.total() < b.total(); });
    return all[all.size() / 2];
}

/// What follows from the time without pruning: projections, norms and codes go with the rows, attention with their square. Rows go
/// between attention and MLP; half of what is between products is the MLP's.
double predicted(part_times dense, const prune_plan& plan, std::size_t blocks, std::size_t rows) {
    double sum = 0.0;
    std::size_t left = rows;
    for (std::size_t layer = 0; layer < blocks; ++layer) {
        const std::size_t after = plan.rows_after(layer, left);
        const double in = static_cast<double>(left) / static_cast<double>(rows),
                     out = static_cast<double>(after) / static_cast<double>(rows);
        const double between = dense[part::nonlinear] + dense[part::quantize];
        sum +=
            dense[part::projections] * in + dense[part::attention] * in * in + dense[part::mlp] * out + between * (in + out) / 2;
        left = after;
    }
    return sum / static_cast<double>(blocks);
}

void print_row(const char* layers, double beta, const part_times& measured, double prediction, double dense, double sparsity) {
    part_times t = measured;
    std::printf("%-10s %5.2f %9.1f %% %10.3f %8.2fx %12.3f %9.2fx %12.2f %%\n", layers, beta, 100 * sparsity, t.total(),
                dense / t.total(), prediction, dense / prediction, 100 * t[part::pruning] / t.total());
}

}  // namespace

void print_pruning(const block_options& o) {
    run_context context;
    choose(o, context);
    const model_config c = shapes_of(o);
    llama model;
    synthetic_values values;
    require(model.load(c, options_of(o, 8), {&values, synthetic_values::read}), "W4A8");
    std::printf(
        "%zu tokens through %zu blocks: dimension %zu, hidden %zu, %zu heads, W4A8, kernels %s, %zu threads, median of %zu\n\n"
        "layers      beta   sparsity    seconds  speed-up    predicted            pruning itself\n",
        o.prompt, o.blocks, c.dim, c.hidden, c.heads, context.kernels->isa, context.threads.workers, o.repetitions);
    stack blocks(o, model, context);
    static_cast<void>(blocks.run({}));  // warms up
    const part_times dense = median(blocks, {}, o.repetitions);
    const double all = part_times(dense).total();
    print_row("none", 0.0, dense, all, all, 0.0);
    for (const std::size_t first : {std::size_t{1}, o.blocks / 2}) {
        for (const double beta : {0.2, 0.5, 0.8}) {
            std::fprintf(stderr, "beta %.1f over three layers from %zu on ...\n", beta, first);
            prune_plan plan;
            require(make_progressive_plan(beta, first, 3, plan), "plan");
            require(validate(plan, o.blocks), "--blocks " + std::to_string(o.blocks));
            const std::string layers = std::to_string(first) + " to " + std::to_string(first + 2);
            print_row(layers.c_str(), beta, median(blocks, plan, o.repetitions), predicted(dense, plan, o.blocks, o.prompt), all,
                      token_sparsity(plan, o.blocks, o.prompt));
        }
    }
    std::printf(
        "\nLayers count from 0; the share beta of the tokens is gone after the last of the three. Pruning itself: importance, "
        "choice and moving rows.\n");
}

}  // namespace aq::example
