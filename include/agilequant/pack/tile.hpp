/// \file
/// Tile and codec: where a code of a weight stands in memory. This formula is the layout; packers and kernels follow it.
///
/// Rows (output channels) are cut into panels of NR, the depth into steps of KR. Codes narrower than a byte share it in
/// planes: with P = 8 / width, P neighbouring steps lie over each other, the first in the lowest bits, so that one AND, or
/// one shift and AND, gives a whole register of codes of one step.
///
///     panel = row / NR, block = position / (KR * P), plane = position / KR % P, j = position % KR
///     byte  = ((panel * blocks + block) * NR + row % NR) * KR + j,  shift = width * plane
///
/// tile<16, 4> with 4-bit codes, one block of 64 bytes (8 positions of 16 rows):
///
///     byte      0        1        2        3      4 ..  7    ...   60 .. 63
///     row 0,    row 0,   row 0,   row 0,          row 1            row 15
///     low   k=0      k=1      k=2      k=3        k = 0 .. 3       k = 0 .. 3
///     high  k=4      k=5      k=6      k=7        k = 4 .. 7       k = 4 .. 7
///
/// Worked: row 17, position 13, 16 positions deep: panel 1, block 1, plane 1, j 1: byte (1*2 + 1)*64 + 1*4 + 1 = 197, shift 4.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agilequant/pack/k_layout.hpp"

namespace aq {

/// Rows and positions that are interleaved. A number in files and in run-time checks; as a type, `tile`.
struct tile_shape {
    std::uint16_t nr = 0, kr = 0;
    friend constexpr bool operator==(tile_shape a, tile_shape b) noexcept { return a.nr == b.nr && a.kr == b.kr; }
    friend constexpr bool operator!=(tile_shape a, tile_shape b) noexcept { return !(a == b); }
};

/// The width that codes of a width are stored in: what divides a byte.
[[nodiscard]] constexpr int storage_bits(int width) noexcept { return width <= 2 ? 2 : width <= 4 ? 4 : 8; }

struct code_place {
    std::size_t byte;
    int shift;
};

template <int NR, int KR>
struct tile {
    static_assert(NR > 0 && KR > 0 && k_step % static_cast<std::size_t>(KR * 4) == 0,
                  "aq: four steps of a tile, as 2-bit codes need them, must divide k_step.");
    static constexpr int nr = NR, kr = KR;
    static constexpr tile_shape shape{NR, KR};

    [[nodiscard]] static constexpr std::size_t panels(std::size_t rows) noexcept { return (rows + NR - 1) / NR; }

    /// Bytes of one panel of `packed` positions, a multiple of k_step.
    [[nodiscard]] static constexpr std::size_t panel_bytes(std::size_t packed, int width) noexcept {
        return packed * static_cast<std::size_t>(NR * storage_bits(width)) / 8;
    }

    /// The normative place of a code.
    [[nodiscard]] static constexpr code_place at(std::size_t row, std::size_t position, std::size_t packed, int width) noexcept {
        const int stored = storage_bits(width);
        const std::size_t planes = static_cast<std::size_t>(8 / stored);
        const std::size_t block = position / (KR * planes), plane = position / KR % planes;
        const std::size_t byte = row / NR * panel_bytes(packed, width) + (block * NR + row % NR) * KR + position % KR;
        return {byte, stored * static_cast<int>(plane)};
    }
};

/// The tile that files hold and that every kernel without needs of its own reads.
using portable_tile = tile<16, 4>;

[[nodiscard]] inline int unpack_code(const std::uint8_t* codes, code_place place, int width) noexcept {
    return codes[place.byte] >> place.shift & ((1 << storage_bits(width)) - 1);
}

/// Sets a code whose bits are zero so far.
inline void pack_code(std::uint8_t* codes, code_place place, int code) noexcept {
    codes[place.byte] = static_cast<std::uint8_t>(codes[place.byte] | code << place.shift);
}

static_assert(tile<16, 4>::at(17, 13, 16, 4).byte == 197 && tile<16, 4>::at(17, 13, 16, 4).shift == 4);

}  // namespace aq
