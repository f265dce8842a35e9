#include "half/job.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "agilequant/model/executor.hpp"
#if AQ_X86
#include <immintrin.h>
#endif

namespace aq_bench {

#if AQ_X86

AQ_REGION_BEGIN("avx2,fma,f16c")
namespace half_avx2 {
struct ops {
    using f32 = __m256;
    static constexpr int lanes = 8, vectors = 2, rows = 6;
    static constexpr std::size_t width = 16;
    static AQ_INLINE f32 zero() { return _mm256_setzero_ps(); }
    static AQ_INLINE f32 load(const float* p) { return _mm256_loadu_ps(p); }
    static AQ_INLINE f32 load(const std::uint16_t* p) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static AQ_INLINE f32 broadcast(const float* p) { return _mm256_broadcast_ss(p); }
    static AQ_INLINE f32 multiply_add(f32 a, f32 b, f32 c) { return _mm256_fmadd_ps(a, b, c); }
    static AQ_INLINE void store(float* p, f32 v) { _mm256_storeu_ps(p, v); }
};
#include "half/body.hpp"
}  // namespace half_avx2
AQ_REGION_END

AQ_REGION_BEGIN("avx512f")
namespace half_avx512 {
struct ops {
    using f32 = __m512;
    static constexpr int lanes = 16, vectors = 2, rows = 12;
    static constexpr std::size_t width = 32;
    static AQ_INLINE f32 zero() { return _mm512_setzero_ps(); }
    static AQ_INLINE f32 load(const float* p) { return _mm512_loadu_ps(p); }
    static AQ_INLINE f32 load(const std::uint16_t* p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static AQ_INLINE f32 broadcast(const float* p) { return _mm512_set1_ps(*p); }
    static AQ_INLINE f32 multiply_add(f32 a, f32 b, f32 c) { return _mm512_fmadd_ps(a, b, c); }
    static AQ_INLINE void store(float* p, f32 v) { _mm512_storeu_ps(p, v); }
};
#include "half/body.hpp"
}  // namespace half_avx512
AQ_REGION_END

const half_kernels* half_forms(std::size_t& count) {
    // clang 14 cannot ask for F16C; every processor with AVX2 has it
    static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
    static const bool has_avx512 = __builtin_cpu_supports("avx512f") != 0;
    static const half_kernels forms[] = {
        {"avx2", half_avx2::ops::width, has_avx2, half_avx2::pack, half_avx2::multiply},
        {"avx512", half_avx512::ops::width, has_avx512, half_avx512::pack, half_avx512::multiply},
    };
    count = 2;
    return forms;
}

#else

const half_kernels* half_forms(std::size_t& count) {
    count = 0;
    return nullptr;
}

#endif

}  // namespace aq_bench
