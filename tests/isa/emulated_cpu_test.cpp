// Emulated instructions against plain loops, and their addresses against those that the CPU itself makes of the same text.
#include "support/emulated_cpu.hpp"

#include <doctest/doctest.h>

#include "support/skip.hpp"

#if AQ_X86 && AQ_LINUX
#include <immintrin.h>
#include <setjmp.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "agilequant/isa/cpu.hpp"
#include "support/random.hpp"

using namespace aq_test;

namespace {

#define AQ_VECTORS                                                                                                               \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", \
        "xmm15"

bool have_avx2() {
    if (aq::isa::this_cpu().has(aq::isa::feature::avx2)) return true;
    skip("this CPU has no YMM registers");
    return false;
}

/// Whether emulation did what the CPU did not.
bool is_counted(const emulated_instructions& emulation, emulated kind, std::uint64_t times) {
    return emulation.count(kind) == (emulated_instructions::is_native(kind) ? 0 : times);
}

// ---- AVX-VNNI ----

/// Sixteen registers; 256 bits of each, or 512.
struct register_file {
    std::uint32_t lane[16][16] = {};
    bool carry = false;  // a flag, which has to survive
};

struct register_case {
    const char* name;
    emulated kind;
    bool is_256;
    int sum, a, b;
    void (*run_ymm)(register_file&);
    void (*run_zmm)(register_file&);
};

#define AQ_ALL ".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
#define AQ_RUN(move, file, instruction)                                                                                      \
    [](register_file& all) {                                                                                                 \
        asm volatile(AQ_ALL move " 64*\\r(%0), %%" file "\\r\n.endr\nstc\n" instruction "\nsetc %1\n" AQ_ALL move " %%" file \
                                 "\\r, 64*\\r(%0)\n.endr\nvzeroupper"                                                        \
                     :                                                                                                       \
                     : "r"(&all), "m"(all.carry)                                                                             \
                     : "memory", "cc", AQ_VECTORS);                                                                          \
    }
#define AQ_TEXT(op, reg, sum, a, b) "%{vex%} " #op " %%" reg #b ", %%" reg #a ", %%" reg #sum
#define AQ_CASE(op, reg, sum, a, b)                                                            \
    {                                                                                          \
#op " " reg #b ", " #a ", " #sum, emulated::op,                                        \
            (reg)[0] == 'y', sum, a, b, AQ_RUN("vmovdqu", "ymm", AQ_TEXT(op, reg, sum, a, b)), \
                  AQ_RUN("vmovdqu64", "zmm", AQ_TEXT(op, reg, sum, a, b))                      \
    }
#define AQ_CASES(op, reg)                                                                                           \
    AQ_CASE(op, reg, 0, 1, 2), AQ_CASE(op, reg, 15, 14, 13), AQ_CASE(op, reg, 8, 0, 7), AQ_CASE(op, reg, 7, 8, 15), \
        AQ_CASE(op, reg, 3, 9, 3), AQ_CASE(op, reg, 3, 3, 12), AQ_CASE(op, reg, 5, 5, 5), AQ_CASE(op, reg, 12, 4, 4)

const register_case register_cases[] = {AQ_CASES(vpdpbusd, "ymm"), AQ_CASES(vpdpbusd, "xmm"), AQ_CASES(vpdpwssd, "ymm"),
                                        AQ_CASES(vpdpwssd, "xmm")};

std::uint32_t plain_dot(emulated kind, std::uint32_t sum, std::uint32_t a, std::uint32_t b) {
    std::int64_t total = sum;
    for (int i = 0; i < 32; i += 8) {
        if (kind == emulated::vpdpbusd)
            total += static_cast<std::int64_t>(a >> i & 255U) * static_cast<std::int8_t>(b >> i & 255U);
    }
    for (int i = 0; i < 32; i += 16) {
        if (kind == emulated::vpdpwssd)
            total += std::int64_t{static_cast<std::int16_t>(a >> i)} * static_cast<std::int16_t>(b >> i);
    }
    return static_cast<std::uint32_t>(total);
}

void check_registers(const register_case& c, bool is_zmm, random_source& random) {
    CAPTURE(std::string(c.name));
    CAPTURE(is_zmm);
    register_file all;
    for (auto& lanes : all.lane) {
        for (std::uint32_t& lane : lanes) lane = random.flip() ? 0x80FF807FU : static_cast<std::uint32_t>(random.next());
    }
    register_file expected = all;
    for (int i = 0; i < 16; ++i) {
        if (i < (c.is_256 ? 8 : 4))
            expected.lane[c.sum][i] = plain_dot(c.kind, all.lane[c.sum][i], all.lane[c.a][i], all.lane[c.b][i]);
        else if (is_zmm || i < 8)  // a move of 256 bits leaves the rest of its memory
            expected.lane[c.sum][i] = 0;
    }
    (is_zmm ? c.run_zmm : c.run_ymm)(all);
    CHECK(std::memcmp(all.lane, expected.lane, sizeof(all.lane)) == 0);
    CHECK(all.carry);
}

struct memory_operands {
    std::uint32_t sum[8], a[8], b[8];  // b: what the CPU itself finds at the address
};
struct memory_case {
    const char* name;
    void (*run)(memory_operands&, const void* base, std::int64_t index);
};

// rax, r12 and r13 hold the base, rcx and r9 the index; label 0 stands behind the instruction.
#define AQ_MEMORY(text)                                                              \
    {                                                                                \
        text, [](memory_operands& o, const void* base, std::int64_t index) {         \
            asm volatile(                                                            \
                "mov %%rax, %%r12\nmov %%rax, %%r13\nmov %%rcx, %%r9\n"              \
                "vmovdqu (%%rdi), %%ymm11\nvmovdqu 32(%%rdi), %%ymm1\nvmovdqu " text \
                ", %%ymm2\n"                                                         \
                "%{vex%} vpdpbusd " text                                             \
                ", %%ymm1, %%ymm11\n0:\n"                                            \
                "vmovdqu %%ymm11, (%%rdi)\nvmovdqu %%ymm2, 64(%%rdi)\nvzeroupper"    \
                :                                                                    \
                : "a"(base), "c"(index), "D"(&o)                                     \
                : "memory", "r9", "r12", "r13", AQ_VECTORS);                         \
        }                                                                            \
    }

const memory_case memory_cases[] = {
    AQ_MEMORY("(%%rax)"),        AQ_MEMORY("24(%%rax)"),         AQ_MEMORY("-96(%%rax)"),       AQ_MEMORY("300(%%rax)"),
    AQ_MEMORY("-300(%%rax)"),    AQ_MEMORY("(%%r12)"),           AQ_MEMORY("8(%%r12)"),         AQ_MEMORY("(%%r13)"),
    AQ_MEMORY("(%%rax,%%rcx)"),  AQ_MEMORY("(%%rax,%%rcx,2)"),   AQ_MEMORY("16(%%rax,%%r9,4)"), AQ_MEMORY("(%%r13,%%rcx,8)"),
    AQ_MEMORY("-5(%%r12,%%r9)"), AQ_MEMORY("300(%%r13,%%r9,2)"), AQ_MEMORY("(%%rcx,%%r12)"),    AQ_MEMORY("(%%rcx,%%r13)"),
    AQ_MEMORY("(%%rsp)"),        AQ_MEMORY("40(%%rsp)"),         AQ_MEMORY("-32+0f(%%rip)"),    AQ_MEMORY("0f(%%rip)"),
    AQ_MEMORY("%%fs:0"),         AQ_MEMORY("-8(%%rsp,%%rcx)"),   AQ_MEMORY("%%fs:(,%%r9,8)"),
};

/// A low address, for the form without a base.
const memory_case absolute_case = AQ_MEMORY("0x40(,%%rcx,8)");

void check_memory(const memory_case& c, const void* base, std::int64_t index, random_source& random) {
    CAPTURE(std::string(c.name));
    memory_operands o = {}, expected;
    for (int i = 0; i < 8; ++i)
        o.sum[i] = static_cast<std::uint32_t>(random.next()), o.a[i] = static_cast<std::uint32_t>(random.next());
    expected = o;
    c.run(o, base, index);
    for (int i = 0; i < 8; ++i) expected.sum[i] = plain_dot(emulated::vpdpbusd, expected.sum[i], o.a[i], o.b[i]);
    CHECK(std::memcmp(o.sum, expected.sum, sizeof(o.sum)) == 0);
}

__attribute__((target("avx2,avxvnni"))) std::uint32_t compiled_dot(const std::uint8_t* a, const std::int8_t* b,
                                                                   std::size_t count) {
    __m256i sum = _mm256_setzero_si256();
    for (std::size_t i = 0; i + 32 <= count; i += 32)
        sum = _mm256_dpbusd_avx_epi32(sum, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + i)),
                                      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + i)));
    std::uint32_t lanes[8], total = 0;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), sum);
    for (std::uint32_t lane : lanes) total += lane;
    return total;
}

}  // namespace

