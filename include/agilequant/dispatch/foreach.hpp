/// \file
/// Compiles the kernels' bodies once for each instruction set, in its own namespace: aq::scalar, aq::avx2, ...
///
/// Inside a target region the compiler may use instructions that the build's flags do not allow. Templates defined in the
/// region keep its target wherever they are instantiated; templates defined outside never get it. So ops and bodies are
/// included inside, everything that they need is included before, and the symbols of two instruction sets differ by
/// namespace. A region is opened only where the build does not have the instruction set anyway.
///
/// An instruction set compiles the families of kernels (kernels/body/family_*.hpp) in which it has something to offer, and takes
/// the other kernels from another's table.
///
/// Kernels take a while to compile. A program of several units may compile them once: AQ_KERNELS_HERE, defined before one unit's
/// include, puts them there, and AQ_KERNELS_ELSEWHERE in all others declares the tables only.
///
/// To add one: simd/ops_<isa>.hpp, a block below, its tag in isa/list.hpp and its row in dispatch/dispatch.hpp.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "agilequant/core/bits.hpp"
#include "agilequant/core/exact_float.hpp"
#include "agilequant/elementwise/exp_constants.hpp"
#include "agilequant/isa/list.hpp"
#include "agilequant/kernels/jobs.hpp"
#include "agilequant/quant/log2.hpp"
#include "agilequant/quant/uniform.hpp"
#include "agilequant/simd/ops_scalar.hpp"
#if AQ_X86
#include <immintrin.h>
#endif
#if AQ_HAS_NEON
#include <arm_neon.h>
#endif

#if defined(AQ_KERNELS_ELSEWHERE)
#define AQ_KERNEL_TABLE(...) extern const kernel_table table;
#elif defined(AQ_KERNELS_HERE)
#define AQ_KERNEL_TABLE(...)         \
    extern const kernel_table table; \
    constexpr kernel_table table = __VA_ARGS__;
#else
#define AQ_KERNEL_TABLE(...) inline constexpr kernel_table table = __VA_ARGS__;
#endif

// Empty lines keep formatters from sorting what builds on each other.

#define AQ_ISA scalar
#include "agilequant/kernels/body/family_inner_loops.hpp"

#include "agilequant/kernels/body/family_products.hpp"

#include "agilequant/kernels/body/packed_multiplier.hpp"

#include "agilequant/kernels/body/gemm_float.hpp"

#include "agilequant/kernels/body/family_rows.hpp"

#include "agilequant/kernels/body/family_attention.hpp"
#undef AQ_ISA

namespace aq {
namespace scalar {
AQ_KERNEL_TABLE(with_attention(with_quantize(with_gemm_float(with_packed_multiplier(with_products({}))))))
}  // namespace scalar
}  // namespace aq

#if AQ_HAS_SSE41
#if !AQ_BUILD_SSE41
AQ_REGION_BEGIN("sse4.1")
#endif
#define AQ_ISA sse41
#include "agilequant/simd/ops_sse41.hpp"

#include "agilequant/kernels/body/family_inner_loops.hpp"

#include "agilequant/kernels/body/family_products.hpp"

#include "agilequant/kernels/body/packed_multiplier.hpp"

#include "agilequant/kernels/body/gemm_float.hpp"

#include "agilequant/kernels/body/family_rows.hpp"

#include "agilequant/kernels/body/family_attention.hpp"
#undef AQ_ISA
#if !AQ_BUILD_SSE41
AQ_REGION_END
#endif

namespace aq {
namespace sse41 {
AQ_KERNEL_TABLE(with_attention(with_quantize(with_gemm_float(with_packed_multiplier(with_products({}))))))
}  // namespace sse41
}  // namespace aq
#endif

#if AQ_HAS_AVX2
#if !AQ_BUILD_AVX2
AQ_REGION_BEGIN("avx2")
#endif
#define AQ_ISA avx2
#include "agilequant/simd/ops_avx2.hpp"

#include "agilequant/kernels/body/family_inner_loops.hpp"

#include "agilequant/kernels/body/family_products.hpp"

#include "agilequant/kernels/body/packed_multiplier.hpp"

#include "agilequant/kernels/body/gemm_float.hpp"

#include "agilequant/kernels/body/family_rows.hpp"

#include "agilequant/kernels/body/family_attention.hpp"
#undef AQ_ISA
#if !AQ_BUILD_AVX2
AQ_REGION_END
#endif

namespace aq {
namespace avx2 {
AQ_KERNEL_TABLE(with_attention(with_quantize(with_gemm_float(with_packed_multiplier(with_products({}))))))
}  // namespace avx2
}  // namespace aq
#endif

#if AQ_HAS_AVXVNNI
#if !AQ_BUILD_AVXVNNI
AQ_REGION_BEGIN("avx2,avxvnni")
#endif
#define AQ_ISA avxvnni
#include "agilequant/simd/ops_avxvnni.hpp"

