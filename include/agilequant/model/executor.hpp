/// \file
/// Who runs the tasks that a layer is cut into: the caller's thread, OpenMP, or the user's own pool. No threads of its own.
/// How work is cut never shows in a result.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "agilequant/core/config.hpp"
#include "agilequant/kernels/jobs.hpp"
#if AQ_OPENMP
#include <omp.h>
#endif

namespace aq {

/// Runs task(data, index, worker) for every index below `tasks`, in any order, and returns when all are done. `worker` is below
/// `workers` and never the same for two tasks that run at the same time: it chooses the scratch.
struct executor {
    std::size_t workers = 1;
    void* pool = nullptr;
    void (*run)(void* pool, std::size_t tasks, void (*task)(void* data, std::size_t index, std::size_t worker),
                void* data) = nullptr;

    template <class Task>
    void for_each(std::size_t tasks, Task&& task) const {
        using task_type = std::remove_reference_t<Task>;
        const auto call = [](void* data, std::size_t index, std::size_t worker) {
            (*static_cast<task_type*>(data))(index, worker);
        };
        if (run == nullptr || workers == 1 || tasks < 2) {
            for (std::size_t i = 0; i < tasks; ++i) task(i, std::size_t{0});
        } else {
            run(pool, tasks, call, static_cast<void*>(&task));
        }
    }
};

/// Everything on the caller's thread.
[[nodiscard]] inline executor serial_executor() noexcept { return {}; }

#if AQ_OPENMP
/// A team of `threads` (at least 1) for each call; OpenMP keeps them.
[[nodiscard]] inline executor openmp_executor(std::size_t threads) noexcept {
    static constexpr auto run = [](void* pool, std::size_t tasks, void (*task)(void*, std::size_t, std::size_t), void* data) {
        const long count = static_cast<long>(tasks);
#pragma omp parallel for schedule(dynamic) num_threads(static_cast <int>(reinterpret_cast <std::size_t>(pool)))
        for (long i = 0; i < count; ++i) task(data, static_cast<std::size_t>(i), static_cast<std::size_t>(omp_get_thread_num()));
    };
    threads = std::max<std::size_t>(threads, 1);
    return {threads, reinterpret_cast<void*>(threads), run};
}
#endif

/// Piece `index` of `pieces` nearly equal ones of 0 .. count, each but the last a multiple of `step`.
[[nodiscard]] constexpr index_range piece(std::size_t count, std::size_t pieces, std::size_t index,
                                          std::size_t step = 1) noexcept {
    const std::size_t steps = (count + step - 1) / step;
    const std::size_t begin = steps * index / pieces * step, end = steps * (index + 1) / pieces * step;
    return {begin < count ? begin : count, end < count ? end : count};
}

/// Into how many pieces to cut `count` things: a few for each worker, so that uneven ones even out.
[[nodiscard]] inline std::size_t piece_count(const executor& e, std::size_t count) noexcept {
    return e.workers == 1 ? 1 : std::max<std::size_t>(1, std::min(count, e.workers * 4));
}

}  // namespace aq
