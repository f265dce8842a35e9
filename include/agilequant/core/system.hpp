/// \file
/// The few things that are asked of the operating system, and the only place that includes its headers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agilequant/core/config.hpp"

#if AQ_LINUX
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace aq {

/// The size of a large page, as advised on Linux.
inline constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;

/// Asks for large pages behind [p, p + bytes), before it is touched. Reading weights from memory is a seventh to a third faster through them.
/// Advice only: where it is not followed nothing changes.
inline void ask_for_huge_pages([[maybe_unused]] void* p, [[maybe_unused]] std::size_t bytes) noexcept {
#if AQ_LINUX
    static_cast<void>(madvise(p, bytes, MADV_HUGEPAGE));
#endif
}

/// Linux gives AMX's 8 KiB of registers only to a process that has asked (arch_prctl ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA);
/// asking again changes nothing. An older kernel refuses, and the CPU counts as one without tiles.
[[nodiscard]] inline bool ask_for_tiles() noexcept {
#if AQ_LINUX && AQ_X86
    constexpr long arch_req_xcomp_perm = 0x1023, xfeature_xtiledata = 18;
    return syscall(SYS_arch_prctl, arch_req_xcomp_perm, xfeature_xtiledata) == 0;
#else
    return false;
#endif
}

/// What Linux says of the processor: AT_HWCAP and AT_HWCAP2 of the auxiliary vector. Where cores differ, it is what all of them have.
[[nodiscard]] inline std::uint64_t hardware_capabilities() noexcept {
#if AQ_LINUX
    return getauxval(AT_HWCAP);
#else
    return 0;
#endif
}
[[nodiscard]] inline std::uint64_t hardware_capabilities_2() noexcept {
#if AQ_LINUX
    return getauxval(AT_HWCAP2);
#else
    return 0;
#endif
}

}  // namespace aq