#include "agilequant/kernels/body/family_inner_loops.hpp"

#include "agilequant/kernels/body/family_products.hpp"
#undef AQ_ISA
#if !AQ_BUILD_AVXVNNI
AQ_REGION_END
#endif

namespace aq {
namespace avxvnni {
AQ_KERNEL_TABLE(with_products(avx2::table))
}  // namespace avxvnni
}  // namespace aq
#endif

#if AQ_HAS_AVX512VNNI
#if !AQ_BUILD_AVX512VNNI
AQ_REGION_BEGIN("avx2,avx512f,avx512bw,avx512vl,avx512vnni")
#endif
#define AQ_ISA avx512vnni
#include "agilequant/simd/ops_avx512vnni.hpp"

#include "agilequant/kernels/body/family_inner_loops.hpp"

#include "agilequant/kernels/body/family_products.hpp"

#include "agilequant/kernels/body/gemm_float.hpp"

#include "agilequant/kernels/body/family_rows.hpp"

#include "agilequant/kernels/body/family_attention.hpp"
#undef AQ_ISA
#if !AQ_BUILD_AVX512VNNI
AQ_REGION_END
#endif

namespace aq {
namespace avx512vnni {
AQ_KERNEL_TABLE(with_attention(with_quantize(with_gemm_float(with_products(avx2::table)))))
}  // namespace avx512vnni
}  // namespace aq
#endif

#if AQ_HAS_AMX
#if !AQ_BUILD_AVX512VNNI
AQ_REGION_BEGIN("avx2,avx512f,avx512bw,avx512vl,avx512vnni")
#endif
#define AQ_ISA amx
#define AQ_PARENT avx512vnni
#include "agilequant/simd/ops_amx.hpp"

#include "agilequant/kernels/body/store.hpp"

#include "agilequant/kernels/body/unpack_tiles.hpp"

#include "agilequant/kernels/body/gemm_tiles.hpp"

#include "agilequant/kernels/body/products.hpp"
#undef AQ_PARENT
#undef AQ_ISA
#if !AQ_BUILD_AVX512VNNI
AQ_REGION_END
#endif

namespace aq {
namespace amx {
AQ_KERNEL_TABLE(with_products(avx512vnni::table))
}  // namespace amx
}  // namespace aq
#endif

#if AQ_HAS_NEON
#define AQ_ISA neon
#include "agilequant/simd/ops_neon.hpp"

#include "agilequant/kernels/body/family_inner_loops.hpp"

#include "agilequant/kernels/body/lane_starts.hpp"

#include "agilequant/kernels/body/family_products.hpp"

#include "agilequant/kernels/body/packed_multiplier.hpp"

#include "agilequant/kernels/body/gemm_float.hpp"

#include "agilequant/kernels/body/family_rows.hpp"

#include "agilequant/kernels/body/family_attention.hpp"
#undef AQ_ISA

namespace aq {
namespace neon {
AQ_KERNEL_TABLE(with_attention(with_quantize(with_gemm_float(with_packed_multiplier(with_products({}))))))
}  // namespace neon
}  // namespace aq
#endif

#if AQ_HAS_DOTPROD
#if !AQ_BUILD_DOTPROD
AQ_REGION_BEGIN("arch=armv8.2-a+dotprod")
#endif
#define AQ_ISA dotprod
#include "agilequant/simd/ops_dotprod.hpp"

#include "agilequant/kernels/body/family_inner_loops.hpp"

#include "agilequant/kernels/body/family_products.hpp"

#include "agilequant/kernels/body/family_rows.hpp"

#include "agilequant/kernels/body/family_attention.hpp"
#undef AQ_ISA
#if !AQ_BUILD_DOTPROD
AQ_REGION_END
#endif

namespace aq {
namespace dotprod {
AQ_KERNEL_TABLE(with_attention(with_quantize(with_products(neon::table))))
}  // namespace dotprod
}  // namespace aq
#endif

#if AQ_HAS_I8MM
#if !AQ_BUILD_I8MM
AQ_REGION_BEGIN("arch=armv8.2-a+dotprod+i8mm")
#endif
#define AQ_ISA i8mm
#include "agilequant/simd/ops_i8mm.hpp"

#include "agilequant/kernels/body/family_inner_loops.hpp"

#include "agilequant/kernels/body/pair_kernel.hpp"

#include "agilequant/kernels/body/family_products.hpp"
#undef AQ_ISA
#if !AQ_BUILD_I8MM
AQ_REGION_END
#endif

namespace aq {
namespace i8mm {
AQ_KERNEL_TABLE(with_products(dotprod::table))
}  // namespace i8mm
}  // namespace aq
#endif
