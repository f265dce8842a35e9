/// \file
/// The instruction sets: a tag each, with its name and the question whether a CPU has it. Dispatch, tests and
/// benchmarks go through isa_entries of dispatch/dispatch.hpp, from the plainest to the best.
#pragma once

#include "agilequant/isa/cpu.hpp"

namespace aq {
namespace isa {

struct scalar {
    static constexpr const char* name = "scalar";
    [[nodiscard]] static constexpr bool runs_on(const cpu&) noexcept { return true; }
};

#if AQ_HAS_SSE41
struct sse41 : scalar {
    static constexpr const char* name = "sse41";
    [[nodiscard]] static constexpr bool runs_on(const cpu& c) noexcept { return c.has(feature::sse41); }
};
#endif

#if AQ_HAS_AVX2
struct avx2 : scalar {
    static constexpr const char* name = "avx2";
    [[nodiscard]] static constexpr bool runs_on(const cpu& c) noexcept { return c.has(feature::avx2); }
};
#endif

#if AQ_HAS_AVXVNNI
struct avxvnni : avx2 {
    static constexpr const char* name = "avxvnni";
    [[nodiscard]] static constexpr bool runs_on(const cpu& c) noexcept { return c.has(feature::avxvnni); }
};
#endif

#if AQ_HAS_AVX512VNNI
struct avx512vnni : avx2 {
    static constexpr const char* name = "avx512vnni";
    [[nodiscard]] static constexpr bool runs_on(const cpu& c) noexcept { return c.has(feature::avx512vnni); }
};
#endif

#if AQ_HAS_AMX
struct amx : avx512vnni {
    static constexpr const char* name = "amx";
    [[nodiscard]] static constexpr bool runs_on(const cpu& c) noexcept { return c.has(feature::amx_int8); }
};
#endif

#if AQ_HAS_NEON
struct neon : scalar {
    static constexpr const char* name = "neon";
    [[nodiscard]] static constexpr bool runs_on(const cpu& c) noexcept { return c.has(feature::neon); }
};
#endif

#if AQ_HAS_DOTPROD
struct dotprod : neon {
    static constexpr const char* name = "dotprod";
    [[nodiscard]] static constexpr bool runs_on(const cpu& c) noexcept { return c.has(feature::dotprod); }
};
#endif

#if AQ_HAS_I8MM
struct i8mm : dotprod {
    static constexpr const char* name = "i8mm";
    [[nodiscard]] static constexpr bool runs_on(const cpu& c) noexcept { return c.has(feature::i8mm); }
};
#endif

/// Every name that there is in any build: so that a name can be refused as absent or as unknown.
inline constexpr const char* names[] = {"scalar", "sse41", "avx2", "avxvnni", "avx512vnni", "amx", "neon", "dotprod", "i8mm"};

}  // namespace isa
}  // namespace aq
