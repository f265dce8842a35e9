#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "agilequant/pack/file.hpp"
#include "pack/file_case.hpp"

using aq::status;
using namespace aq_test;

namespace {

status matrix_status(const byte_vector& bytes, std::string_view name) {
    const opened o(bytes);
    REQUIRE(o.result == status::ok);
    aq::packed_weights w;
    return o.file.matrix(name, w);
}

}  // namespace

TEST_CASE("pack_file: hostile headers") {
    const byte_vector whole = sample_file();
    const auto refused = [&](auto&& edit) { return opened(with_header(whole, edit)).result; };
    using header = aq::pack_header;
    CHECK(refused([](header& h) { h.magic[4] = '\n'; }) == status::bad_file);
    CHECK(refused([](header& h) { h.major = 2; }) == status::wrong_version);
    CHECK(refused([](header& h) { h.major = 0; }) == status::wrong_version);
    CHECK(refused([](header& h) { h.minor = 9; }) == status::ok);
    CHECK(refused([](header& h) { h.reserved = 1; }) == status::bad_file);
    for (const std::uint64_t wrong :
         {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{4}, std::uint64_t{6}, std::uint64_t{0xFFFFFFFF},
          std::uint64_t{1} << 20, (std::uint64_t{1} << 20) + 1, std::uint64_t{1} << 57, std::uint64_t{1} << 63, ~std::uint64_t{0},
          ~std::uint64_t{0} - 63}) {
        CAPTURE(wrong);
        CHECK(refused([&](header& h) { h.file_size = wrong; }) == status::bad_file);
        CHECK(refused([&](header& h) { h.entries = wrong; }) == status::bad_file);
        CHECK(refused([&](header& h) { h.names_size = wrong; }) == status::bad_file);
        CHECK(refused([&](header& h) { h.data = wrong; }) != status::ok);
        if (wrong != header_of(whole).first) CHECK(refused([&](header& h) { h.first = wrong; }) == status::bad_file);
    }
    CHECK(refused([](header& h) { h.data += 64; }) == status::bad_file);
    CHECK(refused([](header& h) { h.data -= 64; }) == status::bad_file);
    CHECK(refused([](header& h) { h.names_size += 1; }) == status::bad_file);
    byte_vector unpadded = whole;  // between the names and the data
    unpadded[header_of(whole).data - 1] = 1;
    repair(unpadded);
    CHECK(opened(unpadded).result == status::bad_file);
}

