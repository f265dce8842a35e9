#include "agilequant/pack/tile.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <set>
#include <utility>
#include <vector>

using aq::portable_tile;

TEST_CASE("tile: the worked example of the header, and one for each stored width") {
    CHECK(portable_tile::at(17, 13, 16, 4).byte == 197);
    CHECK(portable_tile::at(17, 13, 16, 4).shift == 4);
    // 2 bits: 16 positions lie over each other in one block; row 17 is row 1 of panel 1, position 13 is plane 3, j 1
    CHECK(portable_tile::at(17, 13, 16, 2).byte == 64 + 1 * 4 + 1);
    CHECK(portable_tile::at(17, 13, 16, 2).shift == 6);
    // 8 bits: one plane; position 13 is block 3, j 1
    CHECK(portable_tile::at(17, 13, 16, 8).byte == 256 + 3 * 64 + 1 * 4 + 1);
    CHECK(portable_tile::at(17, 13, 16, 8).shift == 0);
}

TEST_CASE("tile: widths are stored in what divides a byte") {
    const int stored[] = {0, 0, 2, 4, 4, 8, 8, 8, 8};
    for (int width = 2; width <= 8; ++width) CHECK(aq::storage_bits(width) == stored[width]);
}

namespace {

/// Packs codes row + 3 position (mod 2^bits) of 17 rows by 16 positions.
std::vector<std::uint8_t> packed(int bits) {
    std::vector<std::uint8_t> bytes(portable_tile::panels(17) * portable_tile::panel_bytes(16, bits));
    for (std::size_t r = 0; r < 17; ++r) {
        for (std::size_t p = 0; p < 16; ++p) {
            aq::pack_code(bytes.data(), portable_tile::at(r, p, 16, bits),
                          static_cast<int>((r + 3 * p) % (std::size_t{1} << bits)));
        }
    }
    return bytes;
}

std::vector<std::uint8_t> part(const std::vector<std::uint8_t>& bytes, std::size_t first, std::size_t count) {
    const auto from = bytes.begin() + static_cast<std::ptrdiff_t>(first);
    return {from, from + static_cast<std::ptrdiff_t>(count)};
}

using bytes = std::vector<std::uint8_t>;

}  // namespace

TEST_CASE("layout: fixed codes give fixed bytes, written out by hand") {
    // 8 bits: row 0 has 0 3 6 9 | 12 15 18 21 | ..; a block of 64 bytes has four positions of each row
    CHECK(packed(8).size() == 512);
    CHECK(part(packed(8), 0, 8) == bytes{0, 3, 6, 9, 1, 4, 7, 10});
    CHECK(part(packed(8), 64, 4) == bytes{12, 15, 18, 21});
    CHECK(part(packed(8), 256, 8) == bytes{16, 19, 22, 25, 0, 0, 0, 0});  // row 16, then rows that are not there
    // 4 bits: positions 0..3 low, 4..7 high: 0 3 6 9 and 12 15 2 5 -> C0 F3 26 59
    CHECK(packed(4).size() == 256);
    CHECK(part(packed(4), 0, 8) == bytes{0xC0, 0xF3, 0x26, 0x59, 0xD1, 0x04, 0x37, 0x6A});
    CHECK(part(packed(4), 64, 4) == bytes{0x48, 0x7B, 0xAE, 0xD1});  // positions 8..11: 8 11 14 1; 12..15: 4 7 10 13
    CHECK(part(packed(4), 128, 5) == bytes{0xC0, 0xF3, 0x26, 0x59, 0});
    // 2 bits: row 0 is 0 3 2 1 in every plane: 0 -> 00, 3 -> FF, 2 -> AA, 1 -> 55; row 1 is 1 0 3 2
    CHECK(packed(2).size() == 128);
    CHECK(part(packed(2), 0, 8) == bytes{0x00, 0xFF, 0xAA, 0x55, 0x55, 0x00, 0xFF, 0xAA});
    CHECK(part(packed(2), 64, 5) == bytes{0x00, 0xFF, 0xAA, 0x55, 0});
}

TEST_CASE("layout: narrower codes stand where codes of their stored width stand") {
    for (int width : {3, 5, 6, 7}) {
        for (std::size_t p = 0; p < 32; ++p) {
            const aq::code_place narrow = portable_tile::at(21, p, 32, width),
                                 stored = portable_tile::at(21, p, 32, aq::storage_bits(width));
            CHECK((narrow.byte == stored.byte && narrow.shift == stored.shift));
        }
    }
}

TEST_CASE_TEMPLATE("tile: every row and position has a place of its own inside its panel", Tile, aq::tile<16, 4>, aq::tile<8, 4>,
                   aq::tile<4, 2>, aq::tile<32, 1>) {
    constexpr std::size_t rows = 2 * Tile::nr + 1, positions = 48;
    for (int width : {2, 4, 8}) {
        CAPTURE(width);
        const std::size_t panel_bytes = Tile::panel_bytes(positions, width);
        std::set<std::pair<std::size_t, int>> places;
        bool inside = true;
        for (std::size_t r = 0; r < rows; ++r) {
            for (std::size_t p = 0; p < positions; ++p) {
                const aq::code_place place = Tile::at(r, p, positions, width);
                places.emplace(place.byte, place.shift);
                inside = inside && place.byte / panel_bytes == r / Tile::nr && place.shift >= 0 && place.shift + width <= 8 &&
                         place.shift % width == 0;
            }
        }
        CHECK(inside);
        CHECK(places.size() == rows * positions);
        CHECK(Tile::panels(rows) == 3);
        CHECK(panel_bytes * 8 == static_cast<std::size_t>(Tile::nr * width) * positions);  // no byte is wasted
    }
}

TEST_CASE("codec: every code comes back from every place of a byte, and leaves its neighbours alone") {
    for (int width = 2; width <= 8; ++width) {
        const int stored = aq::storage_bits(width);
        for (int shift = 0; shift < 8; shift += stored) {
            for (int code = 0; code < 1 << width; ++code) {
                std::uint8_t byte = 0;
                for (int other = 0; other < 8; other += stored) {
                    if (other != shift) aq::pack_code(&byte, {0, other}, (1 << width) - 1);
                }
                aq::pack_code(&byte, {0, shift}, code);
                REQUIRE(aq::unpack_code(&byte, {0, shift}, width) == code);
                for (int other = 0; other < 8; other += stored) {
                    if (other != shift) REQUIRE(aq::unpack_code(&byte, {0, other}, width) == (1 << width) - 1);
                }
            }
        }
    }
}
