/// \file
/// Files of packed weights to test with, and hands to break them: numbers of header, directory and parts changed, checksums made good again.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "agilequant/pack/file.hpp"
#include "agilequant/pack/file_writer.hpp"
#include "pack/file_edit.hpp"
#include "support/random.hpp"
#include "support/status_text.hpp"

namespace aq_test {

inline aq::status append_bytes(void* self, const void* data, std::size_t size) {
    const std::uint8_t* const from = static_cast<const std::uint8_t*>(data);
    static_cast<byte_vector*>(self)->insert(static_cast<byte_vector*>(self)->end(), from, from + size);
    return aq::status::ok;
}

inline byte_vector written(const aq::pack_writer& writer) {
    byte_vector out;
    REQUIRE(writer.write({&out, append_bytes}) == aq::status::ok);
    CHECK(out.size() == writer.file_size());
    return out;
}

/// Bytes on a line of 64, opened.
struct opened {
    aq::aligned_buffer<std::uint8_t> bytes;
    aq::pack_file file;
    aq::status result = aq::status::ok;

    explicit opened(const byte_vector& from) {
        REQUIRE(bytes.reset(from.size() + 1) == aq::status::ok);  // one more: an empty buffer has no address
        if (!from.empty()) std::memcpy(bytes.data(), from.data(), from.size());
        result = file.open(bytes.data(), from.size());
    }
};

/// Changes the header by edit(header&).
template <class Edit>
byte_vector with_header(byte_vector file, Edit&& edit) {
    aq::pack_header h = header_of(file);
    edit(h);
    std::memcpy(file.data(), &h, sizeof h);
    repair(file);
    return file;
}

/// Changes directory entry i by edit(entry&).
template <class Edit>
byte_vector with_entry(byte_vector file, std::size_t i, Edit&& edit) {
    aq::pack_entry e = entry_of(file, i);
    edit(e);
    std::memcpy(file.data() + place_of_entry(file, i), &e, sizeof e);
    repair(file);
    return file;
}

/// Changes the bytes of one part of entry i by edit(std::uint8_t*).
template <class Edit>
byte_vector with_part(byte_vector file, std::size_t i, aq::pack_part part, Edit&& edit) {
    const aq::pack_entry e = entry_of(file, i);
    aq::pack_parts parts;
    REQUIRE(aq::plan_parts(e, parts) == aq::status::ok);
    edit(file.data() + e.data + parts.at[part].begin);
    repair(file);
    return file;
}

/// The same as numbers of a type.
template <class T, class Edit>
byte_vector with_values(const byte_vector& file, std::size_t i, aq::pack_part part, std::size_t at, Edit&& edit) {
    return with_part(file, i, part, [&](std::uint8_t* p) {
        T value;
        std::memcpy(&value, p + at * sizeof(T), sizeof value);
        edit(value);
        std::memcpy(p + at * sizeof(T), &value, sizeof value);
    });
}

/// A random matrix, packed.
inline aq::packed_storage<> packed_case(std::uint64_t seed, std::size_t n, std::size_t k, const aq::weight_format& format,
                                        int highest_exponent) {
    random_source random(seed);
    const matrix w = random_matrix(random, n, k);
    std::vector<std::uint8_t> exponents(k + 1);
    for (std::uint8_t& e : exponents) e = static_cast<std::uint8_t>(random.below(static_cast<std::size_t>(highest_exponent) + 1));
    aq::packed_storage<> packed;
    REQUIRE(aq::pack(w.view(), format, highest_exponent == 0 ? nullptr : exponents.data(), packed) == aq::status::ok);
    return packed;
}

/// A file with entries of each kind: by name, "a" 4 bits in groups with TRIP, "b" 3 bits two-level, "c" 6 bits per channel, symmetric,
/// without an order, "floats", "text". Data in another order than names.
inline byte_vector sample_file() {
    aq::weight_format grouped{4, true, 20}, two_level{3, true, 16}, plain{6, false, 0};
    two_level.scales = aq::group_scales::integers;
    const auto a = packed_case(1, 18, 50, grouped, 3), b = packed_case(2, 5, 37, two_level, 0),
               c = packed_case(3, 3, 32, plain, 0);
    random_source random(4);
    const matrix floats = random_matrix(random, 3, 5, 2);
    aq::pack_writer writer;
    REQUIRE(writer.add("text", std::string_view("{\"bits\": 4}")) == aq::status::ok);
    REQUIRE(writer.add("b", b.view()) == aq::status::ok);
    REQUIRE(writer.add("c", c.view()) == aq::status::ok);
    REQUIRE(writer.add("floats", floats.view()) == aq::status::ok);
    REQUIRE(writer.add("a", a.view()) == aq::status::ok);
    return written(writer);
}

inline constexpr std::size_t sample_a = 0, sample_b = 1, sample_c = 2, sample_floats = 3, sample_text = 4, sample_entries = 5;

}  // namespace aq_test
