#include "agilequant/core/crc32c.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "support/random.hpp"

namespace {

/// By the definition: one bit after the other.
std::uint32_t plain_crc32c(const std::vector<std::uint8_t>& bytes) {
    std::uint32_t rest = 0xFFFFFFFFU;
    for (const std::uint8_t byte : bytes) {
        for (int bit = 0; bit < 8; ++bit) {
            const bool odd = ((rest ^ byte >> bit) & 1U) != 0;
            rest = rest >> 1 ^ (odd ? 0x82F63B78U : 0U);
        }
    }
    return ~rest;
}

std::uint32_t of(const std::vector<std::uint8_t>& bytes) { return aq::crc32c(0, bytes.data(), bytes.size()); }

}  // namespace

TEST_CASE("crc32c: the values of RFC 3720, B.4, and the catalogue's check value") {
    std::vector<std::uint8_t> rising(32), falling(32);
    for (std::uint8_t i = 0; i < 32; ++i) {
        rising[i] = i;
        falling[i] = static_cast<std::uint8_t>(31 - i);
    }
    CHECK(of(std::vector<std::uint8_t>(32, 0)) == 0x8A9136AAU);
    CHECK(of(std::vector<std::uint8_t>(32, 0xFF)) == 0x62A8AB43U);
    CHECK(of(rising) == 0x46DD794EU);
    CHECK(of(falling) == 0x113FDB5CU);
    const std::string digits = "123456789";
    CHECK(aq::crc32c(0, digits.data(), digits.size()) == 0xE3069283U);
    CHECK(aq::crc32c(0, nullptr, 0) == 0);
}

TEST_CASE("crc32c: is the definition for every length, from every address, in any cut") {
    aq_test::random_source random(5);
    std::vector<std::uint8_t> bytes(300);
    for (std::uint8_t& b : bytes) b = static_cast<std::uint8_t>(random.below(256));
    for (std::size_t begin = 0; begin < 9; ++begin) {
        for (std::size_t end = begin; end < 80; ++end) {
            const std::vector<std::uint8_t> part(bytes.begin() + static_cast<long>(begin), bytes.begin() + static_cast<long>(end));
            const std::uint32_t expected = plain_crc32c(part);
            CHECK(aq::crc32c(0, bytes.data() + begin, end - begin) == expected);
            const std::size_t cut = begin + (end - begin) / 3;
            CHECK(aq::crc32c(aq::crc32c(0, bytes.data() + begin, cut - begin), bytes.data() + cut, end - cut) == expected);
        }
    }
    CHECK(of(bytes) == plain_crc32c(bytes));
}
