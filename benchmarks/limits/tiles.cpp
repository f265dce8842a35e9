// limit/amx/tdpbusd: tile products whose operands stay in tiles or come from the first-level cache.
#include <cstdint>

#include "agilequant/isa/cpu.hpp"
#include "limits/limit_case.hpp"
#if AQ_X86
#include <immintrin.h>
#endif

namespace aq_bench {

#if AQ_X86

namespace {

struct alignas(64) tile_configuration {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t bytes_in_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// 2 x 2 accumulators; a round loads two tiles of each operand and multiplies four times, as a kernel's inner loop does.
__attribute__((target("amx-tile,amx-int8"))) void tdpbusd(std::size_t rounds) {
    alignas(64) static const std::uint8_t operands[4][1024] = {};
    static constexpr tile_configuration configuration;
    asm volatile("ldtilecfg %0" : : "m"(configuration) : "memory");  // gcc 12's intrinsic is told to read 8 of the 64 bytes
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (std::size_t i = 0; i < rounds; ++i) {
        _tile_loadd(4, operands[0], 64);
        _tile_loadd(5, operands[1], 64);
        _tile_loadd(6, operands[2], 64);
        _tile_loadd(7, operands[3], 64);
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }
    _tile_release();
}

}  // namespace

void add_tile_limits(std::vector<bench_case>& cases) {
    const bool has_tiles = aq::isa::this_cpu().has(aq::isa::feature::amx_int8);
    add_compute_limit(cases, {"amx", "tdpbusd", has_tiles, 4 * 16 * 16 * 64 * 2.0, tdpbusd});
}

#else

void add_tile_limits(std::vector<bench_case>&) {}

#endif

}  // namespace aq_bench
