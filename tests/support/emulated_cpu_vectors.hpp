/// \file
/// The vector registers of code that a signal interrupted, where the kernel saved them (XSAVE, standard format), and the
/// VEX forms of AVX-VNNI on them. A signal handler calls all of this: it allocates, locks and throws nothing.
#pragma once

#include "agilequant/core/config.hpp"

#if AQ_X86 && AQ_LINUX
#include <cpuid.h>
#include <signal.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "support/emulated_cpu_tiles.hpp"

namespace aq_test {

/// Where the parts of a vector register lie in the save area: they come apart into bits 0-127, 128-255 and 256-511.
struct save_area_layout {
    static constexpr std::size_t xmm = 160, software = 464, xstate_bv = 512, xcomp_bv = 520;
    std::size_t ymm_high = 0, zmm_high = 0;

    static save_area_layout of_this_cpu() {
        save_area_layout layout;
        unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
        if (__get_cpuid_count(0xD, 2, &eax, &ebx, &ecx, &edx) != 0) layout.ymm_high = ebx;
        if (__get_cpuid_count(0xD, 6, &eax, &ebx, &ecx, &edx) != 0) layout.zmm_high = ebx;
        return layout;
    }
};

class saved_vectors {
public:
    saved_vectors(emulated kind, void* area, const save_area_layout& layout) : area_(static_cast<std::uint8_t*>(area)) {
        _fpx_sw_bytes software;
        std::memcpy(&software, area_ + save_area_layout::software, sizeof(software));
        std::uint64_t in_use = 0, compacted = 0;
        std::memcpy(&in_use, area_ + save_area_layout::xstate_bv, sizeof(in_use));
        std::memcpy(&compacted, area_ + save_area_layout::xcomp_bv, sizeof(compacted));
        const bool is_whole = software.magic1 == FP_XSTATE_MAGIC1 && software.xstate_size >= layout.ymm_high + 16 * 16;
        if (!is_whole || layout.ymm_high == 0 || compacted != 0)
            (last_words(kind) << "the signal frame lacks YMM registers").stop();
        in_use &= software.xstate_bv;  // what is not in use is zero, and its bytes mean nothing
        if ((in_use >> 2 & 1) != 0) ymm_high_ = area_ + layout.ymm_high;
        if ((in_use >> 6 & 1) != 0) zmm_high_ = area_ + layout.zmm_high;
    }

    /// Bits 0-255 of a register.
    void read(int reg, std::uint8_t (&to)[32]) const {
        std::memset(to, 0, 32);
        std::memcpy(to, area_ + save_area_layout::xmm + 16 * reg, 16);
        if (ymm_high_ != nullptr) std::memcpy(to + 16, ymm_high_ + 16 * reg, 16);
    }
    /// Writes bits 0-255 and zeroes the rest, as VEX instructions do. Halves that are not in use stay so: the instructions here
    /// make nothing but zero of registers whose upper halves are all zero.
    void write(int reg, const std::uint8_t (&from)[32]) {
        std::memcpy(area_ + save_area_layout::xmm + 16 * reg, from, 16);
        if (ymm_high_ != nullptr) std::memcpy(ymm_high_ + 16 * reg, from + 16, 16);
        if (zmm_high_ != nullptr) std::memset(zmm_high_ + 32 * reg, 0, 32);
    }

private:
    std::uint8_t *area_, *ymm_high_ = nullptr, *zmm_high_ = nullptr;
};

/// One 32-bit sum: four products of an unsigned and a signed byte, or two of signed words. Wraps.
inline std::uint32_t dot_lane(emulated kind, std::uint32_t sum, const std::uint8_t* a, const std::uint8_t* b) {
    if (kind == emulated::vpdpbusd) {
        for (int i = 0; i < 4; ++i) sum += static_cast<std::uint32_t>(a[i] * static_cast<std::int8_t>(b[i]));
        return sum;
    }
    std::int16_t x[2], y[2];
    std::memcpy(x, a, 4);
    std::memcpy(y, b, 4);
    for (int i = 0; i < 2; ++i) sum += static_cast<std::uint32_t>(x[i] * y[i]);
    return sum;
}

inline void run_dot_product(const x86_instruction& in, saved_vectors& registers) {
    const std::size_t bytes = in.is_256 ? 32 : 16;
    std::uint8_t sum[32], a[32], b[32] = {}, result[32] = {};
    registers.read(in.reg, sum);
    registers.read(in.vvvv, a);
    if (in.has_memory) std::memcpy(b, memory_at(in.base + in.index), bytes);
    else registers.read(in.rm, b);
    for (std::size_t i = 0; i < bytes; i += 4) {
        std::uint32_t lane;
        std::memcpy(&lane, sum + i, 4);
        lane = dot_lane(in.kind, lane, a + i, b + i);
        std::memcpy(result + i, &lane, 4);
    }
    registers.write(in.reg, result);
}

}  // namespace aq_test
#endif
