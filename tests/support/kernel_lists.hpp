/// \file
/// Which instruction sets a test goes through: those that run here, and those that an emulation of a few instructions makes run.
#pragma once

#include <string>
#include <vector>

#include "agilequant/dispatch/dispatch.hpp"
#include "support/emulated_cpu.hpp"

namespace aq_test {

using kernel_list = std::vector<const aq::kernel_table*>;

/// Those that a CPU runs.
inline kernel_list kernels_of(const aq::isa::cpu& cpu) {
    kernel_list tables;
    for (const aq::isa_entry& e : aq::isa_entries) {
        if (e.runs_on(cpu)) tables.push_back(e.kernels);
    }
    return tables;
}

/// Those that run here.
inline kernel_list runnable_kernels() { return kernels_of(aq::isa::this_cpu()); }

/// This CPU with what emulated_cpu.hpp adds to it. An instruction that the CPU has, but that the operating system keeps from
/// this process, traps or not as it likes and is not emulated.
inline aq::isa::cpu emulated_cpu() {
    const aq::isa::cpu here = aq::isa::this_cpu();
#if AQ_X86 && AQ_LINUX
    using aq::isa::feature;
    const bool lacks_vnni = !emulated_instructions::is_native(emulated::vpdpbusd);
    const bool lacks_tiles =
        !emulated_instructions::is_native(emulated::ldtilecfg) && !emulated_instructions::is_native(emulated::tdpbusd);
    return here.with(feature::avxvnni, here.has(feature::avx2) && lacks_vnni)
        .with(feature::amx_int8, here.has(feature::avx512vnni) && lacks_tiles);
#else
    return here;
#endif
}

/// Those that do not run here, but do while an `emulated_instructions` lives.
inline kernel_list emulated_kernels() {
    kernel_list tables;
    for (const aq::isa_entry& e : aq::isa_entries) {
        if (!e.runs_on(aq::isa::this_cpu()) && e.runs_on(emulated_cpu())) tables.push_back(e.kernels);
    }
    return tables;
}

/// The names of those that neither run here nor can be emulated.
inline std::vector<std::string> absent_kernels() {
    std::vector<std::string> names;
    for (const char* name : aq::isa::names) {
        const aq::kernel_table* found = nullptr;
        if (aq::find_kernels(name, emulated_cpu(), found) != aq::status::ok &&
            aq::find_kernels(name, aq::isa::this_cpu(), found) != aq::status::ok)
            names.emplace_back(name);
    }
    return names;
}

}  // namespace aq_test
