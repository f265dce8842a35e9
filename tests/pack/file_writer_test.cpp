#include "agilequant/pack/file_writer.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "pack/file_case.hpp"

using aq::status;
using namespace aq_test;

static_assert(!std::is_copy_constructible_v<aq::pack_writer> && std::is_nothrow_move_constructible_v<aq::pack_writer>);

TEST_CASE("pack_writer: equal entries give equal bytes, whatever is in the memory that is not theirs") {
    const byte_vector first = sample_file();
    CHECK(first == sample_file());
    // the byte behind a run's truth value, and the gaps of a float matrix
    const aq::packed_storage<> packed = packed_case(1, 5, 20, {4, true, 16}, 2);
    aq::packed_weights w = packed.view();
    std::vector<aq::k_run> runs(w.layout.run_count);
    std::vector<byte_vector> files;
    for (const int fill : {0x00, 0xFF}) {
        std::memset(static_cast<void*>(runs.data()), fill, runs.size() * sizeof(aq::k_run));
        for (std::size_t i = 0; i < runs.size(); ++i) {
            runs[i].begin = packed.view().layout.runs[i].begin;
            runs[i].end = packed.view().layout.runs[i].end;
            runs[i].exponent = packed.view().layout.runs[i].exponent;
            runs[i].shift = packed.view().layout.runs[i].shift;
            runs[i].ends_group = packed.view().layout.runs[i].ends_group;
        }
        w.layout.runs = runs.data();
        std::vector<float> values(40, static_cast<float>(fill));
        for (std::size_t r = 0; r < 3; ++r) {
            for (std::size_t c = 0; c < 7; ++c) values[r * 10 + c] = static_cast<float>(r + c);
        }
        aq::pack_writer writer;
        REQUIRE(writer.add("w", w) == status::ok);
        REQUIRE(writer.add("x", aq::matrix_view<const float>(values.data(), 3, 7, 10)) == status::ok);
        files.push_back(written(writer));
    }
    CHECK(files[0] == files[1]);
}

TEST_CASE("pack_writer: may write twice, and be moved") {
    aq::pack_writer writer;
    REQUIRE(writer.add("b", std::string_view("1")) == status::ok);
    REQUIRE(writer.add("a", std::string_view("22")) == status::ok);
    const byte_vector first = written(writer);
    CHECK(written(writer) == first);
    aq::pack_writer other = std::move(writer);
    CHECK(written(other) == first);
    REQUIRE(other.add("c", std::string_view("")) == status::ok);
    const opened o(written(other));
    REQUIRE(o.result == status::ok);
    std::string_view text;
    CHECK(o.file.bytes("c", text) == status::ok);
    CHECK(text.empty());
}