TEST_CASE("emulated vpdpbusd, vpdpwssd: every kind of register, the others untouched") {
    if (!have_avx2()) return;
    const emulated_instructions emulation;
    const bool has_zmm = __builtin_cpu_supports("avx512f") != 0;
    random_source random(1);
    std::uint64_t runs = 0;
    for (int round = 0; round < 20; ++round) {
        for (const register_case& c : register_cases) {
            for (int is_zmm = 0; is_zmm <= (has_zmm ? 1 : 0); ++is_zmm, ++runs) check_registers(c, is_zmm != 0, random);
        }
    }
    CHECK(is_counted(emulation, emulated::vpdpbusd, runs / 2));
    CHECK(is_counted(emulation, emulated::vpdpwssd, runs / 2));
}

TEST_CASE("emulated vpdpbusd: operands in memory are where the CPU finds them") {
    if (!have_avx2()) return;
    const emulated_instructions emulation;
    random_source random(2);
    std::vector<std::uint8_t> bytes(2000);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random.next());
    for (const memory_case& c : memory_cases) {
        for (std::int64_t index : {0, 1, 7, 33, -11}) check_memory(c, bytes.data() + 800, index, random);
    }
    check_memory(absolute_case, nullptr, static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(bytes.data()) / 8), random);
    CHECK(is_counted(emulation, emulated::vpdpbusd, 5 * std::size(memory_cases) + 1));
}

