#include "limits/limit_case.hpp"

#include "names.hpp"
#include "threads.hpp"

namespace aq_bench {

namespace {

class loop_runner final : public runner {
public:
    loop_runner(const limit_loop& loop, int threads) : loop_(loop), team_(team_of(threads)) {
        rounds_ = static_cast<std::size_t>(ops_in_a_run / loop.ops_per_round) + 1;
    }
    void run() override {
        team_.for_each(team_.workers, [&](std::size_t, std::size_t) { loop_.run(rounds_); });
    }
    [[nodiscard]] double ops() const override { return loop_.ops_per_round * static_cast<double>(rounds_ * team_.workers); }

private:
    // about a millisecond, beside which starting a team costs nothing
    static constexpr double ops_in_a_run = 2e8;
    std::size_t rounds_ = 1;
    limit_loop loop_;
    aq::executor team_;
};

}  // namespace

void add_compute_limit(std::vector<bench_case>& cases, const limit_loop& loop) {
    for (const int threads : {1, 2}) {
        if (threads > 1 && !has_teams) continue;
        bench_case c;
        c.name = joined({"limit", loop.isa, loop.what, numbered("t", static_cast<std::size_t>(threads))});
        c.group = "limit";
        c.is_default = threads == 1;
        if (!loop.is_here) c.absent = "this CPU lacks " + loop.isa;
        c.make = [loop, threads] { return std::make_unique<loop_runner>(loop, threads); };
        cases.push_back(std::move(c));
    }
}

void add_limits(std::vector<bench_case>& cases) {
    add_multiply_limits(cases);
    add_tile_limits(cases);
    add_read_limits(cases);
}

}  // namespace aq_bench
