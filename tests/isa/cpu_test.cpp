#include "agilequant/isa/list.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "support/skip.hpp"

namespace {

using aq::isa::cpu_of;
using aq::isa::feature;
using aq::isa::x86_registers;

/// One bit of a register, or a state that the operating system saves, and which features need it.
struct requirement {
    const char* name;
    void (*remove)(x86_registers&);
    std::vector<feature> needed_by;
};

constexpr feature features[] = {feature::sse41, feature::avx2, feature::avxvnni, feature::avx512vnni, feature::amx_int8};

/// The bits as Intel's manual numbers them (CPUID; XCR0 in volume 1, chapter 13).
std::vector<requirement> requirements() {
    constexpr feature sse41 = feature::sse41, avx2 = feature::avx2, vnni = feature::avxvnni, avx512 = feature::avx512vnni,
                      amx = feature::amx_int8;
    return {
        {"SSSE3", [](x86_registers& r) { r.leaf1_ecx &= ~(1U << 9); }, {sse41}},
        {"SSE4.1", [](x86_registers& r) { r.leaf1_ecx &= ~(1U << 19); }, {sse41}},
        {"OSXSAVE", [](x86_registers& r) { r.leaf1_ecx &= ~(1U << 27); }, {avx2, vnni, avx512, amx}},
        {"AVX", [](x86_registers& r) { r.leaf1_ecx &= ~(1U << 28); }, {avx2, vnni, avx512, amx}},
        {"AVX2", [](x86_registers& r) { r.leaf7_ebx &= ~(1U << 5); }, {avx2, vnni, avx512, amx}},
        {"AVX-VNNI", [](x86_registers& r) { r.leaf7_1_eax &= ~(1U << 4); }, {vnni}},
        {"AVX512F", [](x86_registers& r) { r.leaf7_ebx &= ~(1U << 16); }, {avx512, amx}},
        {"AVX512BW", [](x86_registers& r) { r.leaf7_ebx &= ~(1U << 30); }, {avx512, amx}},
        {"AVX512VL", [](x86_registers& r) { r.leaf7_ebx &= ~(1U << 31); }, {avx512, amx}},
        {"AVX512_VNNI", [](x86_registers& r) { r.leaf7_ecx &= ~(1U << 11); }, {avx512, amx}},
        {"AMX-TILE", [](x86_registers& r) { r.leaf7_edx &= ~(1U << 24); }, {amx}},
        {"AMX-INT8", [](x86_registers& r) { r.leaf7_edx &= ~(1U << 25); }, {amx}},
        {"XMM saved", [](x86_registers& r) { r.xcr0 &= ~(std::uint64_t{1} << 1); }, {avx2, vnni, avx512, amx}},
        {"YMM saved", [](x86_registers& r) { r.xcr0 &= ~(std::uint64_t{1} << 2); }, {avx2, vnni, avx512, amx}},
        {"masks saved", [](x86_registers& r) { r.xcr0 &= ~(std::uint64_t{1} << 5); }, {avx512, amx}},
        {"upper halves of ZMM saved", [](x86_registers& r) { r.xcr0 &= ~(std::uint64_t{1} << 6); }, {avx512, amx}},
        {"ZMM16..31 saved", [](x86_registers& r) { r.xcr0 &= ~(std::uint64_t{1} << 7); }, {avx512, amx}},
        {"tile configuration saved", [](x86_registers& r) { r.xcr0 &= ~(std::uint64_t{1} << 17); }, {amx}},
        {"tile data saved", [](x86_registers& r) { r.xcr0 &= ~(std::uint64_t{1} << 18); }, {amx}},
        {"leave to use tiles", [](x86_registers& r) { r.may_use_tiles = false; }, {amx}},
    };
}

/// Every bit that is asked for, and no other.
x86_registers all_that_is_needed() {
    x86_registers r;
    r.leaf1_ecx = 1U << 9 | 1U << 19 | 1U << 27 | 1U << 28;
    r.leaf7_ebx = 1U << 5 | 1U << 16 | 1U << 30 | 1U << 31;
    r.leaf7_ecx = 1U << 11;
    r.leaf7_edx = 1U << 24 | 1U << 25;
    r.leaf7_1_eax = 1U << 4;
    r.xcr0 = 0x600E6;
    r.may_use_tiles = true;
    return r;
}

x86_registers all_bits() {
    x86_registers r;
    r.leaf1_ecx = r.leaf7_ebx = r.leaf7_ecx = r.leaf7_edx = r.leaf7_1_eax = ~0U;
    r.xcr0 = ~std::uint64_t{0};
    r.may_use_tiles = true;
    return r;
}

}  // namespace

