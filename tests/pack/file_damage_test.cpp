#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "agilequant/pack/file.hpp"
#include "pack/exercise_pack_file.hpp"
#include "pack/file_case.hpp"
#include "support/effort.hpp"

using aq::status;
using namespace aq_test;

namespace {

/// What open says of the bytes, and, where it says ok, what verify_all says.
status found_in(const byte_vector& bytes) {
    const opened o(bytes);
    return o.result != status::ok ? o.result : o.file.verify_all();
}

/// Sets the n-th number of 64 bits.
void put(byte_vector& bytes, std::size_t n, std::uint64_t value) { std::memcpy(bytes.data() + n * 8, &value, sizeof value); }
std::uint64_t number(const byte_vector& bytes, std::size_t n) {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data() + n * 8, sizeof value);
    return value;
}

}  // namespace

TEST_CASE("pack_file: every flipped byte is found") {
    const byte_vector whole = sample_file();
    REQUIRE(found_in(whole) == status::ok);
    for (std::size_t i = 0; i < whole.size(); i += slowdown == 1 ? 1 : 3) {
        for (const unsigned flip : {1U << i % 8, 0xFFU}) {
            byte_vector damaged = whole;
            damaged[i] = static_cast<std::uint8_t>(damaged[i] ^ flip);
            CAPTURE(i);
            CHECK(found_in(damaged) != status::ok);
        }
    }
}

TEST_CASE("pack_file: every shortened and every lengthened file is refused, whatever size its header gives") {
    const byte_vector whole = sample_file();
    for (std::size_t size = 0; size < whole.size(); size += slowdown == 1 ? 1 : 7) {
        const byte_vector part(whole.begin(), whole.begin() + static_cast<long>(size));
        CAPTURE(size);
        CHECK(opened(part).result == status::bad_file);
        if (size < sizeof(aq::pack_header)) continue;
        CHECK(opened(with_header(part, [&](aq::pack_header& h) { h.file_size = size; })).result != status::ok);
    }
    byte_vector longer = whole;
    for (int i = 0; i < 130; ++i) {
        longer.push_back(0);
        CHECK(opened(longer).result == status::bad_file);
        CHECK(opened(with_header(longer, [&](aq::pack_header& h) { h.file_size = longer.size(); })).result == status::bad_file);
    }
}

TEST_CASE("pack_file: random damage under right checksums does no harm") {
    const byte_vector whole = sample_file();
    const std::size_t head = static_cast<std::size_t>(header_of(whole).data) / 8;
    random_source random(20);
    exercised all;
    std::size_t open = 0;
    for (std::size_t i = 0; i < cases(5000); ++i) {
        byte_vector f = whole;
        for (std::size_t count = 1 + random.below(3); count != 0; --count) {
            // half of it in header and directory, where damage says most
            const std::size_t at = random.flip() ? random.below(head) : random.below(f.size() / 8);
            const std::uint64_t was = number(f, at), other = number(f, random.below(head));
            const std::uint64_t values[] = {0,
                                            1,
                                            was + 1,
                                            was - 1,
                                            was + 16,
                                            was - 16,
                                            was + 64,
                                            was - 64,
                                            was * 2,
                                            other,
                                            was + other,
                                            random.next(),
                                            was ^ std::uint64_t{1} << random.below(64)};
            put(f, at, values[random.below(std::size(values))]);
        }
        if (random.below(8) == 0) f.resize(random.below(f.size()));
        const exercised found = exercise_pack_file(f.data(), f.size());
        open += found.is_open ? 1 : 0;
        all.entries += found.entries;
        all.matrices += found.matrices;
        all.verified += found.verified;
        all.products += found.products;
    }
    // the damage is neither always found at the door nor ever only harmless
    CHECK(open > cases(5000) / 10);
    CHECK(open < cases(5000));
    CHECK(all.verified < all.entries);
    CHECK(all.products > open);
}

TEST_CASE("pack_file: bytes that never were a file do no harm") {
    random_source random(21);
    CHECK_FALSE(exercise_pack_file(nullptr, 0).is_open);
    for (std::size_t i = 0; i < cases(2000); ++i) {
        byte_vector f(random.below(600));
        for (std::uint8_t& b : f) b = static_cast<std::uint8_t>(random.below(4) == 0 ? random.next() : 0);
        if (f.size() >= sizeof(aq::pack_header)) {
            aq::pack_header h = header_of(f);
            std::memcpy(h.magic, aq::pack_file_magic, sizeof h.magic);
            h.major = 1;
            h.entries = random.below(4);
            h.names_size = random.below(100);
            h.data = aq::round_up(64 + h.entries * 128 + h.names_size, 64);
            std::memcpy(f.data(), &h, sizeof h);
        }
        CHECK(exercise_pack_file(f.data(), f.size()).verified <= 3);
    }
    const byte_vector whole = sample_file();
    const exercised found = exercise_pack_file(whole.data(), whole.size());
    CHECK((found.is_open && found.entries == 5 && found.matrices == 3 && found.verified == 5 && found.products == 3));
}
