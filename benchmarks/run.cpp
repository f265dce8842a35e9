#include "run.hpp"

#include <benchmark/benchmark.h>
#include <algorithm>

#include <cstdio>

namespace aq_bench {

namespace {

/// A case while its group runs: made ready and checked at its first repetition.
class live_case {
public:
    live_case(const bench_case& c, result& out) : case_(c), result_(out) {}

    void measure(benchmark::State& state) {
        if (!is_ready_) make_ready();
        if (!result_.failed.empty() || !result_.skipped.empty()) {
            state.SkipWithError((result_.failed + result_.skipped).c_str());
            return;
        }
        for (auto _ : state) runner_->run();
    }

private:
    void make_ready() {
        is_ready_ = true;
        if (result_.skipped = case_.absent; !result_.skipped.empty()) return;
        runner_ = case_.make();
        if (runner_ == nullptr) {
            result_.skipped = "refused";
            return;
        }
        result_.failed = runner_->check();
        result_.ops = runner_->ops();
        result_.bytes = runner_->bytes();
    }

    const bench_case& case_;
    result& result_;
    std::unique_ptr<runner> runner_;
    bool is_ready_ = false;
};

/// Keeps what Google Benchmark measures instead of printing it; medians are made when all is known.
class collector final : public benchmark::BenchmarkReporter {
public:
    explicit collector(results& found) : found_(found) {}
    bool ReportContext(const Context&) override { return true; }
    void ReportRuns(const std::vector<Run>& runs) override {
        for (const Run& run : runs) {
            if (run.run_type != Run::RT_Iteration || run.error_occurred) continue;
            result& r = found_[run.run_name.function_name];
            r.seconds.push_back(run.real_accumulated_time / static_cast<double>(run.iterations));
            r.cpu_seconds.push_back(run.cpu_accumulated_time / static_cast<double>(run.iterations));
        }
    }

private:
    results& found_;
};

void run_group(const std::vector<const bench_case*>& group, const run_options& options, results& found) {
    collector reporter(found);
    for (const bench_case* c : group) {
        const auto live = std::make_shared<live_case>(*c, found[c->name]);
        benchmark::RegisterBenchmark(c->name.c_str(), [live](benchmark::State& state) { live->measure(state); })
            ->UseRealTime()
            ->MinTime(options.min_seconds)
            ->Repetitions(options.repetitions);
    }
    benchmark::RunSpecifiedBenchmarks(&reporter, "all");
    benchmark::ClearRegisteredBenchmarks();  // and the memory of the group
}

}  // namespace

results run_cases(const std::vector<bench_case>& cases, const run_options& options) {
    // a limit runs again in every group that is held against it: beside what it is compared with
    std::vector<std::string> groups;
    std::map<std::string, std::vector<const bench_case*>> members;
    for (const bench_case& c : cases) {
        if (members[c.group].empty()) groups.push_back(c.group);
        members[c.group].push_back(&c);
    }
    const std::vector<const bench_case*> limits = members["limit"];
    results found;
    for (std::size_t i = 0; i < groups.size(); ++i) {
        std::vector<const bench_case*> group = members[groups[i]];
        for (const bench_case* limit : limits) {
            const auto needs = [limit](const bench_case* c) { return c->limit.takes(limit->name); };
            if (groups[i] != "limit" && std::any_of(group.begin(), group.end(), needs)) group.push_back(limit);
        }
        std::fprintf(stderr, "%zu of %zu: %s, %zu cases\n", i + 1, groups.size(), groups[i].c_str(), group.size());
        run_group(group, options, found);
    }
    return found;
}

}  // namespace aq_bench
