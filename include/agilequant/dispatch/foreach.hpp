/// \file
/// Compiles the kernels' bodies once for each instruction set, in its own namespace: aq::scalar, aq::avx2, ...
///
/// Inside a target region the compiler may use instructions that the build's flags do not allow. Templates defined in the
/// region keep its target wherever they are instantiated; templates defined outside never get it. So ops and bodies are
/// included inside, everything that they need is included before, and the symbols of two instruction sets differ by
/// namespace. A region is opened only where the build does not have the instruction set anyway.
///
/// To add one: simd/ops_<isa>.hpp, a block below, its tag in isa/list.hpp and its row in dispatch/dispatch.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "agilequant/core/bits.hpp"
#include "agilequant/core/exact_float.hpp"
#include "agilequant/isa/list.hpp"
#include "agilequant/kernels/jobs.hpp"
#include "agilequant/quant/log2.hpp"
#include "agilequant/quant/uniform.hpp"
#include "agilequant/simd/ops_scalar.hpp"
#if AQ_X86
#include <immintrin.h>
#endif

#define AQ_ISA scalar
#include "agilequant/kernels/body/all.hpp"
#undef AQ_ISA

#if AQ_HAS_AVX2
#if !AQ_BUILD_AVX2 && AQ_CLANG
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#elif !AQ_BUILD_AVX2
#pragma GCC push_options
#pragma GCC target("avx2")
#endif
#include "agilequant/simd/ops_avx2.hpp"
#define AQ_ISA avx2
#include "agilequant/kernels/body/all.hpp"
#undef AQ_ISA
#if !AQ_BUILD_AVX2 && AQ_CLANG
#pragma clang attribute pop
#elif !AQ_BUILD_AVX2
#pragma GCC pop_options
#endif
#endif
