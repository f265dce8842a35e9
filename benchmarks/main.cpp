/// \file
/// ./dev bench: measures agilequant's kernels, other libraries' beside them, and the limits of the machine. See docs/benchmarking.md.
#include <benchmark/benchmark.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <regex>

#include "product.hpp"
#include "run.hpp"

namespace aq_bench {

namespace {

struct options {
    std::string filter, json;
    bool list = false, full = false, self_test = false;
    run_options run;
};

std::vector<bench_case> all_cases(const options& o) {
    std::vector<bench_case> cases;
    add_limits(cases);
    add_quantize(cases);
    add_baselines(cases);
    add_gemm(cases);
    add_attention(cases);
    add_peers(cases);
    if (o.self_test) {
        add_broken(cases);
        add_broken_attention(cases);
    }
    return cases;
}

/// What the options ask for, and the limits that it is held against.
std::vector<bench_case> chosen(const std::vector<bench_case>& all, const options& o) {
    const std::regex filter(o.filter);
    const auto is_wanted = [&](const bench_case& c) {
        return o.filter.empty() ? o.full || c.is_default : std::regex_search(c.name, filter);
    };
    std::vector<bench_case> wanted, result;
    std::copy_if(all.begin(), all.end(), std::back_inserter(wanted), is_wanted);
    for (const bench_case& c : all) {
        const auto needs = [&c](const bench_case& other) { return other.absent.empty() && other.limit.takes(c.name); };
        if (is_wanted(c) || std::any_of(wanted.begin(), wanted.end(), needs)) result.push_back(c);
    }
    return result;
}

/// Google Benchmark takes this choice only from a command line.
void interleave_repetitions() {
    char program[] = "agilequant_bench", interleave[] = "--benchmark_enable_random_interleaving=true";
    char* arguments[] = {program, interleave, nullptr};
    int count = 2;
    benchmark::Initialize(&count, arguments);
}

int run(const options& o, const std::string& command) {
    const std::vector<bench_case> cases = chosen(all_cases(o), o);
    if (cases.empty()) {
        std::fprintf(stderr, "agilequant_bench: no name matches %s; --list --full shows them\n", o.filter.c_str());
        return 2;
    }
    if (o.list) {
        for (const bench_case& c : cases) std::printf("%s\n", c.name.c_str());
        return 0;
    }
    interleave_repetitions();
    const results found = run_cases(cases, o.run);
    const std::size_t failures = print_table(cases, found);
    if (!o.json.empty() && !write_json(o.json, cases, found, command)) {
        std::fprintf(stderr, "agilequant_bench: %s cannot be written\n", o.json.c_str());
        return 2;
    }
    if (failures != 0) std::fprintf(stderr, "agilequant_bench: %zu checks failed\n", failures);
    return failures == 0 ? 0 : 1;
}

}  // namespace

}  // namespace aq_bench

int main(int argc, char** argv) {
    aq_bench::options o;
    CLI::App app(
        "Measures agilequant's kernels beside other libraries and the limits of the machine. Without a filter: 4096 x 4096, "
        "a prompt and a step of attention, one thread.");
    app.add_option("--filter", o.filter, "Regular expression that a name has to contain, of all there are");
    app.add_option("--json", o.json, "File for the results; benchmarks/plot.py draws it");
    app.add_flag("--list", o.list, "Only list the names");
    app.add_flag("--full", o.full, "Everything: other shapes, formats and two threads; takes long");
    app.add_option("--min-time", o.run.min_seconds, "Seconds of a repetition, at least")
        ->check(CLI::Range(0.001, 100.0))
        ->capture_default_str();
    app.add_option("--repetitions", o.run.repetitions, "Repetitions, of which the median counts")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    app.add_flag("--self-test", o.self_test,
                 "Adds a product and attention whose results are wrong, so that they can be seen failing");
    std::string command = "./dev bench";
    for (int i = 1; i < argc; ++i) command += std::string(" ") + argv[i];
    try {
        app.parse(argc, argv);
        return aq_bench::run(o, command);
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? 0 : 2;
    } catch (const std::regex_error& e) {
        std::fprintf(stderr, "agilequant_bench: --filter: %s\n", e.what());
        return 2;
    }
}
