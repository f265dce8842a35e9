// limit/<isa>/<what>: how many operations a second the instructions that multiply can do, from registers, with as many independent chains
// as their latency needs. Inline assembly, so that no compiler finds out that nothing is done.
#include "agilequant/isa/cpu.hpp"
#include "limits/limit_case.hpp"
#if AQ_X86
#include <immintrin.h>
#endif

namespace aq_bench {

#if AQ_X86

namespace {

// One function a loop: CHAINS registers of type TYPE, constraint REG; STEP is what one round does with register `x`.
#define AQ_LOOP(NAME, TARGET, TYPE, CHAINS, STEP)                                    \
    __attribute__((target(TARGET))) void NAME(std::size_t rounds) {                  \
        TYPE chain[CHAINS], a = {}, b = {};                                          \
        AQ_UNROLL for (int i = 0; i < CHAINS; ++i) chain[i] = TYPE{};                \
        for (std::size_t round = 0; round < rounds; ++round) {                       \
            AQ_UNROLL for (int i = 0; i < CHAINS; ++i) {                             \
                TYPE& x = chain[i];                                                  \
                STEP;                                                                \
            }                                                                        \
        }                                                                            \
        AQ_UNROLL for (int i = 0; i < CHAINS; ++i) asm volatile("" ::"v"(chain[i])); \
    }

#define AQ_ACCUMULATE(INSTRUCTION) asm volatile(INSTRUCTION " %1, %2, %0" : "+v"(x) : "v"(a), "v"(b))

AQ_LOOP(vpdpbusd_512, "avx512f,avx512vnni", __m512i, 12, AQ_ACCUMULATE("vpdpbusd"))
AQ_LOOP(vpdpbusd_256, "avx512f,avx512vl,avx512vnni", __m256i, 12, AQ_ACCUMULATE("vpdpbusd"))
AQ_LOOP(vpdpbusd_vex, "avx2", __m256i, 12, AQ_ACCUMULATE("%{vex%} vpdpbusd"))
AQ_LOOP(fma_512, "avx512f", __m512, 12, AQ_ACCUMULATE("vfmadd231ps"))
AQ_LOOP(fma_256, "avx2,fma", __m256, 12, AQ_ACCUMULATE("vfmadd231ps"))

// Products in 16 or 32 bits that are added up: STEPS of them in each of six chains, then WIDEN moves a chain into its sum.
#define AQ_PAIRS(NAME, TARGET, TYPE, STEPS, FIRST, NEXT, WIDEN)                                                            \
    __attribute__((target(TARGET))) void NAME(std::size_t rounds) {                                                        \
        constexpr int chains = 6;                                                                                          \
        TYPE sum[chains], p[chains], q, a = {}, b = {};                                                                    \
        AQ_UNROLL for (int i = 0; i < chains; ++i) sum[i] = TYPE{};                                                        \
        for (std::size_t round = 0; round < rounds; ++round) {                                                             \
            AQ_UNROLL for (int i = 0; i < chains; ++i) asm volatile(FIRST : "=&x"(p[i]) : "x"(a), "x"(b));                 \
            for (int s = 1; s < (STEPS); ++s) {                                                                            \
                AQ_UNROLL for (int i = 0; i < chains; ++i) { asm volatile(NEXT : "=&x"(q), "+x"(p[i]) : "x"(a), "x"(b)); } \
            }                                                                                                              \
            AQ_UNROLL for (int i = 0; i < chains; ++i) asm volatile(WIDEN : "+x"(sum[i]), "+x"(p[i]) : "x"(a));            \
        }                                                                                                                  \
        AQ_UNROLL for (int i = 0; i < chains; ++i) asm volatile("" ::"x"(sum[i]));                                         \
    }

#define AQ_PAIRS_AVX2(NAME, STEPS, MULTIPLY, ADD, WIDEN) \
    AQ_PAIRS(NAME, "avx2", __m256i, STEPS, MULTIPLY " %1, %2, %0", MULTIPLY " %2, %3, %0\n\t" ADD " %0, %1, %1", WIDEN)
// two operands: a product overwrites one of them, so the weights are copied first
#define AQ_PAIRS_SSE(NAME, STEPS, MULTIPLY, ADD, WIDEN)                              \
    AQ_PAIRS(NAME, "sse4.1", __m128i, STEPS, "movdqa %1, %0\n\t" MULTIPLY " %2, %0", \
             "movdqa %2, %0\n\t" MULTIPLY " %3, %0\n\t" ADD " %0, %1", WIDEN)
#define AQ_WIDEN_AVX2 "vpmaddwd %2, %1, %1\n\tvpaddd %1, %0, %0"
#define AQ_WIDEN_SSE "pmaddwd %2, %1\n\tpaddd %1, %0"

AQ_PAIRS_AVX2(pairs_256_w4a8, 8, "vpmaddubsw", "vpaddw", AQ_WIDEN_AVX2)
AQ_PAIRS_AVX2(pairs_256_w4a4, 72, "vpmaddubsw", "vpaddw", AQ_WIDEN_AVX2)
AQ_PAIRS_AVX2(words_256, 72, "vpmaddwd", "vpaddd", "vpaddd %1, %0, %0")
AQ_PAIRS_SSE(pairs_128_w4a8, 8, "pmaddubsw", "paddw", AQ_WIDEN_SSE)
AQ_PAIRS_SSE(pairs_128_w4a4, 72, "pmaddubsw", "paddw", AQ_WIDEN_SSE)
AQ_PAIRS_SSE(words_128, 72, "pmaddwd", "paddd", "paddd %1, %0")

}  // namespace

void add_multiply_limits(std::vector<bench_case>& cases) {
    using aq::isa::feature;
    const aq::isa::cpu cpu = aq::isa::this_cpu();
    const bool vnni = cpu.has(feature::avx512vnni), avx2 = cpu.has(feature::avx2), sse41 = cpu.has(feature::sse41);
    const bool fma = avx2 && __builtin_cpu_supports("fma") != 0, avx512 = __builtin_cpu_supports("avx512f") != 0;
    // operations: chains * steps * products * 2
    const limit_loop loops[] = {
        {"sse41", "pmaddubsw_w4a8", sse41, 6 * 8 * 16 * 2.0, pairs_128_w4a8},
        {"sse41", "pmaddubsw_w4a4", sse41, 6 * 72 * 16 * 2.0, pairs_128_w4a4},
        {"sse41", "pmaddwd", sse41, 6 * 72 * 8 * 2.0, words_128},
        {"avx2", "pmaddubsw_w4a8", avx2, 6 * 8 * 32 * 2.0, pairs_256_w4a8},
        {"avx2", "pmaddubsw_w4a4", avx2, 6 * 72 * 32 * 2.0, pairs_256_w4a4},
        {"avx2", "pmaddwd", avx2, 6 * 72 * 16 * 2.0, words_256},
        {"avx2", "fma", fma, 12 * 8 * 2.0, fma_256},
        {"avxvnni", "vpdpbusd", cpu.has(feature::avxvnni), 12 * 32 * 2.0, vpdpbusd_vex},
        {"avx512vl", "vpdpbusd", vnni, 12 * 32 * 2.0, vpdpbusd_256},
        {"avx512vnni", "vpdpbusd", vnni, 12 * 64 * 2.0, vpdpbusd_512},
        {"avx512", "fma", avx512, 12 * 16 * 2.0, fma_512},
    };
    for (const limit_loop& loop : loops) add_compute_limit(cases, loop);
}

#else

void add_multiply_limits(std::vector<bench_case>&) {}

#endif

}  // namespace aq_bench