TEST_CASE("pack_file: hostile directories") {
    const byte_vector whole = sample_file();
    const auto refused = [&](std::size_t i, auto&& edit) { return opened(with_entry(whole, i, edit)).result; };
    using entry = aq::pack_entry;
    const std::uint64_t large[] = {std::uint64_t{1} << 31, std::uint64_t{1} << 32, std::uint64_t{1} << 61, std::uint64_t{1} << 63,
                                   ~std::uint64_t{0},      ~std::uint64_t{0} - 63, ~std::uint64_t{0} - 127};
    for (std::size_t i = 0; i < sample_entries; ++i) {
        CAPTURE(i);
        const auto set = [&](std::uint64_t entry::*field, std::uint64_t value) {
            return refused(i, [&](entry& e) { e.*field = value; });
        };
        for (const auto field : {&entry::name, &entry::name_size, &entry::data, &entry::data_size, &entry::next}) {
            const std::uint64_t was = entry_of(whole, i).*field;
            for (const std::uint64_t wrong : large) CHECK(set(field, wrong) == status::bad_file);
            // ranges that wrap, begin in the header, end before they begin, or overlap the next by a line
            for (const std::uint64_t by : sizes{1, 16, 64}) {
                CHECK(set(field, was + by) == status::bad_file);
                CHECK(set(field, was - by) == status::bad_file);
            }
        }
        for (const auto field : {&entry::rows, &entry::cols, &entry::group, &entry::packed, &entry::runs}) {
            for (const std::uint64_t wrong : large) CHECK(set(field, wrong) == status::bad_file);
        }
        CHECK(refused(i, [](entry& e) { e.data = 0; }) == status::bad_file);
        for (std::size_t j = 0; j < sample_entries; ++j) {  // the data of another entry, and its successor
            if (j == i) continue;
            const entry other = entry_of(whole, j);
            CHECK(refused(i, [&](entry& e) { e.data = other.data; }) == status::bad_file);
            CHECK(refused(i, [&](entry& e) { e.next = other.next; }) == status::bad_file);
        }
        for (int r = 0; r < 4; ++r) CHECK(refused(i, [&](entry& e) { e.reserved[r] = 1; }) == status::bad_file);
        for (const std::uint32_t kind : {0U, 4U, 77U, 0xFFFFFFFFU})
            CHECK(refused(i, [&](entry& e) { e.kind = kind; }) == status::bad_file);
        for (const std::uint32_t flag : {8U, 0x80000000U})
            CHECK(refused(i, [&](entry& e) { e.flags ^= flag; }) == status::bad_file);
        CHECK(refused(i, [](entry& e) { e.bits ^= 0x100U; }) == status::bad_file);
        CHECK(refused(i, [](entry& e) { e.tile_nr ^= 8U; }) == status::bad_file);
        CHECK(refused(i, [](entry& e) { e.tile_kr ^= 8U; }) == status::bad_file);
    }
    // zeros, order or multipliers that take up no bytes of their own
    CHECK(refused(sample_a, [](entry& e) { e.flags ^= aq::pack_has_zeros; }) == status::bad_file);
    CHECK(refused(sample_a, [](entry& e) { e.flags ^= aq::pack_has_order; }) == status::bad_file);
    CHECK(refused(sample_c, [](entry& e) { e.flags ^= aq::pack_has_order; }) == status::bad_file);
    CHECK(refused(sample_b, [](entry& e) { e.flags ^= aq::pack_has_multipliers; }) == status::bad_file);
    for (const std::uint32_t bits : {0U, 1U, 2U, 6U, 9U})
        CHECK(refused(sample_a, [&](entry& e) { e.bits = bits; }) == status::bad_file);
    CHECK(refused(sample_a, [](entry& e) { e.group = 0; }) == status::bad_file);
    CHECK(refused(sample_a, [](entry& e) { e.group = e.cols + 1; }) == status::bad_file);
    // shapes of the same size but beyond the limits
    CHECK(refused(sample_floats, [](entry& e) { e.rows = 0, e.cols = std::uint64_t{1} << 25; }) == status::bad_file);
    CHECK(refused(sample_floats, [](entry& e) { e.rows = 1, e.cols = (std::uint64_t{1} << 62) + 15; }) ==
          status::bad_file);  // times 4 wraps to 60
    CHECK(refused(sample_text, [](entry& e) { e.cols = 2, e.rows = 6; }) == status::bad_file);
}

TEST_CASE("pack_file: names out of order, doubled, or none") {
    const byte_vector whole = sample_file();
    const std::size_t names = static_cast<std::size_t>(entry_of(whole, 0).name);  // "abcfloatstext"
    const auto with_name_byte = [&](std::size_t at, char value) {
        byte_vector f = whole;
        f[names + at] = static_cast<std::uint8_t>(value);
        repair(f);
        return opened(f).result;
    };
    CHECK(with_name_byte(0, 'A') == status::ok);
    CHECK(with_name_byte(0, 'b') == status::bad_file);
    CHECK(with_name_byte(0, 'd') == status::bad_file);
    CHECK(with_name_byte(4, '\n') == status::bad_file);
    CHECK(with_name_byte(4, '\0') == status::bad_file);
    CHECK(with_name_byte(4, '\x80') == status::bad_file);
    // the byte between two names may move from one to the other only if both places move
    byte_vector f = with_entry(whole, sample_c, [](aq::pack_entry& e) { ++e.name_size; });
    CHECK(opened(f).result == status::bad_file);
    f = with_entry(f, sample_floats, [](aq::pack_entry& e) { ++e.name, --e.name_size; });
    CHECK(opened(f).result == status::ok);  // "cf" and "loats"
    f = with_entry(f, sample_floats, [](aq::pack_entry& e) { e.name_size = 0; });
    CHECK(opened(f).result == status::bad_file);
}

