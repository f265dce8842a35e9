/// \file
/// What this CPU can do, as far as kernels ask. Detection is a function of registers that a test can inject.
#pragma once

#include <cstdint>

#include "agilequant/core/config.hpp"
#include "agilequant/core/system.hpp"

#if AQ_X86
#include <cpuid.h>
#endif

namespace aq {
namespace isa {

enum class feature : std::uint32_t {
    sse41 = 1U << 0,
    avx2 = 1U << 1,
    avxvnni = 1U << 2,
    avx512vnni = 1U << 3,  ///< with F, BW and VL
    amx_int8 = 1U << 4,    ///< tiles and their int8 products, and a process that may use them
    neon = 1U << 5,        ///< Armv8.0's Advanced SIMD
    dotprod = 1U << 6,     ///< sdot and udot
    i8mm = 1U << 7         ///< smmla, ummla and usmmla
};

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
    std::uint64_t xcr0 = 0;      ///< the register states that the operating system saves; 0 without OSXSAVE
    bool may_use_tiles = false;  ///< the operating system has let this process use AMX's tiles
};

/// A feature counts only where the operating system saves its registers, and where nothing that it builds on is masked.
[[nodiscard]] constexpr cpu cpu_of(const x86_registers& r) noexcept {
    constexpr std::uint32_t osxsave_and_avx = 3U << 27, f_bw_vl = 1U << 16 | 1U << 30 | 1U << 31, tile_and_int8 = 3U << 24;
    const bool has_ymm = (r.leaf1_ecx & osxsave_and_avx) == osxsave_and_avx && (r.xcr0 & 6U) == 6U;
    const bool has_avx2 = has_ymm && (r.leaf7_ebx >> 5 & 1U) != 0;
    const bool has_zmm = has_avx2 && (r.xcr0 & 0xE6U) == 0xE6U && (r.leaf7_ebx & f_bw_vl) == f_bw_vl;
    const bool has_vnni = has_zmm && (r.leaf7_ecx >> 11 & 1U) != 0;
    const bool has_tiles = (r.xcr0 & 0x60000U) == 0x60000U && (r.leaf7_edx & tile_and_int8) == tile_and_int8;
    return cpu{}
        .with(feature::sse41, (r.leaf1_ecx >> 9 & r.leaf1_ecx >> 19 & 1U) != 0)  // SSSE3 and SSE4.1
        .with(feature::avx2, has_avx2)
        .with(feature::avxvnni, has_avx2 && (r.leaf7_1_eax >> 4 & 1U) != 0)
        .with(feature::avx512vnni, has_vnni)
        .with(feature::amx_int8, has_vnni && has_tiles && r.may_use_tiles);
}

/// The words in which Linux, on 64-bit Arm, tells a process what all cores of the machine have.
struct arm_capabilities {
    std::uint64_t hwcap = 0, hwcap2 = 0;
};

/// A feature counts only with those that it builds on.
[[nodiscard]] constexpr cpu cpu_of(const arm_capabilities& c) noexcept {
    const bool has_neon = (c.hwcap >> 1 & 1U) != 0;                     // HWCAP_ASIMD
    const bool has_dotprod = has_neon && (c.hwcap >> 20 & 1U) != 0;     // HWCAP_ASIMDDP
    const bool has_i8mm = has_dotprod && (c.hwcap2 >> 13 & 1U) != 0;    // HWCAP2_I8MM
    return cpu{}.with(feature::neon, has_neon).with(feature::dotprod, has_dotprod).with(feature::i8mm, has_i8mm);
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
    r.may_use_tiles = (r.leaf7_edx >> 24 & 1U) != 0 && ask_for_tiles();
    return r;
}
#endif

/// The CPU that this runs on; asked once.
[[nodiscard]] inline cpu this_cpu() noexcept {
#if AQ_X86
    static const cpu found = cpu_of(read_registers());
    return found;
#elif AQ_ARM64 && AQ_LINUX
    static const cpu found = cpu_of(arm_capabilities{hardware_capabilities(), hardware_capabilities_2()});
    return found;
#elif AQ_ARM64  // elsewhere nothing is asked: what the build's flags allow
    return cpu{}.with(feature::neon, AQ_BUILD_NEON).with(feature::dotprod, AQ_BUILD_DOTPROD).with(feature::i8mm, AQ_BUILD_I8MM);
#else
    return cpu{};
#endif
}

}  // namespace isa
}  // namespace aq
