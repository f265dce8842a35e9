#include "agilequant/isa/list.hpp"

#include <doctest/doctest.h>

#include <cstring>

namespace {

constexpr std::uint32_t osxsave = 1U << 27, avx = 1U << 28, avx2 = 1U << 5;

aq::isa::x86_registers registers(std::uint32_t leaf1_ecx, std::uint64_t xcr0, std::uint32_t leaf7_ebx) {
    aq::isa::x86_registers r;
    r.leaf1_ecx = leaf1_ecx;
    r.xcr0 = xcr0;
    r.leaf7_ebx = leaf7_ebx;
    return r;
}

}  // namespace

TEST_CASE("cpu: AVX2 counts only where the processor has it and the operating system saves its registers") {
    using aq::isa::cpu_of;
    using aq::isa::feature;
    CHECK(cpu_of(registers(osxsave | avx, 7, avx2)).has(feature::avx2));
    CHECK(cpu_of(registers(~0U, 0xE7, ~0U)).has(feature::avx2));          // with AVX-512 and everything else
    CHECK_FALSE(cpu_of(registers(avx, 7, avx2)).has(feature::avx2));      // no OSXSAVE: XCR0 is not to be believed
    CHECK_FALSE(cpu_of(registers(osxsave, 7, avx2)).has(feature::avx2));  // AVX masked, as hypervisors do
    CHECK_FALSE(cpu_of(registers(osxsave | avx, 0, avx2)).has(feature::avx2));
    CHECK_FALSE(cpu_of(registers(osxsave | avx, 3, avx2)).has(feature::avx2));  // XMM saved, YMM not
    CHECK_FALSE(cpu_of(registers(osxsave | avx, 4, avx2)).has(feature::avx2));
    CHECK_FALSE(cpu_of(registers(osxsave | avx, 7, ~avx2)).has(feature::avx2));
    CHECK_FALSE(cpu_of({}).has(feature::avx2));
}

TEST_CASE("cpu: features are set one by one") {
    const aq::isa::cpu none;
    CHECK_FALSE(none.has(aq::isa::feature::avx2));
    CHECK(none.with(aq::isa::feature::avx2, true).has(aq::isa::feature::avx2));
    CHECK_FALSE(none.with(aq::isa::feature::avx2, false).has(aq::isa::feature::avx2));
}

#if AQ_X86
TEST_CASE("cpu: detection agrees with the compiler's own") {
    __builtin_cpu_init();
    CHECK(aq::isa::this_cpu().has(aq::isa::feature::avx2) == (__builtin_cpu_supports("avx2") != 0));
}
#endif