TEST_CASE("cpu: a processor with every bit has every feature, one without bits none") {
    for (const feature f : features) {
        CHECK(cpu_of(all_that_is_needed()).has(f));
        CHECK(cpu_of(all_bits()).has(f));
        CHECK_FALSE(cpu_of({}).has(f));
    }
}

TEST_CASE("cpu: each bit that is missing alone takes away what builds on it, and nothing else") {
    for (const x86_registers& full : {all_that_is_needed(), all_bits()}) {
        for (const requirement& missing : requirements()) {
            x86_registers r = full;
            missing.remove(r);
            for (const feature f : features) {
                bool is_needed = false;
                for (const feature n : missing.needed_by) is_needed = is_needed || n == f;
                INFO(std::string(missing.name) << ", feature " << static_cast<unsigned>(f));
                CHECK(cpu_of(r).has(f) == !is_needed);
            }
        }
    }
}

TEST_CASE("cpu: processors that there are") {
    x86_registers haswell = all_that_is_needed();
    haswell.leaf7_ebx = 1U << 5;
    haswell.leaf7_ecx = haswell.leaf7_edx = haswell.leaf7_1_eax = 0;
    haswell.xcr0 = 7;
    haswell.may_use_tiles = false;
    x86_registers alder_lake = haswell;  // AVX-512 is fused off, and the system does not save its registers
    alder_lake.leaf7_1_eax = 1U << 4;
    x86_registers zen4 = all_that_is_needed();
    zen4.leaf7_edx = zen4.leaf7_1_eax = 0;
    zen4.xcr0 = 0xE7;
    zen4.may_use_tiles = false;
    x86_registers sapphire_rapids = all_that_is_needed(), without_leave = sapphire_rapids;
    without_leave.may_use_tiles = false;  // an old Linux
    const auto bits = [](std::initializer_list<feature> list) {
        std::uint32_t all = 0;
        for (const feature f : list) all |= static_cast<std::uint32_t>(f);
        return all;
    };
    const std::uint32_t floor = bits({feature::sse41, feature::avx2});
    CHECK(cpu_of(haswell).features == floor);
    CHECK(cpu_of(alder_lake).features == (floor | bits({feature::avxvnni})));
    CHECK(cpu_of(zen4).features == (floor | bits({feature::avx512vnni})));
    CHECK(cpu_of(without_leave).features == (floor | bits({feature::avxvnni, feature::avx512vnni})));
    CHECK(cpu_of(sapphire_rapids).features == (floor | bits({feature::avxvnni, feature::avx512vnni, feature::amx_int8})));
}

TEST_CASE("cpu: features are set one by one") {
    const aq::isa::cpu none;
    for (const feature f : features) {
        CHECK_FALSE(none.has(f));
        CHECK(none.with(f, true).has(f));
        CHECK_FALSE(none.with(f, false).has(f));
        for (const feature other : features) CHECK(none.with(f, true).has(other) == (f == other));
    }
}

#if AQ_X86
TEST_CASE("cpu: detection agrees with the compiler's own") {
    __builtin_cpu_init();
    const aq::isa::cpu here = aq::isa::this_cpu();
    CHECK(here.has(feature::sse41) == (__builtin_cpu_supports("ssse3") != 0 && __builtin_cpu_supports("sse4.1") != 0));
    CHECK(here.has(feature::avx2) == (__builtin_cpu_supports("avx2") != 0));
    const bool has_avx512 = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
                            __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512vnni") != 0;
    CHECK(here.has(feature::avx512vnni) == has_avx512);
    // gcc 12 and clang 14 do not know the others; /proc/cpuinfo would not know of this process
    if (here.has(feature::amx_int8)) CHECK(here.has(feature::avx512vnni));
}

TEST_CASE("cpu: asking for tiles may be refused, and may be repeated") {
    CHECK(aq::ask_for_tiles() == aq::ask_for_tiles());
    if (!aq::isa::this_cpu().has(feature::amx_int8)) aq_test::skip("this CPU has no AMX: that it grants tiles was not seen");
}
#endif
