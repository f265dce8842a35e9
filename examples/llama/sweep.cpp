#include "llama/sweep.hpp"

#include <cstdio>

#include "llama/commands.hpp"
#include "llama/failure.hpp"
#include "llama/terminal.hpp"

namespace aq::example {

sweep::sweep(const sweep_options& o)
    : common_(o.common),
      kernels_(choose(common_)),
      opened_(common_),
      windows_(windows_of(*opened_, common_, o.text, config().max_length)) {}

evaluation sweep::evaluate(const precision& p, const std::string& label) const {
    any_model model;
    build(*opened_, p, common_, model);
    any_session session;
    require(session.reset(model, kernels_, threads_of(common_)), "session");
    return example::evaluate(session, windows_, label);
}

void sweep::print_head(const std::string& what) const {
    std::printf("%s, %s, %zu windows of up to %zu tokens, kernels %s, %zu threads\n\n", (*opened_).name.c_str(), what.c_str(),
                windows_.size(), config().max_length, kernels_.isa, threads_of(common_).workers);
}

void add_sweep(CLI::App& app) {
    CLI::App& command = *app.add_subcommand("sweep", "One choice in all its settings, in one table");
    command.require_subcommand(1);
    add_sweep_caches(command);
    add_sweep_pruning(command);
}

}  // namespace aq::example
