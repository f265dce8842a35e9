/// \file
/// What this CPU can do, as far as kernels ask. Detection is a function of registers that a test can inject.
#pragma once

#include <cstdint>

#include "agilequant/core/config.hpp"

#if AQ_X86
#include <cpuid.h>
#endif

namespace aq {
namespace isa {

enum class feature : std::uint32_t { avx2 = 1U << 0 };

struct cpu {
    std::uint32_t features = 0;
    [[nodiscard]] constexpr bool has(feature f) const noexcept { return (features & static_cast<std::uint32_t>(f)) != 0; }
    [[nodiscard]] constexpr cpu with(feature f, bool there) const noexcept {
        return there ? cpu{features | static_cast<std::uint32_t>(f)} : *this;
    }
};

/// The registers that x86 tells its features in.
struct x86_registers {
    std::uint32_t leaf1_ecx = 0, leaf7_ebx = 0, leaf7_ecx = 0, leaf7_edx = 0, leaf7_1_eax = 0;
    std::uint64_t xcr0 = 0;  ///< the register states that the operating system saves; 0 without OSXSAVE
};

/// A feature counts only where the operating system saves its registers, and where nothing that it builds on is masked.
[[nodiscard]] constexpr cpu cpu_of(const x86_registers& r) noexcept {
    constexpr std::uint32_t osxsave_and_avx = 3U << 27;
    const bool has_ymm = (r.leaf1_ecx & osxsave_and_avx) == osxsave_and_avx && (r.xcr0 & 6U) == 6U;
    return cpu{}.with(feature::avx2, has_ymm && (r.leaf7_ebx >> 5 & 1U) != 0);
}

#if AQ_X86
[[nodiscard]] inline x86_registers read_registers() noexcept {
    x86_registers r;
    std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0) return r;
    r.leaf1_ecx = ecx;
    if ((ecx >> 27 & 1U) != 0) {
        std::uint32_t low = 0, high = 0;
        asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        r.xcr0 = static_cast<std::uint64_t>(high) << 32 | low;
    }
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0) {
        r.leaf7_ebx = ebx;
        r.leaf7_ecx = ecx;
        r.leaf7_edx = edx;
        if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0) r.leaf7_1_eax = eax;
    }
    return r;
}
#endif

/// The CPU that this runs on.
[[nodiscard]] inline cpu this_cpu() noexcept {
#if AQ_X86
    return cpu_of(read_registers());
#else
    return cpu{};
#endif
}

}  // namespace isa
}  // namespace aq