TEST_CASE("emulated vpdpbusd: one straight behind another, and another instruction between") {
    if (!have_avx2()) return;
    const emulated_instructions emulation;
    const std::uint32_t from[4] = {1, 0x01020304, 0x00FF0002, 0x80FF0101};
    std::uint32_t to[4] = {}, expected[4] = {};
    asm volatile(
        "vmovdqu (%0), %%xmm3\nvpxor %%xmm0, %%xmm0, %%xmm0\nvmovdqa %%xmm0, %%xmm9\n"
        "%{vex%} vpdpbusd %%xmm3, %%xmm3, %%xmm0\n%{vex%} vpdpbusd (%0), %%xmm3, %%xmm9\n%{vex%} vpdpbusd %%xmm3, %%xmm3, "
        "%%xmm0\n"
        "%{vex%} vpdpwssd %%xmm3, %%xmm3, %%xmm0\nvpaddd %%xmm9, %%xmm0, %%xmm0\n%{vex%} vpdpbusd %%xmm3, %%xmm3, %%xmm0\n"
        "vmovdqu %%xmm0, (%1)"
        :
        : "r"(from), "r"(to)
        : "memory", AQ_VECTORS);
    for (int i = 0; i < 4; ++i) {
        for (int n = 0; n < 4; ++n) expected[i] = plain_dot(emulated::vpdpbusd, expected[i], from[i], from[i]);
        expected[i] = plain_dot(emulated::vpdpwssd, expected[i], from[i], from[i]);
        CHECK(to[i] == expected[i]);
    }
    CHECK(is_counted(emulation, emulated::vpdpbusd, 4));
    CHECK(is_counted(emulation, emulated::vpdpwssd, 1));
}