TEST_CASE("pack_writer: names that a file may not hold") {
    aq::pack_writer writer;
    const std::string longest(255, 'x');
    CHECK(writer.add(longest, std::string_view("1")) == status::ok);
    CHECK(writer.add("Größe ∑ 重み 😀 ~!/\\.", std::string_view("1")) == status::ok);
    const char* const bad[] = {"\x1F",
                               "a\nb",
                               "\x7F",
                               "\x80",
                               "\xBF",
                               "\xC0\x80",
                               "\xC1\xBF",
                               "\xC2",
                               "\xC2\x41",
                               "\xC2\x80",
                               "\xC2\x9F",
                               "\xE0\x9F\xBF",
                               "\xE2\x82",
                               "\xED\xA0\x80",
                               "\xED\xBF\xBF",
                               "\xF0\x8F\xBF\xBF",
                               "\xF4\x90\x80\x80",
                               "\xF5\x80\x80\x80",
                               "\xFF",
                               "\xF0\x9F\x98"};
    for (const char* const name : bad) {
        CAPTURE(std::string(name));
        CHECK(writer.add(name, std::string_view("1")) == status::bad_argument);
    }
    const char* const good[] = {
        " ", "\xC2\xA0", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"};
    for (const char* const name : good) CHECK(writer.add(name, std::string_view("1")) == status::ok);
    CHECK(writer.add("", std::string_view("1")) == status::bad_argument);
    CHECK(writer.add(std::string_view("a\0b", 3), std::string_view("1")) == status::bad_argument);
    CHECK(writer.add(std::string(256, 'x'), std::string_view("1")) == status::bad_argument);
    const opened o(written(writer));
    REQUIRE(o.result == status::ok);  // what was refused left nothing behind
    CHECK(o.file.size() == 2 + std::size(good));
    CHECK(o.file.verify(longest) == status::ok);
}

TEST_CASE("pack_writer: one name twice is refused when it comes to writing") {
    aq::pack_writer writer;
    REQUIRE(writer.add("same", std::string_view("1")) == status::ok);
    REQUIRE(writer.add("other", std::string_view("1")) == status::ok);
    REQUIRE(writer.add("same", std::string_view("2")) == status::ok);
    byte_vector out;
    CHECK(writer.write({&out, append_bytes}) == status::bad_argument);
    CHECK(out.empty());
}

TEST_CASE("pack_writer: a sink that fails ends the writing with its own status, wherever it fails") {
    aq::pack_writer writer;
    const aq::packed_storage<> packed = packed_case(1, 5, 20, {4, true, 16}, 2);
    REQUIRE(writer.add("w", packed.view()) == status::ok);
    REQUIRE(writer.add("text", std::string_view("12345")) == status::ok);
    struct failing {
        std::size_t left, calls = 0;
        static status write(void* self, const void*, std::size_t) {
            failing& f = *static_cast<failing*>(self);
            ++f.calls;
            return f.left-- == 0 ? status::cache_full : status::ok;
        }
    };
    failing all{100000};
    REQUIRE(writer.write({&all, failing::write}) == status::ok);
    CHECK(all.calls > 10);
    for (std::size_t i = 0; i < all.calls; ++i) {
        failing some{i};
        CHECK(writer.write({&some, failing::write}) == status::cache_full);
        CHECK(some.calls == i + 1);
    }
    CHECK(writer.write({}) == status::null_pointer);
}

TEST_CASE("pack_writer: matrices that are not whole, or that verify would refuse, are refused at once") {
    aq::weight_format two_level{3, true, 16};
    two_level.scales = aq::group_scales::integers;
    const aq::packed_storage<> packed = packed_case(1, 5, 40, {4, true, 16}, 2), other = packed_case(2, 5, 40, two_level, 2);
    aq::pack_writer writer;
    const auto refused = [&](const aq::packed_storage<>& from, auto&& edit) {
        aq::packed_weights w = from.view();
        edit(w);
        return writer.add("w", w);
    };
    using weights = aq::packed_weights;
    CHECK(refused(packed, [](weights& w) { w.tile = {8, 4}; }) == status::wrong_tile);
    CHECK(refused(packed, [](weights& w) { w.codes = nullptr; }) == status::null_pointer);
    CHECK(refused(packed, [](weights& w) { w.scales = nullptr; }) == status::null_pointer);
    CHECK(refused(packed, [](weights& w) { w.offsets = nullptr; }) == status::null_pointer);
    CHECK(refused(packed, [](weights& w) { w.layout.runs = nullptr; }) == status::null_pointer);
    CHECK(refused(packed, [](weights& w) { w.layout.order = nullptr; }) == status::bad_argument);
    CHECK(refused(packed, [](weights& w) { w.bits = 1; }) == status::bad_argument);
    CHECK(refused(packed, [](weights& w) { w.bits = 9; }) == status::bad_argument);
    CHECK(refused(packed, [](weights& w) { w.bits = 3; }) == status::bad_argument);  // its codes have 4
    CHECK(refused(packed, [](weights& w) { w.n = 4; }) == status::bad_argument);     // its fifth row is not padding
    CHECK(refused(packed, [](weights& w) { w.n = std::size_t{1} << 40; }) == status::bad_argument);
    CHECK(refused(packed, [](weights& w) { ++w.layout.id; }) == status::bad_argument);
    CHECK(refused(packed, [](weights& w) { ++w.layout.group; }) == status::bad_argument);
    CHECK(refused(packed, [](weights& w) { --w.layout.run_count; }) == status::bad_argument);
    CHECK(refused(packed, [](weights& w) { ++w.layout.groups; }) == status::ok);  // follows from the group, and is not looked at
    const float not_finite[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
    for (const float x : not_finite) {
        std::vector<float> values(16 * 8, 0.0F);
        values[4] = x;
        CHECK(refused(packed, [&](weights& w) { w.offsets = values.data(); }) == status::bad_argument);
        CHECK(refused(packed, [&](weights& w) { w.scales = values.data(); }) == status::bad_argument);
        CHECK(refused(other, [&](weights& w) { w.scales = values.data(); }) == status::bad_argument);
    }
    std::vector<std::uint8_t> large(16 * 8, 40);
    CHECK(refused(other, [&](weights& w) { w.multipliers = large.data(); }) == status::bad_argument);
    CHECK(refused(other, [&](weights& w) { w.zeros = large.data(); }) == status::bad_argument);
    CHECK(writer.add("x", aq::matrix_view<const float>(nullptr, 2, 2)) == status::null_pointer);
    const float value = 0.0F;
    CHECK(writer.add("x", aq::matrix_view<const float>(&value, 2, 2, 1)) == status::bad_stride);
    CHECK(writer.add("x", aq::matrix_view<const float>(&value, std::size_t{1} << 25, 1)) == status::bad_argument);
}
