/// \file
/// What a terminal shows: a line of progress while something takes long, and tables.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace aq::example {

/// "what  37 %, 12 s left", rewritten in place on standard error; silent where that is no terminal.
class progress {
public:
    explicit progress(std::string what);
    ~progress();
    progress(const progress&) = delete;
    progress& operator=(const progress&) = delete;
    /// `note` follows the figure, e.g. a perplexity so far.
    void show(std::size_t done, std::size_t all, const std::string& note = {});

private:
    using clock = std::chrono::steady_clock;
    std::string what_;
    bool visible_;
    clock::time_point begin_, shown_;
};

/// Columns padded to their widest cell, the first to the left, the others to the right.
class table {
public:
    explicit table(std::vector<std::string> head) : rows_{std::move(head)} {}
    void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
    void print() const;

private:
    std::vector<std::vector<std::string>> rows_;
};

/// A number with `digits` places.
[[nodiscard]] std::string number(double value, int digits);
/// How much more than `base`, as "+0.12 %".
[[nodiscard]] std::string change(double value, double base);
/// Bytes in MB (10^6) or kB.
[[nodiscard]] std::string bytes_text(std::size_t bytes);

}  // namespace aq::example
