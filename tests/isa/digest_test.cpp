// A number for everything that products compute over 500 fixed cases, and another with two-level scales. The same on every instruction
// set, compiler, optimisation level and architecture; a change of it is a change of the library's arithmetic, and belongs in the
// changelog. What the first 240 cases give was pinned when there was no other architecture than x86.
#include <doctest/doctest.h>

#include "support/gemm_case.hpp"

using namespace aq_test;

namespace {

struct pinned {
    std::uint64_t cases, plain, two_level;
};
constexpr pinned pins[] = {{240, 13264374486818245547U, 9296695060625144840U},
                           {500, 17671394210180861174U, 1975778584801737396U}};

/// FNV-1a over values, not over memory: independent of the byte order.
struct digest {
    std::uint64_t value = 0xCBF29CE484222325U;
    void add(std::uint32_t v) {
        for (int i = 0; i < 32; i += 8) value = (value ^ (v >> i & 0xFFU)) * 0x100000001B3U;
    }
    void add(const outcome& o) {
        for (std::int8_t v : o.codes) add(static_cast<std::uint32_t>(static_cast<std::int32_t>(v)));
        for (float v : o.scales) add(aq::bits_of(v));
        for (std::int32_t v : o.zeros) add(static_cast<std::uint32_t>(v));
        for (std::int32_t v : o.sums) add(static_cast<std::uint32_t>(v));
        for (float v : o.y) add(aq::bits_of(v));
    }
};

/// What adds to the digest as case number `seed`.
gemm_case fixed_case(std::uint64_t seed, bool is_two_level) {
    gemm_case c = random_case(seed + 30000, 60);
    c.m = 1 + seed % 4;
    c.weights.range = seed % 4 == 0 ? aq::range_search::mean_square : aq::range_search::min_max;
    if (is_two_level && c.weights.bits == 8) c.weights.bits = 4;
    c.weights.scales = is_two_level ? aq::group_scales::integers : aq::group_scales::floats;
    return c;
}

}  // namespace

TEST_CASE("digest: 500 fixed cases have the pinned digest on every instruction set") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (const bool is_two_level : {false, true}) {
            digest d;
            std::uint64_t seed = 0;
            for (const pinned& p : pins) {
                while (seed < p.cases) d.add(gemm_setup(fixed_case(++seed, is_two_level)).run(*kernels));
                MESSAGE("digest of " << std::string(kernels->isa) << ", " << p.cases << " cases"
                                     << std::string(is_two_level ? ", two-level: " : ": ") << d.value);
                CHECK(d.value == (is_two_level ? p.two_level : p.plain));
            }
        }
    }
}
