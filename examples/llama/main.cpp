/// \file
/// The example transformer, LLaMA, OPT or BLOOM: writes text, measures perplexity, and compares precisions on a real model.
#include <cstdio>
#include <exception>
#include <new>

#include "llama/commands.hpp"
#include "llama/failure.hpp"

int main(int argc, char** argv) {
    CLI::App app(
        "A LLaMA, OPT or BLOOM in low bits, by agilequant. Without --model it runs the one that is linked into this program: "
        "trained on Jane "
        "Austen, a byte a token.");
    app.require_subcommand(1);
    app.footer(
        "Examples:\n"
        "  llama generate --prompt \"It was a truth\" --weights 4 --activations 8\n"
        "  llama compare                                   every precision beside float\n"
        "  llama sweep caches                              what a smaller key-value cache costs\n"
        "  llama perplexity novel.txt -w 4 -a 4 --trip token --attention log2-ceiling --kv 8\n"
        "  llama calibrate -w 4 -a 4 --trip token --rotate search --out austen.aqm\n"
        "  llama generate --model austen.aqm --prompt \"She \"\n"
        "  llama generate --model stories260K.bin --prompt \"Once upon a time\" --temperature 0\n"
        "`llama COMMAND --help` lists a command's options.");
    try {
        aq::example::add_generate(app);
        aq::example::add_perplexity(app);
        aq::example::add_compare(app);
        aq::example::add_calibrate(app);
        aq::example::add_sweep(app);
        aq::example::add_info(app);
        app.parse(argc, argv);
        if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) throw aq::example::failure("the output cannot be written");
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? 0 : 2;
    } catch (const std::bad_alloc&) {
        std::fputs("llama: out of memory\n", stderr);
        return 2;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "llama: %s\n", e.what());
        return 2;
    }
}
