#include <algorithm>
#include <cstdio>
#include <memory>

#include "llama/sweep.hpp"
#include "llama/terminal.hpp"

namespace aq::example {

namespace {

struct pruning_options : sweep_options {
    std::vector<double> shares{0.2, 0.5, 0.9};
    std::vector<std::string> places;  ///< lists of layers; none: the usual ones
};

/// "3,4,5": at most `count` layers from `first` on.
std::string layers_from(std::size_t first, std::size_t count, std::size_t layers) {
    std::string list;
    for (std::size_t l = first; l < layers && l < first + count; ++l) list += (l == first ? "" : ",") + std::to_string(l);
    return list;
}

/// The paper prunes from layer 9 of 32 on.
std::size_t paper_layer(std::size_t layers) { return (9 * layers + 16) / 32; }

/// One layer and three from where the paper begins, and from the middle on.
std::vector<std::string> usual_places(std::size_t layers) {
    std::vector<std::string> places;
    for (const std::size_t first : {paper_layer(layers), layers / 2}) {
        for (const std::size_t count : {std::size_t{1}, std::size_t{3}}) {
            const std::string list = layers_from(first, count, layers);
            if (std::find(places.begin(), places.end(), list) == places.end()) places.push_back(list);
        }
    }
    return places;
}

/// Share of the token-layers of all windows that the plan saves.
double saved(const prune_plan& plan, const sweep& all) {
    double sum = 0.0, tokens = 0.0;
    for (const text_window& w : all.windows()) {
        const auto rows = static_cast<double>(w.inputs.size());
        sum += rows * token_sparsity(plan, all.config().layers, w.inputs.size());
        tokens += rows;
    }
    return sum / tokens;
}

void print_places(std::size_t layers) {
    std::printf("\nThe paper prunes in layers 9,10,11 of 32; of %zu that is %s, counted from 0.\n", layers,
                layers_from(paper_layer(layers), 3, layers).c_str());
    if (layers - layers / 2 < 3)
        std::printf("The second half of this model has only layers %s.\n", layers_from(layers / 2, 3, layers).c_str());
}

void sweep_pruning(const pruning_options& o) {
    const sweep all(o);
    const std::size_t layers = all.config().layers;
    std::vector<precision> wanted;
    for (const std::string& place : o.places.empty() ? usual_places(layers) : o.places) {
        for (const double share : o.shares) {
            wanted.push_back(all.wanted());
            wanted.back().prune = share;
            wanted.back().prune_layers = place;
            static_cast<void>(options_of(wanted.back(), all.config()));  // what is wrong is said before an hour has passed
        }
    }
    precision undisturbed = all.wanted();
    undisturbed.prune = 0.0;
    const evaluation dense = all.evaluate(undisturbed, "dense");
    table rows(
        {"layers", "pruned", "token-layers saved", "scored", "mean position", "perplexity", "dense, same positions", "change"});
    rows.add({"none", number(0, 2), number(0, 1) + " %", number(100, 1) + " %", number(dense.mean_position(), 1),
              number(dense.perplexity(), 4), number(dense.perplexity(), 4), ""});
    for (const precision& p : wanted) {
        const evaluation e = all.evaluate(p, "layers " + p.prune_layers + ", " + number(p.prune, 2));
        const double same = dense.perplexity_where(e);
        rows.add({p.prune_layers, number(p.prune, 2), number(100 * saved(options_of(p, all.config()).pruning, all), 1) + " %",
                  number(100 * e.share(), 1) + " %", number(e.mean_position(), 1), number(e.perplexity(), 4), number(same, 4),
                  change(e.perplexity(), same)});
    }
    all.print_head(all.wanted().name());
    rows.print();
    if (o.places.empty()) print_places(layers);
}

}  // namespace

void add_sweep_pruning(CLI::App& app) {
    auto o = std::make_shared<pruning_options>();
    CLI::App& command = *app.add_subcommand(
        "pruning",
        "Shares of tokens and layers where they go: perplexity of what is kept, beside the dense model on the same positions");
    command
        .add_option("--prune", o->shares, "Shares of a prompt's tokens that are gone after the last pruning layer, as 0.2,0.5")
        ->check(between(0.01, 0.99))
        ->delimiter(',')
        ->allow_extra_args(false)
        ->capture_default_str();
    command
        .add_option(
            "--prune-layers", o->places,
            "Layers that prune, as 2,3 (from 0), each by the progressive ratio; may be given several times (default: one and "
            "three layers, from 9/32 of the depth on, where the paper begins, and from half of it on)")
        ->allow_extra_args(false);
    add_text_options(command, o->text);
    add_options(command, o->common, offered::attention);
    command.callback([o] { sweep_pruning(*o); });
}

}  // namespace aq::example