TEST_CASE("pack_file: hostile layouts are no matrix") {
    const byte_vector whole = sample_file();
    const opened o(whole);
    aq::packed_weights a;
    REQUIRE(o.file.matrix("a", a) == status::ok);
    REQUIRE((a.layout.run_count > 3 && a.layout.order != nullptr));
    const auto run = [&](std::size_t i, auto&& edit) {
        return matrix_status(with_values<aq::k_run>(whole, sample_a, aq::part_runs, i, edit), "a");
    };
    using k_run = aq::k_run;
    for (std::size_t i = 0; i < a.layout.run_count; ++i) {
        CAPTURE(i);
        CHECK(run(i, [](k_run&) {}) == status::ok);
        CHECK(run(i, [](k_run& r) { r.begin += 16; }) == status::bad_file);
        CHECK(run(i, [](k_run& r) { r.begin = 0xFFFFFFF0U; }) == status::bad_file);
        CHECK(run(i, [](k_run& r) { r.end += 16; }) == status::bad_file);
        CHECK(run(i, [](k_run& r) { r.end += 1; }) == status::bad_file);
        CHECK(run(i, [](k_run& r) { r.end = r.begin; }) == status::bad_file);
        CHECK(run(i, [](k_run& r) { r.end = 0; }) == status::bad_file);
        CHECK(run(i, [](k_run& r) { r.end = 0xFFFFFFF0U; }) == status::bad_file);
        CHECK(run(i, [](k_run& r) { std::swap(r.begin, r.end); }) == status::bad_file);
        CHECK(run(i, [](k_run& r) { r.exponent = 8; }) == status::bad_file);
        CHECK(run(i, [](k_run& r) { r.exponent = 255; }) == status::bad_file);
        CHECK(run(i, [](k_run& r) { r.shift = 31; }) == status::bad_file);
        CHECK(run(i, [](k_run& r) { ++r.shift; }) == status::bad_file);
        CHECK(run(i, [](k_run& r) { r.ends_group = !r.ends_group; }) == status::bad_file);
        for (const std::size_t at :
             {i * sizeof(k_run) + 10, i * sizeof(k_run) + 11}) {  // a truth value of 2 or 255; a byte that is 0
            for (const int value : {2, 3, 255}) {
                CHECK(matrix_status(with_part(whole, sample_a, aq::part_runs,
                                              [&](std::uint8_t* p) { p[at] = static_cast<std::uint8_t>(value); }),
                                    "a") == status::bad_file);
            }
        }
    }
    for (std::size_t p = 0; p < a.layout.packed; ++p) {
        CAPTURE(p);
        for (const std::uint32_t wrong : {0U, 1U, 49U, 50U, 0x7FFFFFFFU, 0x80000000U, 0xFFFFFFFEU, 0xFFFFFFFFU}) {
            if (wrong == a.layout.order[p]) continue;
            CHECK(matrix_status(
                      with_values<std::uint32_t>(whole, sample_a, aq::part_order, p, [&](std::uint32_t& v) { v = wrong; }),
                      "a") == status::bad_file);
        }
    }
    // other groups and depths than the runs have; a channel more in the padding
    const auto entry = [&](std::size_t i, auto&& edit) {
        const opened file(with_entry(whole, i, edit));
        aq::packed_weights w;
        return file.result != status::ok ? file.result : file.file.matrix(file.file.name(i), w);
    };
    for (std::uint64_t group = 0; group < 60; ++group) {
        CAPTURE(group);
        CHECK(entry(sample_a, [&](aq::pack_entry& e) { e.group = group; }) == (group == 20 ? status::ok : status::bad_file));
        CHECK(entry(sample_c, [&](aq::pack_entry& e) { e.group = group; }) == (group == 32 ? status::ok : status::bad_file));
    }
    for (std::uint64_t runs = 0; runs < 20; ++runs) {
        CAPTURE(runs);
        CHECK(entry(sample_a, [&](aq::pack_entry& e) { e.runs = runs; }) ==
              (runs == a.layout.run_count ? status::ok : status::bad_file));
    }
    for (std::uint64_t k = 0; k < 70; ++k) {
        CAPTURE(k);
        CHECK(entry(sample_a, [&](aq::pack_entry& e) { e.cols = k; }) == (k == 50 ? status::ok : status::bad_file));
    }
}

TEST_CASE("pack_file: more depth than sums of 32 bits hold is refused") {
    const aq::packed_storage<> packed = packed_case(1, 1, 66320, {7, false, 0}, 0);
    aq::pack_writer writer;
    REQUIRE(writer.add("w", packed.view()) == status::ok);
    const byte_vector seven = written(writer);  // bytes, as codes of 8 bits are
    CHECK(matrix_status(seven, "w") == status::ok);
    CHECK(matrix_status(with_entry(seven, 0, [](aq::pack_entry& e) { e.bits = 8; }), "w") == status::depth_over_limit);
    aq::packed_weights eight = packed.view();
    eight.bits = 8;
    CHECK(writer.add("v", eight) == status::depth_over_limit);
}

