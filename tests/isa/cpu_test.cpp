#include "agilequant/isa/list.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "support/skip.hpp"

#if AQ_ARM64 && AQ_LINUX
#include <csetjmp>
#include <csignal>
#endif

namespace {

using aq::isa::arm_capabilities;
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
        CHECK_FALSE(cpu_of(x86_registers{}).has(f));
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

namespace {

constexpr std::uint32_t bit(feature f) { return static_cast<std::uint32_t>(f); }
constexpr std::uint32_t just_neon = bit(feature::neon), up_to_dotprod = just_neon | bit(feature::dotprod),
                        up_to_i8mm = up_to_dotprod | bit(feature::i8mm);

/// The names that Linux prints for the bits of its two words, from the lowest on (arch/arm64: uapi/asm/hwcap.h, cpuinfo.c).
constexpr const char* hwcap_names =
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4 asimddp "
    "sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg";
constexpr const char* hwcap2_names =
    "dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 i8mm bf16 dgh rng bti";

std::vector<std::string> words_of(const std::string& line) {
    std::istringstream stream(line);
    std::vector<std::string> words;
    for (std::string word; stream >> word;) words.push_back(word);
    return words;
}

/// The words behind a line "Features" of /proc/cpuinfo.
arm_capabilities capabilities_of(const std::string& features_line) {
    arm_capabilities c;
    const std::vector<std::string> first = words_of(hwcap_names), second = words_of(hwcap2_names);
    for (const std::string& word : words_of(features_line)) {
        bool is_known = false;
        for (std::size_t i = 0; i < first.size() + second.size(); ++i) {
            const bool is_first = i < first.size();
            const std::size_t place = is_first ? i : i - first.size();
            if (word != (is_first ? first : second)[place]) continue;
            (is_first ? c.hwcap : c.hwcap2) |= std::uint64_t{1} << place;
            is_known = true;
        }
        CHECK_MESSAGE(is_known, word);
    }
    return c;
}

/// One bit of the words, and what a CPU without it has left.
struct arm_requirement {
    const char* name;
    arm_capabilities bits;
    std::uint32_t left;
};
constexpr arm_requirement arm_requirements[] = {
    {"HWCAP_ASIMD", {1U << 1, 0}, 0}, {"HWCAP_ASIMDDP", {1U << 20, 0}, just_neon}, {"HWCAP2_I8MM", {0, 1U << 13}, up_to_dotprod}};
constexpr arm_capabilities all_arm_bits{~std::uint64_t{0}, ~std::uint64_t{0}};

static_assert(cpu_of(arm_capabilities{}).features == 0 && cpu_of(arm_capabilities{1U << 1, 0}).features == just_neon);
static_assert(cpu_of(arm_capabilities{1U << 1 | 1U << 20, 0}).features == up_to_dotprod);
static_assert(cpu_of(arm_capabilities{1U << 1 | 1U << 20, 1U << 13}).features == up_to_i8mm);
static_assert(cpu_of(all_arm_bits).features == up_to_i8mm, "no word of Arm's tells of an instruction set of x86");

}  // namespace

TEST_CASE("cpu: each bit of Arm's that is missing alone takes away what builds on it, and no other bit counts") {
    arm_capabilities needed, others = all_arm_bits;
    for (const arm_requirement& r : arm_requirements) {
        needed = {needed.hwcap | r.bits.hwcap, needed.hwcap2 | r.bits.hwcap2};
        others = {others.hwcap & ~r.bits.hwcap, others.hwcap2 & ~r.bits.hwcap2};
    }
    CHECK(cpu_of(needed).features == up_to_i8mm);
    CHECK(cpu_of(others).features == 0);
    for (const arm_capabilities& full : {needed, all_arm_bits}) {
        for (const arm_requirement& missing : arm_requirements) {
            CAPTURE(std::string(missing.name));
            CHECK(cpu_of(arm_capabilities{full.hwcap & ~missing.bits.hwcap, full.hwcap2 & ~missing.bits.hwcap2}).features ==
                  missing.left);
        }
    }
    for (int i = 0; i < 64; ++i) {  // alone, a bit gives Advanced SIMD or nothing
        const std::uint64_t one = std::uint64_t{1} << i;
        CHECK(cpu_of(arm_capabilities{one, 0}).features == (i == 1 ? just_neon : 0));
        CHECK(cpu_of(arm_capabilities{0, one}).features == 0);
    }
}

TEST_CASE("cpu: the words of Arm devices that there are") {
    const std::string armv8_0 = "fp asimd evtstrm crc32 cpuid";
    const std::string armv8_2 =
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp";
    const struct {
        const char* device;
        std::string line;  ///< as /proc/cpuinfo has it there
        std::uint32_t features;
    } devices[] = {
        {"Raspberry Pi 3 (Cortex-A53) and 4 (Cortex-A72)", armv8_0, just_neon},
        {"Raspberry Pi 5 (Cortex-A76), Snapdragon 870 (Cortex-A77)", armv8_2, up_to_dotprod},
        {"Graviton 2 (Neoverse N1)", armv8_2 + " ssbs", up_to_dotprod},
        {"Apple M1",
         "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 asimddp "
         "sha512 asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg dcpodp flagm2 frint",
         up_to_dotprod},
        {"Graviton 3 (Neoverse V1)",
         "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4 "
         "asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs paca pacg dcpodp svei8mm svebf16 i8mm bf16 dgh rng",
         up_to_i8mm},
        {"Snapdragon 8 Gen 1 (Cortex-X2)",
         "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4 "
         "asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg dcpodp flagm2 frint i8mm bf16 bti",
         up_to_i8mm},
    };
    for (const auto& d : devices) {
        CAPTURE(std::string(d.device));
        CHECK(cpu_of(capabilities_of(d.line)).features == d.features);
    }
    CHECK(capabilities_of(armv8_0).hwcap == 0x887);  // the names stand where Linux counts them
    CHECK(capabilities_of(armv8_2).hwcap == 0x119FFF);
    CHECK(capabilities_of("pacg").hwcap == 0x80000000);
    CHECK(capabilities_of("i8mm bti").hwcap2 == 0x22000);
}

TEST_CASE("cpu: features are set one by one") {
    constexpr feature all[] = {feature::sse41,    feature::avx2, feature::avxvnni, feature::avx512vnni,
                               feature::amx_int8, feature::neon, feature::dotprod, feature::i8mm};
    const aq::isa::cpu none;
    for (const feature f : all) {
        CHECK_FALSE(none.has(f));
        CHECK(none.with(f, true).has(f));
        CHECK_FALSE(none.with(f, false).has(f));
        for (const feature other : all) CHECK(none.with(f, true).has(other) == (f == other));
    }
}

#if AQ_ARM64 && AQ_LINUX
namespace {

sigjmp_buf after_illegal_instruction;

/// Whether `instruction` executes here: the operating system is not asked.
bool executes(void (*instruction)()) {
    struct sigaction stop = {}, before = {};
    stop.sa_handler = [](int) { siglongjmp(after_illegal_instruction, 1); };
    sigaction(SIGILL, &stop, &before);
    volatile bool has_executed = false;
    if (sigsetjmp(after_illegal_instruction, 1) == 0) {
        instruction();
        has_executed = true;
    }
    sigaction(SIGILL, &before, nullptr);
    return has_executed;
}

// As words of machine code, so that the compiler needs no flags for them.
void add() { asm volatile(".inst 0x4ea28420" ::: "v0"); }            // add v0.4s, v1.4s, v2.4s
void sdot() { asm volatile(".inst 0x4e829420" ::: "v0"); }           // sdot v0.4s, v1.16b, v2.16b
void sdot_by_lane() { asm volatile(".inst 0x4f82e020" ::: "v0"); }   // sdot v0.4s, v1.16b, v2.4b[0]
void smmla() { asm volatile(".inst 0x4e82a420" ::: "v0"); }          // smmla v0.4s, v1.16b, v2.16b
void usmmla() { asm volatile(".inst 0x4e82ac20" ::: "v0"); }         // usmmla v0.4s, v1.16b, v2.16b
void undefined() { asm volatile(".inst 0x00000000" ::: "memory"); }  // udf #0

}  // namespace

TEST_CASE("cpu: detection agrees with what executes") {
    const aq::isa::cpu here = aq::isa::this_cpu();
    CHECK(executes(add));
    CHECK_FALSE(executes(undefined));  // the probe can tell
    CHECK(executes(add));              // more than once
    CHECK(here.has(feature::neon));
    CHECK(here.has(feature::dotprod) == executes(sdot));
    CHECK(here.has(feature::dotprod) == executes(sdot_by_lane));
    CHECK(here.has(feature::i8mm) == executes(smmla));
    CHECK(here.has(feature::i8mm) == executes(usmmla));
    MESSAGE("this CPU executes sdot: " << executes(sdot) << ", smmla: " << executes(smmla));
}
#endif

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
