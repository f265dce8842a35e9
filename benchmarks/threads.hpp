/// \file
/// Who runs a measured product: the caller, or a team whose workers stay on their cores.
#pragma once

#include "agilequant/model/executor.hpp"
#if AQ_OPENMP && AQ_LINUX
#include <sched.h>
#endif

namespace aq_bench {

/// Whether this build can use more than one thread.
inline constexpr bool has_teams = AQ_OPENMP != 0;

#if AQ_OPENMP
/// Worker i > 0 of OpenMP's team on core i. The caller stays free: libraries start threads from it, which would inherit its core.
inline void pin_workers(int threads) {
#if AQ_LINUX
#pragma omp parallel num_threads(threads)
    if (omp_get_thread_num() != 0) {
        cpu_set_t cores;
        CPU_ZERO(&cores);
        CPU_SET(static_cast<unsigned>(omp_get_thread_num()), &cores);
        static_cast<void>(sched_setaffinity(0, sizeof cores, &cores));  // a hint: without it the measurement is only noisier
    }
#else
    static_cast<void>(threads);
#endif
}
#endif

[[nodiscard]] inline aq::executor team_of(int threads) {
#if AQ_OPENMP
    if (threads > 1) {
        pin_workers(threads);
        return aq::openmp_executor(static_cast<std::size_t>(threads));
    }
#endif
    static_cast<void>(threads);
    return aq::serial_executor();
}

}  // namespace aq_bench
