/// \file
/// The commands of the program. Each adds its options to the command line and runs when it is chosen.
#pragma once

#include <CLI/CLI.hpp>

namespace aq::example {

void add_generate(CLI::App& app);
void add_perplexity(CLI::App& app);
void add_compare(CLI::App& app);
void add_calibrate(CLI::App& app);
void add_sweep(CLI::App& app);
void add_info(CLI::App& app);

}  // namespace aq::example
