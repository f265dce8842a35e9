/// \file
/// Chooses the kernels: by name, by AQ_ISA in the environment, or the best that this CPU runs.
#pragma once

#include <cstdlib>
#include <cstring>

#include "agilequant/dispatch/foreach.hpp"

namespace aq {

/// An instruction set's kernels, and whether a CPU runs them.
struct isa_entry {
    const kernel_table* kernels;
    bool (*runs_on)(const isa::cpu&);
};

/// Every instruction set of this build, from the plainest to the best.
inline constexpr isa_entry isa_entries[] = {
    {&scalar::table, isa::scalar::runs_on},
#if AQ_HAS_SSE41
    {&sse41::table, isa::sse41::runs_on},
#endif
#if AQ_HAS_AVX2
    {&avx2::table, isa::avx2::runs_on},
#endif
#if AQ_HAS_AVXVNNI
    {&avxvnni::table, isa::avxvnni::runs_on},
#endif
#if AQ_HAS_AVX512VNNI
    {&avx512vnni::table, isa::avx512vnni::runs_on},
#endif
#if AQ_HAS_AMX
    {&amx::table, isa::amx::runs_on},
#endif
#if AQ_HAS_NEON
    {&neon::table, isa::neon::runs_on},
#endif
#if AQ_HAS_DOTPROD
    {&dotprod::table, isa::dotprod::runs_on},
#endif
#if AQ_HAS_I8MM
    {&i8mm::table, isa::i8mm::runs_on},
#endif
};

/// The best kernels for a CPU; never null, scalar runs everywhere.
[[nodiscard]] constexpr const kernel_table* best_kernels(const isa::cpu& cpu) noexcept {
    const kernel_table* best = nullptr;
    for (const isa_entry& e : isa_entries) best = e.runs_on(cpu) ? e.kernels : best;
    return best;
}

/// The kernels of a name. unknown_isa: no such name anywhere, or null; absent_isa: this build or this CPU lacks it.
[[nodiscard]] inline status find_kernels(const char* name, const isa::cpu& cpu, const kernel_table*& out) noexcept {
    if (name == nullptr) return status::unknown_isa;
    for (const isa_entry& e : isa_entries) {
        if (std::strcmp(e.kernels->isa, name) == 0 && e.runs_on(cpu)) {
            out = e.kernels;
            return status::ok;
        }
    }
    for (const char* known : isa::names) {
        if (std::strcmp(known, name) == 0) return status::absent_isa;
    }
    return status::unknown_isa;
}

/// The kernels that AQ_ISA in the environment names, or the best that this CPU runs where it is not set.
[[nodiscard]] inline status choose_kernels(const kernel_table*& out) noexcept {
    const isa::cpu cpu = isa::this_cpu();
    const char* const forced = std::getenv("AQ_ISA");
    if (forced != nullptr && *forced != '\0') return find_kernels(forced, cpu, out);
    out = best_kernels(cpu);
    return status::ok;
}

}  // namespace aq
