/// \file
/// Runs AMX-INT8 and AVX-VNNI (VEX) machine code on a CPU without them: while an `emulated_instructions` lives, an instruction of
/// theirs that traps is decoded, carried out on the interrupted registers and stepped over. x86-64 Linux.
///
/// On a CPU that has the instruction nothing traps, and so nothing is counted. Such a CPU has to be asked for AMX first
/// (arch_prctl): until then some of its instructions trap and some do not, which no emulation can make good.
#pragma once

#include "agilequant/core/config.hpp"

#if AQ_X86 && AQ_LINUX
#include <signal.h>
#include <ucontext.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "agilequant/isa/cpu.hpp"
#include "support/emulated_cpu_decode.hpp"
#include "support/emulated_cpu_tiles.hpp"
#include "support/emulated_cpu_vectors.hpp"

namespace aq_test {

namespace emulation {

/// What the handler reads. All of it is written before the handler is installed.
inline struct sigaction previous = {};
inline save_area_layout layout;
inline int depth = 0;
inline std::atomic<unsigned> generation{0};
inline std::atomic<std::uint64_t> counts[static_cast<std::size_t>(emulated::count)] = {};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "a signal handler counts");

/// Every thread has tiles of its own, as it has registers. An older generation's are forgotten: a test that needs what another
/// test configured has to fail.
struct thread_tiles {
    unsigned generation = 0;
    emulated_tiles tiles;
};
inline thread_local thread_tiles own_tiles;

inline emulated_tiles& tiles() {
    if (own_tiles.generation != generation.load()) {
        own_tiles.tiles = {};
        own_tiles.generation = generation.load();
    }
    return own_tiles.tiles;
}

inline address_registers registers_of(const ucontext_t& context) {
    constexpr int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                               REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    address_registers registers;
    for (int i = 0; i < 16; ++i) registers.general[i] = static_cast<std::uint64_t>(context.uc_mcontext.gregs[order[i]]);
    registers.rip = static_cast<std::uint64_t>(context.uc_mcontext.gregs[REG_RIP]);
    asm("mov %%fs:0, %0" : "=r"(registers.fs_base));  // the x86-64 ABI keeps the segment's own address in its first word
    return registers;
}

inline void run(const x86_instruction& in, void* save_area) {
    switch (in.kind) {
        case emulated::ldtilecfg: return tiles().load_config(memory_at(in.base + in.index));
        case emulated::sttilecfg: return tiles().store_config(memory_at(in.base + in.index));
        case emulated::tilerelease: tiles() = {}; return;
        case emulated::tilezero: return tiles().zero(in.reg);
        case emulated::tileloadd:
        case emulated::tileloaddt1: return tiles().load(in.kind, in.reg, in.base, in.index);
        case emulated::tilestored: return tiles().store(in.reg, in.base, in.index);
        case emulated::tdpbssd:
        case emulated::tdpbsud:
        case emulated::tdpbusd:
        case emulated::tdpbuud: return tiles().multiply(in.kind, in.reg, in.rm, in.vvvv);
        default: {
            saved_vectors registers(in.kind, save_area, layout);
            return run_dot_product(in, registers);
        }
    }
}

/// Whoever had the signal before. Without a handler there, the default takes its course when the instruction traps once more.
inline void pass_on(int number, siginfo_t* info, void* context) {
    if ((previous.sa_flags & SA_SIGINFO) != 0) return previous.sa_sigaction(number, info, context);
    if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) return previous.sa_handler(number);
    sigaction(number, &previous, nullptr);
    if (info->si_code <= 0) raise(number);  // sent by a process: nothing would trap again
}

/// Runs on the interrupted code's own stack: an alternate one belongs to a single thread, and kernels run in several.
inline void handle(int number, siginfo_t* info, void* context) {
    ucontext_t& interrupted = *static_cast<ucontext_t*>(context);
    address_registers registers = registers_of(interrupted);
    x86_instruction in;
    if (info->si_code > 0) in = decode(memory_at(registers.rip), registers);
    if (in.kind == emulated::none) return pass_on(number, info, context);
    const emulated kind = in.kind;
    do {  // the same once more, straight behind it, would trap too: one signal does for all, and signals are what takes time
        run(in, interrupted.uc_mcontext.fpregs);
        counts[static_cast<std::size_t>(kind)].fetch_add(1);
        registers.rip += in.length;
        in = decode(memory_at(registers.rip), registers);
    } while (in.kind == kind);
    interrupted.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(registers.rip);
}

}  // namespace emulation

/// Emulates in all threads while it lives, and counts from its making on. May be nested; one thread makes and ends them. Inside a
/// test case, not around several: doctest takes the signal for itself at the beginning of each.
class emulated_instructions {
public:
    static constexpr bool available = true;

    emulated_instructions() {
        for (std::size_t i = 0; i < kinds; ++i) before_[i] = emulation::counts[i].load();
        if (emulation::depth++ != 0) return;
        ++emulation::generation;
        emulation::layout = save_area_layout::of_this_cpu();
        sigaction(SIGILL, nullptr, &emulation::previous);
        struct sigaction own = {};
        own.sa_sigaction = emulation::handle;
        own.sa_flags = SA_SIGINFO;
        sigaction(SIGILL, &own, nullptr);
    }
    emulated_instructions(const emulated_instructions&) = delete;
    emulated_instructions& operator=(const emulated_instructions&) = delete;
    ~emulated_instructions() {
        if (--emulation::depth == 0) sigaction(SIGILL, &emulation::previous, nullptr);
    }

    /// How many were emulated since this object was made, by all threads.
    std::uint64_t count(emulated kind) const {
        const std::size_t i = static_cast<std::size_t>(kind);
        return emulation::counts[i].load() - before_[i];
    }
    std::uint64_t total() const {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < kinds; ++i) sum += count(static_cast<emulated>(i));
        return sum;
    }
    /// Whether the calling thread's emulated tiles are configured: a kernel should leave them released.
    static bool tiles_configured() { return emulation::tiles().configured(); }

    /// Whether this CPU has the instruction itself, and the operating system its registers.
    static bool is_native(emulated kind) {
        const aq::isa::x86_registers cpu = aq::isa::read_registers();
        const auto has = [&cpu](std::uint32_t features, int bit, std::uint64_t states) {
            return (features >> bit & 1U) != 0 && (cpu.xcr0 & states) == states;
        };
        constexpr std::uint64_t ymm = 3U << 1, tiles = 3U << 17;
        if (kind == emulated::vpdpbusd || kind == emulated::vpdpwssd) return has(cpu.leaf7_1_eax, 4, ymm);
        const bool is_product = kind >= emulated::tdpbssd && kind <= emulated::tdpbuud;
        return has(cpu.leaf7_edx, 24, tiles) && (!is_product || has(cpu.leaf7_edx, 25, tiles));
    }

private:
    static constexpr std::size_t kinds = static_cast<std::size_t>(emulated::count);
    std::uint64_t before_[kinds] = {};
};

}  // namespace aq_test

#else

namespace aq_test {
/// Nothing to emulate here: a test asks `available` and says with aq_test::skip that it could not run.
class emulated_instructions {
public:
    static constexpr bool available = false;
};
}  // namespace aq_test

#endif