TEST_CASE("pack_file: verify finds what kernels rely on, and what stands where nothing does, under right checksums") {
    const byte_vector whole = sample_file();
    const auto verified = [&](std::size_t i, aq::pack_part part, std::size_t at, auto value) {
        const byte_vector f = with_values<decltype(value)>(whole, i, part, at, [&](auto& v) { v = value; });
        CHECK(matrix_status(f, opened(f).file.name(i)) == status::ok);  // which no memory safety rests on
        return opened(f).file.verify(i);
    };
    const auto byte = [](int v) { return static_cast<std::uint8_t>(v); };
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    // "a": 18 rows, so two panels, the second with rows 16 and 17
    CHECK(verified(sample_a, aq::part_scales, 0, 1.0F) == status::ok);
    CHECK(verified(sample_a, aq::part_scales, 0, inf) == status::bad_file);
    CHECK(verified(sample_a, aq::part_scales, 5, nan) == status::bad_file);
    CHECK(verified(sample_a, aq::part_offsets, 17, -inf) == status::bad_file);
    CHECK(verified(sample_a, aq::part_offsets, 18, 1.0F) == status::bad_file);
    CHECK(verified(sample_a, aq::part_offsets, 18, -0.0F) == status::bad_file);
    CHECK(verified(sample_a, aq::part_scales, 16 * 3 + 2, 1.0F) == status::bad_file);  // row 18, three groups a panel
    CHECK(verified(sample_a, aq::part_zeros, 0, byte(15)) == status::ok);
    CHECK(verified(sample_a, aq::part_zeros, 0, byte(16)) == status::bad_file);
    CHECK(verified(sample_a, aq::part_zeros, 16 * 3 + 2, byte(1)) == status::bad_file);
    CHECK(verified(sample_a, aq::part_codes, 0, byte(0xFF)) == status::ok);
    // "b": 3 bits two-level, 37 channels in groups of 16, 5 rows
    CHECK(verified(sample_b, aq::part_codes, 0, byte(0x08)) == status::bad_file);  // a code of 8
    CHECK(verified(sample_b, aq::part_codes, 0, byte(0x80)) == status::bad_file);
    CHECK(verified(sample_b, aq::part_codes, 5 * 4, byte(1)) == status::bad_file);          // row 5
    CHECK(verified(sample_b, aq::part_codes, 4 * 64 + 1, byte(0x10)) == status::bad_file);  // position 37
    CHECK(verified(sample_b, aq::part_multipliers, 0, byte(0)) == status::bad_file);
    CHECK(verified(sample_b, aq::part_multipliers, 0, byte(1)) == status::ok);
    CHECK(verified(sample_b, aq::part_multipliers, 0, byte(255)) == status::bad_file);
    CHECK(verified(sample_b, aq::part_multipliers, 0, byte(127)) == status::bad_file);  // times a distance of 2 or more
    CHECK(verified(sample_b, aq::part_multipliers, 5, byte(1)) == status::bad_file);
    CHECK(verified(sample_b, aq::part_scales, 4, nan) == status::bad_file);
    CHECK(verified(sample_b, aq::part_scales, 5, 1.0F) == status::bad_file);
    // "c": 6 bits, a byte each, 3 rows
    CHECK(verified(sample_c, aq::part_codes, 0, byte(63)) == status::ok);
    CHECK(verified(sample_c, aq::part_codes, 0, byte(64)) == status::bad_file);
    CHECK(verified(sample_c, aq::part_codes, 3 * 4, byte(1)) == status::bad_file);
    // between parts, and in the checksum's line
    for (std::size_t i = 0; i < sample_entries; ++i) {
        const aq::pack_entry e = entry_of(whole, i);
        byte_vector line = whole;
        line[e.data + e.data_size - 1] = 1;
        CHECK(opened(line).file.verify(i) == status::bad_file);
    }
    byte_vector behind = whole;
    behind[entry_of(whole, sample_text).data + 11] = ' ';
    repair(behind);
    CHECK(opened(behind).file.verify("text") == status::bad_file);
    // floats of an own entry may be any
    CHECK(opened(with_values<float>(whole, sample_floats, aq::part_values, 3, [&](float& v) { v = nan; })).file.verify_all() ==
          status::ok);
}
