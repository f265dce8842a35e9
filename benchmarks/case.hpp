/// \file
/// One thing that is measured: a name, what it is held against, and how to make it ready.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace aq_bench {

/// Ready to be timed.
class runner {
public:
    virtual ~runner() = default;
    /// Before the first timing. What is wrong with the result, or nothing.
    [[nodiscard]] virtual std::string check() { return {}; }
    virtual void run() = 0;
    /// Of one run: multiplications and additions, and bytes read from what counts (weights, activations, the buffer).
    [[nodiscard]] virtual double ops() const { return 0.0; }
    [[nodiscard]] virtual double bytes() const { return 0.0; }
};

/// What a case is held against: the best of the limits whose name begins with `stem` and ends with the number of threads.
struct limit_reference {
    std::string stem;  ///< empty: none
    int threads = 1;
    bool is_bandwidth = false;  ///< in bytes a second, else in operations

    [[nodiscard]] bool takes(const std::string& name) const;
};

struct bench_case {
    std::string name;
    std::string group;  ///< cases of a group are interleaved, and their memory is given back before the next group
    limit_reference limit;
    bool is_default = false;                        ///< runs when no filter is given
    std::string absent;                             ///< why it cannot run here; empty: it can
    std::function<std::unique_ptr<runner>()> make;  ///< null result: refuses
};

// Each source file of this folder adds its own.
void add_limits(std::vector<bench_case>& cases);
void add_gemm(std::vector<bench_case>& cases);
void add_attention(std::vector<bench_case>& cases);
void add_quantize(std::vector<bench_case>& cases);
void add_baselines(std::vector<bench_case>& cases);
void add_peers(std::vector<bench_case>& cases);
/// Computes nonsense: its check has to say so, and the program has to fail.
void add_broken(std::vector<bench_case>& cases);
void add_broken_attention(std::vector<bench_case>& cases);

}  // namespace aq_bench
