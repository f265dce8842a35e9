/// \file
/// The operations of kernels on AMX: tiles of 16 rows of 64 bytes, and AVX-512 for everything around them. Included inside a target region.
///
/// | instruction | use | throughput on Sapphire Rapids |
/// |---|---|---|
/// | tdpbssd, tdpbsud | dot: sums += a b, 16 x 16 sums of 64 products, a signed, b signed or unsigned | one in 16 cycles |
/// | tileloadd, tilestored | 16 rows of 64 bytes, any stride | one in 8, one in 16 cycles |
/// | tilezero, ldtilecfg, tilerelease | | |
///
/// Written as asm: gcc 12 tells its own intrinsics too little about memory (it takes ldtilecfg to read 8 of 64 bytes, and moves
/// stores across tileloadd), and the assembler needs no flag.
#pragma once

#include "agilequant/simd/ops_avx512vnni.hpp"

namespace aq {
namespace amx {

struct ops : avx512vnni::ops {
    static constexpr int tile_rows = 16, tile_bytes = 64;  ///< of a row

    /// How many rows of tile t are used, all 64 bytes of each. Tiles 0..3 are sums; 4 and, in blocks of 2 x 2, 5 activations; the
    /// others weights. Every tile becomes zero.
    struct tile_rows_of {
        int at[8];
    };
    static void configure(const tile_rows_of& rows) {
        struct alignas(64) {
            std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
            std::uint16_t bytes_of_row[16] = {};
            std::uint8_t rows[16] = {};
        } layout;
        static_assert(sizeof layout == 64, "aq: what ldtilecfg reads");
        for (int t = 0; t < 8; ++t) {
            layout.bytes_of_row[t] = tile_bytes;
            layout.rows[t] = static_cast<std::uint8_t>(rows.at[t]);
        }
        asm volatile("ldtilecfg %0" : : "m"(layout) : "memory");
    }
    static AQ_INLINE void release() { asm volatile("tilerelease" : : : "memory"); }

    template <int T>
    static AQ_INLINE void tile_zero() {
        asm volatile("tilezero %%tmm%c0" : : "i"(T));
    }
    template <int T>
    static AQ_INLINE void tile_load(const void* p, std::size_t stride) {
        asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(stride), "i"(T) : "memory");
    }
    template <int T>
    static AQ_INLINE void tile_store(void* p, std::size_t stride) {
        asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(stride), "i"(T) : "memory");
    }
    /// tile Sum += tile A (signed) times tile B (signed or not).
    template <bool IsSigned, int Sum, int A, int B>
    static AQ_INLINE void tile_dot() {
        if constexpr (IsSigned) asm volatile("tdpbssd %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(B), "i"(A), "i"(Sum));
        else asm volatile("tdpbsud %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(B), "i"(A), "i"(Sum));
    }

    /// The byte of each of 16 columns, four times: beside four codes of the column.
    static AQ_INLINE codes spread_bytes(const std::uint8_t* columns) {
        return _mm512_mullo_epi32(load_u8_as_i32(columns), _mm512_set1_epi32(0x01010101));
    }
    static AQ_INLINE codes spread_words(const std::uint8_t* columns) {
        return _mm512_mullo_epi32(load_u8_as_i32(columns), _mm512_set1_epi32(0x00010001));
    }
    static AQ_INLINE codes sub_bytes(codes a, codes b) { return _mm512_sub_epi8(a, b); }
    /// Bytes a times the 16-bit b of their place, modulo 256.
    static AQ_INLINE codes mul_bytes(codes a, codes b) {
        const codes even = _mm512_and_si512(_mm512_mullo_epi16(a, b), _mm512_set1_epi16(0xFF));
        const codes odd = _mm512_mullo_epi16(_mm512_and_si512(a, _mm512_set1_epi16(static_cast<short>(0xFF00))), b);
        return _mm512_or_si512(odd, even);
    }
    static AQ_INLINE i32 load_i32(const std::int32_t* p) { return _mm512_loadu_si512(p); }
};

}  // namespace amx
}  // namespace aq
