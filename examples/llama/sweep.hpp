/// \file
/// Tables over one choice, everything else as the command line says: what each setting of it costs in perplexity.
#pragma once

#include "llama/evaluate.hpp"

namespace aq::example {

struct sweep_options {
    settings common;
    text_options text{{}, {}, 16};
};

/// A model and the windows that it is evaluated on, at one precision after the other.
class sweep {
public:
    explicit sweep(const sweep_options& o);
    [[nodiscard]] const model_config& config() const { return (*opened_).config; }
    /// What all rows have in common.
    [[nodiscard]] const precision& wanted() const { return opened_.wanted(); }
    [[nodiscard]] const std::vector<text_window>& windows() const { return windows_; }
    /// `label`: what is being done, for the line of progress.
    [[nodiscard]] evaluation evaluate(const precision& p, const std::string& label) const;
    /// What all rows of a table share, before it.
    void print_head(const std::string& what) const;

private:
    settings common_;
    const kernel_table& kernels_;
    opened_model opened_;
    std::vector<text_window> windows_;
};

void add_sweep_caches(CLI::App& app);
void add_sweep_pruning(CLI::App& app);

}  // namespace aq::example