TEST_CASE("emulated vpdpbusd: as the compiler writes it") {
    if (!have_avx2()) return;
    const emulated_instructions emulation;
    random_source random(3);
    std::vector<std::uint8_t> a(320);
    std::vector<std::int8_t> b(320);
    std::uint32_t expected = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        a[i] = static_cast<std::uint8_t>(random.next());
        b[i] = static_cast<std::int8_t>(random.next());
        expected += static_cast<std::uint32_t>(a[i] * b[i]);
    }
    CHECK(compiled_dot(a.data(), b.data(), a.size()) == expected);
    CHECK(is_counted(emulation, emulated::vpdpbusd, 10));
}
namespace {

sigjmp_buf back;
volatile sig_atomic_t arrived = 0;
void jump_back(int number) {
    arrived = number;
    siglongjmp(back, 1);
}
void count_arrival(int, siginfo_t*, void*) { arrived = arrived + 1; }

/// How a child that calls `run` ends, with the default for the signal: its wait status.
template <class Run>
int end_of_child(const Run& run) {
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGILL, SIG_DFL);
        const emulated_instructions emulation;
        run();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
}

bool dies_of_it(int status) { return WIFSIGNALED(status) && WTERMSIG(status) == SIGILL; }

}  // namespace

TEST_CASE("emulated instructions: any other that traps goes to whoever had the signal") {
    if (!have_avx2()) return;
    const auto before = signal(SIGILL, jump_back);
    {
        const emulated_instructions emulation, nested;
        for (int i = 0; i < 2; ++i) {
            arrived = 0;
            if (sigsetjmp(back, 1) == 0) asm volatile("ud2");
            CHECK(arrived == SIGILL);
        }
        CHECK(emulation.total() == 0);
    }
    signal(SIGILL, before);

    struct sigaction with_info = {}, old;
    with_info.sa_sigaction = count_arrival;
    with_info.sa_flags = SA_SIGINFO;
    sigaction(SIGILL, &with_info, &old);
    {
        const emulated_instructions emulation;
        arrived = 0;
        // Sent, not trapped, and so not answered by carrying out what stands at the instruction pointer: that traps afterwards.
        long result = SYS_tgkill;
        asm volatile("syscall\n%{vex%} vpdpbusd %%xmm0, %%xmm0, %%xmm0"
                     : "+a"(result)
                     : "D"(getpid()), "S"(syscall(SYS_gettid)), "d"(SIGILL)
                     : "memory", "rcx", "r11", "xmm0");
        CHECK(result == 0);
        CHECK(arrived == 1);
        CHECK(is_counted(emulation, emulated::vpdpbusd, 1));
    }
    sigaction(SIGILL, &old, nullptr);
}

TEST_CASE("emulated instructions: without a handler the default ends the process") {
    CHECK(end_of_child([] {}) == 0);
    CHECK(dies_of_it(end_of_child([] { asm volatile("ud2"); })));
    CHECK(dies_of_it(end_of_child([] { raise(SIGILL); })));
    // encodings that the manual calls #UD
    CHECK(dies_of_it(end_of_child([] { asm volatile(".byte 0xc4, 0xe2, 0xf5, 0x50, 0xc2"); })));        // vpdpbusd with VEX.W
    CHECK(dies_of_it(end_of_child([] { asm volatile(".byte 0xc4, 0xe2, 0x77, 0x5e, 0xc2"); })));        // tdpbssd with VEX.L
    CHECK(dies_of_it(end_of_child([] { asm volatile(".byte 0xc4, 0xe2, 0x3b, 0x5e, 0xc2"); })));        // tdpbssd of tile 8
    CHECK(dies_of_it(end_of_child([] { asm volatile(".byte 0xc4, 0xe2, 0x7b, 0x4b, 0x00"); })));        // tileloadd without SIB
    CHECK(dies_of_it(end_of_child([] { asm volatile(".byte 0x66, 0xc4, 0xe2, 0x75, 0x50, 0xc2"); })));  // a prefix before VEX
}

TEST_CASE("emulated instructions: the signal is given back") {
    const auto before = signal(SIGILL, jump_back);
    { const emulated_instructions emulation; }
    const bool is_back = signal(SIGILL, before) == jump_back;
    CHECK(is_back);
}
#else
TEST_CASE("emulated instructions") { aq_test::skip("x86-64 Linux only"); }
#endif
