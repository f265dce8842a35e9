/// \file
/// What a forward pass needs beside the model: kernels, an executor, and memory that is reused from call to call.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <iterator>
#include <numeric>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/model/executor.hpp"

namespace aq {

/// One piece of scratch for each worker.
class worker_scratch {
public:
    [[nodiscard]] status reserve(std::size_t workers, std::size_t bytes_each) noexcept {
        each_ = round_up(bytes_each > each_ ? bytes_each : each_, cache_line_bytes);
        return memory_.reserve(workers * each_);
    }
    [[nodiscard]] std::byte* of(std::size_t worker) noexcept { return memory_.data() + worker * each_; }
    [[nodiscard]] std::size_t bytes() const noexcept { return each_; }

private:
    std::size_t each_ = 0;
    aligned_buffer<std::byte> memory_;
};

/// The first failure of tasks that run at the same time.
class task_status {
public:
    void note(status s) noexcept {
        status none = status::ok;
        if (s != status::ok) first_.compare_exchange_strong(none, s, std::memory_order_relaxed);
    }
    [[nodiscard]] status get() const noexcept { return first_.load(std::memory_order_relaxed); }

private:
    std::atomic<status> first_{status::ok};
};

/// The parts of a block that time is told apart by.
enum class part { projections, attention, mlp, nonlinear, quantize, pruning };
inline constexpr std::size_t part_count = 6;

/// Seconds spent in each part, where somebody asks.
struct part_times {
    double seconds[part_count] = {};
    [[nodiscard]] double& operator[](part p) noexcept { return seconds[static_cast<std::size_t>(p)]; }
    [[nodiscard]] double total() const noexcept { return std::accumulate(std::begin(seconds), std::end(seconds), 0.0); }
};

/// Adds the time until the end of the scope to a part; does nothing without a clock.
class part_timer {
public:
    part_timer(part_times* times, part p) noexcept : times_(times), part_(p) {
        if (times_ != nullptr) begin_ = clock::now();
    }
    ~part_timer() {
        if (times_ != nullptr) (*times_)[part_] += std::chrono::duration<double>(clock::now() - begin_).count();
    }
    part_timer(const part_timer&) = delete;
    part_timer& operator=(const part_timer&) = delete;

private:
    using clock = std::chrono::steady_clock;
    part_times* times_;
    part part_;
    clock::time_point begin_;
};

struct run_context {
    const kernel_table* kernels = nullptr;
    executor threads;
    worker_scratch scratch;
    part_times* times = nullptr;  ///< null: nothing is timed

    /// Runs task(index, worker) for every piece; the first status that is not ok comes back.
    template <class Task>
    [[nodiscard]] status for_each(std::size_t tasks, Task&& task) {
        task_status result;
        threads.for_each(tasks, [&](std::size_t index, std::size_t worker) { result.note(task(index, worker)); });
        return result.get();
    }
};

}  // namespace aq
