#include <cstdio>
#include <memory>

#include "llama/commands.hpp"
#include "llama/runner.hpp"
#include "llama/terminal.hpp"

namespace aq::example {

namespace {

/// Of a quantized model, the size of its file.
std::size_t stored_bytes(const models::loaded_model& model) {
    return model.quantized ? model.files.front().bytes().size() : model.weights->stored_bytes();
}

void info(const settings& s) {
    const kernel_table& kernels = choose(s);
    const opened_model opened(s);
    const models::loaded_model& loaded = *opened;
    const model_config& c = loaded.config;
    std::printf("model        %s\n", loaded.name.c_str());
    std::printf("family       %s\n", models::name_of(loaded.family));
    std::printf("sizes        %zu layers, dimension %zu, hidden %zu, %zu heads of %zu, %zu of keys and values\n", c.layers, c.dim,
                c.hidden, c.heads, c.head_dim(), c.kv_heads);
    std::printf("vocabulary   %zu tokens, length %zu\n", c.vocabulary, opened.full_length());
    std::printf("stored       %s\n", bytes_text(stored_bytes(loaded)).c_str());
    if (loaded.quantized) std::printf("made for     %s\n", opened.wanted().name().c_str());
    std::printf("this CPU     ");
    for (const isa_entry& e : isa_entries) std::printf("%s%s  ", e.kernels->isa, e.runs_on(isa::this_cpu()) ? "" : " (absent)");
    std::printf("\nchosen       %s\n", kernels.isa);
}

}  // namespace

void add_info(CLI::App& app) {
    auto s = std::make_shared<settings>();
    CLI::App& command = *app.add_subcommand("info", "Say what a model is, and what this CPU can do");
    add_options(command, *s, offered::model);
    command.callback([s] { info(*s); });
}

}  // namespace aq::example
