#include "report.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "data.hpp"
#include "machine.hpp"

namespace aq_bench {

namespace {

void hold_against_limit(const bench_case& c, const results& found, summary& s) {
    double best = 0.0;
    for (const auto& [name, limit] : found) {
        if (!c.limit.takes(name) || limit.seconds.empty()) continue;
        const double rate = (c.limit.is_bandwidth ? limit.bytes : limit.ops) / median(limit.seconds) * 1e-9;
        if (rate <= best) continue;
        best = rate;
        s.limit = name;
    }
    if (best > 0.0) s.percent_of_limit = 100.0 * (c.limit.is_bandwidth ? s.gbps : s.gops) / best;
}

nlohmann::ordered_json context(const std::string& command) {
    nlohmann::ordered_json j;
    char date[64] = {};
    const std::time_t now = std::time(nullptr);
    std::strftime(date, sizeof date, "%Y-%m-%d", std::localtime(&now));
    j["date"] = date;
    j["command"] = command;
    j["cpu"] = cpu_model();
    j["compiler"] = AQ_BENCH_COMPILER;
    j["flags"] = AQ_BENCH_FLAGS;
    j["num_cpus"] = benchmark::CPUInfo::Get().num_cpus;
    for (const benchmark::CPUInfo::CacheInfo& cache : benchmark::CPUInfo::Get().caches) {
        j["caches"].push_back({{"level", cache.level}, {"type", cache.type}, {"size", cache.size}});
    }
    j["cold_bytes"] = cold_bytes();
    return j;
}

nlohmann::ordered_json entry(const bench_case& c, const result& r, const results& found) {
    nlohmann::ordered_json j;
    j["name"] = c.name;
    if (!r.failed.empty() || !r.skipped.empty()) {
        j[r.failed.empty() ? "skipped" : "error_message"] = r.failed.empty() ? r.skipped : r.failed;
        j["error_occurred"] = !r.failed.empty();
        return j;
    }
    const summary s = summarize(c, found);
    j["run_type"] = "aggregate";
    j["aggregate_name"] = "median";
    j["repetitions"] = r.seconds.size();
    j["real_time"] = s.seconds * 1e9;
    j["cpu_time"] = median(r.cpu_seconds) * 1e9;
    j["time_unit"] = "ns";
    j["fastest"] = *std::min_element(r.seconds.begin(), r.seconds.end()) * 1e9;
    j["spread"] = s.spread;
    j["gops"] = s.gops;
    j["gbps"] = s.gbps;
    if (!s.limit.empty()) {
        j["percent_of_limit"] = s.percent_of_limit;
        j["limit"] = s.limit;
    }
    return j;
}

}  // namespace

double median(std::vector<double> values) {
    if (values.empty()) return 0.0;
    std::sort(values.begin(), values.end());
    const std::size_t half = values.size() / 2;
    return values.size() % 2 != 0 ? values[half] : (values[half - 1] + values[half]) / 2.0;
}

summary summarize(const bench_case& c, const results& found) {
    summary s;
    const auto at = found.find(c.name);
    if (at == found.end() || at->second.seconds.empty()) return s;
    const result& r = at->second;
    const auto [least, most] = std::minmax_element(r.seconds.begin(), r.seconds.end());
    s.seconds = median(r.seconds);
    s.spread = (*most - *least) / s.seconds;
    s.gops = r.ops / s.seconds * 1e-9;
    s.gbps = r.bytes / s.seconds * 1e-9;
    hold_against_limit(c, found, s);
    return s;
}

std::size_t print_table(const std::vector<bench_case>& cases, const results& found) {
    std::size_t failures = 0;
    std::map<std::string, std::vector<std::string>> skipped;  // by reason
    std::printf("%-60s %12s %8s %10s %9s %8s\n", "name", "median us", "spread", "gops", "gbps", "of limit");
    for (const bench_case& c : cases) {
        const auto at = found.find(c.name);
        if (at == found.end()) continue;
        const result& r = at->second;
        failures += r.failed.empty() ? 0 : 1;
        if (!r.skipped.empty()) skipped[r.skipped].push_back(c.name);
        if (!r.failed.empty()) std::printf("%-60s FAILED: %s\n", c.name.c_str(), r.failed.c_str());
        if (!r.failed.empty() || !r.skipped.empty()) continue;
        const summary s = summarize(c, found);
        std::printf("%-60s %12.1f %7.0f%% %10.1f %9.2f", c.name.c_str(), s.seconds * 1e6, 100.0 * s.spread, s.gops, s.gbps);
        if (s.limit.empty()) std::printf("        -\n");
        else std::printf(" %7.0f%%\n", s.percent_of_limit);
    }
    for (const auto& [reason, names] : skipped) {
        const std::string more = names.size() > 1 ? " and " + std::to_string(names.size() - 1) + " more" : "";
        std::printf("skipped: %s: %s%s\n", reason.c_str(), names[0].c_str(), more.c_str());
    }
    return failures;
}

bool write_json(const std::string& file, const std::vector<bench_case>& cases, const results& found, const std::string& command) {
    nlohmann::ordered_json j;
    j["context"] = context(command);
    j["benchmarks"] = nlohmann::ordered_json::array();
    for (const bench_case& c : cases) {
        const auto at = found.find(c.name);
        if (at != found.end()) j["benchmarks"].push_back(entry(c, at->second, found));
    }
    std::ofstream out(file);
    out << j.dump(1) << '\n';
    out.close();
    return static_cast<bool>(out);
}

}  // namespace aq_bench
