/// \file
/// The only reader of compiler and target macros. Everything else in the library asks the AQ_ macros defined here.
#pragma once

#if defined(__FAST_MATH__) || defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error "agilequant promises the same bits everywhere and cannot be built with -ffast-math or -ffinite-math-only"
#endif

#if !defined(__GNUC__)
#error "agilequant needs gcc 12 or clang 14, or newer: it compiles kernels for several instruction sets in one unit"
#endif

#if defined(__clang__)
#define AQ_CLANG 1
#else
#define AQ_CLANG 0
#endif

#if defined(__x86_64__)
#define AQ_X86 1
#else
#define AQ_X86 0
#endif

#if defined(__aarch64__)
#define AQ_ARM64 1
#else
#define AQ_ARM64 0
#endif

#if defined(__linux__)
#define AQ_LINUX 1
#else
#define AQ_LINUX 0
#endif

#if defined(_OPENMP)
#define AQ_OPENMP 1
#else
#define AQ_OPENMP 0
#endif

// AQ_STATIC_ISA, defined by the user: only the instruction sets of the build's flags are compiled (and scalar, the definition).
// AQ_BUILD_<ISA>: the compiler may use the instruction set anywhere, so its bodies need no target region.
// AQ_HAS_<ISA>: the library has bodies for it in this build.
#if defined(__SSE4_1__)
#define AQ_BUILD_SSE41 1
#else
#define AQ_BUILD_SSE41 0
#endif

#if defined(__AVX2__)
#define AQ_BUILD_AVX2 1
#else
#define AQ_BUILD_AVX2 0
#endif

#if defined(__AVXVNNI__)
#define AQ_BUILD_AVXVNNI 1
#else
#define AQ_BUILD_AVXVNNI 0
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)
#define AQ_BUILD_AVX512VNNI 1
#else
#define AQ_BUILD_AVX512VNNI 0
#endif

#if defined(__AMX_TILE__) && defined(__AMX_INT8__)
#define AQ_BUILD_AMX AQ_BUILD_AVX512VNNI
#else
#define AQ_BUILD_AMX 0
#endif

#if defined(__ARM_NEON) && AQ_ARM64
#define AQ_BUILD_NEON 1
#else
#define AQ_BUILD_NEON 0
#endif

#if defined(__ARM_FEATURE_DOTPROD)
#define AQ_BUILD_DOTPROD AQ_BUILD_NEON
#else
#define AQ_BUILD_DOTPROD 0
#endif

#if defined(__ARM_FEATURE_MATMUL_INT8)
#define AQ_BUILD_I8MM AQ_BUILD_DOTPROD
#else
#define AQ_BUILD_I8MM 0
#endif

// Before clang 16, arm_neon.h hides the intrinsics of what the build's flags do not name, even inside a target region.
#if AQ_CLANG && __clang_major__ < 16
#define AQ_ARM_REGIONS 0
#else
#define AQ_ARM_REGIONS AQ_BUILD_NEON
#endif

#if defined(AQ_STATIC_ISA)
#define AQ_HAS_SSE41 (AQ_X86 && AQ_BUILD_SSE41)
#define AQ_HAS_AVX2 (AQ_X86 && AQ_BUILD_AVX2)
#define AQ_HAS_AVXVNNI (AQ_X86 && AQ_BUILD_AVXVNNI)
#define AQ_HAS_AVX512VNNI (AQ_X86 && AQ_BUILD_AVX512VNNI)
#define AQ_HAS_AMX (AQ_X86 && AQ_BUILD_AMX)
#define AQ_HAS_DOTPROD AQ_BUILD_DOTPROD
#define AQ_HAS_I8MM AQ_BUILD_I8MM
#else
#define AQ_HAS_SSE41 AQ_X86
#define AQ_HAS_AVX2 AQ_X86
#define AQ_HAS_AVXVNNI AQ_X86
#define AQ_HAS_AVX512VNNI AQ_X86
#define AQ_HAS_AMX AQ_X86
#define AQ_HAS_DOTPROD (AQ_BUILD_DOTPROD || AQ_ARM_REGIONS)
#define AQ_HAS_I8MM (AQ_BUILD_I8MM || AQ_ARM_REGIONS)
#endif
#define AQ_HAS_NEON AQ_BUILD_NEON

// Between these the compiler may use the instruction sets named, whatever the build's flags say. See dispatch/foreach.hpp.
#define AQ_PRAGMA(text) _Pragma(#text)
#if AQ_CLANG
#define AQ_REGION_BEGIN(features) AQ_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define AQ_REGION_END AQ_PRAGMA(clang attribute pop)
#else
#define AQ_REGION_BEGIN(features) AQ_PRAGMA(GCC push_options) AQ_PRAGMA(GCC target(features))
#define AQ_REGION_END AQ_PRAGMA(GCC pop_options)
#endif

#define AQ_INLINE inline __attribute__((always_inline))
#define AQ_RESTRICT __restrict__

// Before a loop with a small constant count over an array of registers: unrolled, the array never touches memory.
#if AQ_CLANG
#define AQ_UNROLL _Pragma("clang loop unroll(full)")
#else
#define AQ_UNROLL _Pragma("GCC unroll 16")
#endif

// Preconditions inside kernels: checked in debug and sanitizer builds, never an assumption for the optimiser.
#if defined(NDEBUG) && !defined(AQ_ENABLE_ASSERT)
#define AQ_ASSERT(condition) static_cast<void>(0)
#else
#include <cassert>
#define AQ_ASSERT(condition) assert(condition)
#endif
