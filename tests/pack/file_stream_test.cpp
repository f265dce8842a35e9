#include <doctest/doctest.h>
#include <sys/mman.h>

#include <cstring>
#include <string>
#include <vector>

#include "agilequant/pack/file.hpp"
#include "agilequant/pack/file_writer.hpp"
#include "pack/file_case.hpp"

using aq::status;
using namespace aq_test;

namespace {

/// Delivers matrices under the names it is asked for, one at a time.
struct quantizer {
    aq::packed_storage<> held;
    std::vector<float> row;
    std::vector<std::string> asked;
    aq::weight_format format;
    std::size_t n = 18, k = 50;
    int highest_exponent = 3;
    status says = status::ok;

    static std::uint64_t seed_of(std::string_view name) { return static_cast<std::uint64_t>(name.back()); }

    static status get(void* self, std::string_view name, aq::packed_weights& out) {
        quantizer& q = *static_cast<quantizer*>(self);
        q.asked.emplace_back(name);
        q.held = packed_case(seed_of(name), q.n, q.k, q.format, q.highest_exponent);
        out = q.held.view();
        return q.says;
    }
    static status get_row(void* self, std::string_view name, aq::matrix_view<const float>& out) {
        quantizer& q = *static_cast<quantizer*>(self);
        q.asked.emplace_back(name);
        q.row.assign(q.k, static_cast<float>(name.size()));
        out = {q.row.data(), 1, q.k};
        return q.says;
    }
    aq::matrix_source matrices() { return {this, get}; }
    aq::float_source rows() { return {this, get_row}; }

    /// What will come under a name; the layout is gone when this returns.
    status announce(aq::pack_writer& writer, std::string_view name) {
        const aq::packed_storage<> packed = packed_case(seed_of(name), n, k, format, highest_exponent);
        return writer.add(name, {n, format, packed.view().layout}, matrices());
    }
};

}  // namespace

TEST_CASE("pack_writer: entries that come later give the bytes of entries that are there") {
    aq::weight_format two_level{3, true, 16};
    two_level.scales = aq::group_scales::integers;
    for (const aq::weight_format& format : {aq::weight_format{4, true, 20}, aq::weight_format{8, false, 0}, two_level}) {
        for (const int highest : {0, 3}) {
            for (const std::size_t n : sizes{0, 1, 18}) {
                quantizer q;
                q.format = format;
                q.n = n;
                q.highest_exponent = highest;
                aq::pack_writer now, later;
                std::vector<aq::packed_storage<>> all;
                for (const std::string_view name : {"q2", "q1", "q3"}) {
                    all.push_back(packed_case(quantizer::seed_of(name), n, q.k, format, highest));
                    REQUIRE(now.add(name, all.back().view()) == status::ok);
                    REQUIRE(q.announce(later, name) == status::ok);
                    CHECK(now.file_size() == later.file_size());
                }
                const std::vector<float> norm(q.k, 4.0F);
                REQUIRE(now.add("norm", aq::matrix_view<const float>(norm.data(), 1, q.k)) == status::ok);
                REQUIRE(later.add("norm", {1, q.k}, q.rows()) == status::ok);
                CHECK(q.asked.empty());
                CHECK(written(later) == written(now));
                CHECK(q.asked == std::vector<std::string>{"q2", "q1", "q3", "norm"});  // in the order in which they were added
                CHECK(written(later) == written(now));                                 // and again
            }
        }
    }
}

TEST_CASE("pack_writer: a source that delivers something else ends the writing") {
    const auto status_with = [](auto&& edit) {
        quantizer q;
        q.format = {4, true, 20};
        aq::pack_writer writer;
        REQUIRE(q.announce(writer, "q1") == status::ok);
        REQUIRE(writer.add("norm", {1, q.k}, q.rows()) == status::ok);
        edit(q);
        byte_vector out;
        return writer.write({&out, append_bytes});
    };
    CHECK(status_with([](quantizer&) {}) == status::ok);
    CHECK(status_with([](quantizer& q) { q.says = status::source_failed; }) == status::source_failed);
    CHECK(status_with([](quantizer& q) { q.n = 19; }) == status::bad_shape);  // as many bytes
    CHECK(status_with([](quantizer& q) { q.k = 51; }) == status::bad_shape);
    CHECK(status_with([](quantizer& q) { q.format.bits = 3; }) == status::bad_shape);
    CHECK(status_with([](quantizer& q) { q.format.is_asymmetric = false; }) == status::bad_shape);
    CHECK(status_with([](quantizer& q) { q.format.group = 10; }) == status::bad_shape);
    CHECK(status_with([](quantizer& q) { q.highest_exponent = 2; }) == status::bad_shape);
    CHECK(status_with([](quantizer& q) { q.format.bits = 3, q.format.scales = aq::group_scales::integers; }) ==
          status::bad_shape);
}

TEST_CASE("pack_writer: a source that delivers another order of channels, of the same numbers, ends the writing") {
    const auto packed_with = [](std::size_t channel) {
        random_source random(1);
        std::vector<std::uint8_t> exponents(32, 0);
        exponents[channel] = 1;
        aq::packed_storage<> packed;
        REQUIRE(aq::pack(random_matrix(random, 5, 32).view(), {4, true, 0}, exponents.data(), packed) == status::ok);
        return packed;
    };
    const auto get = [](void* self, std::string_view, aq::packed_weights& out) {
        out = static_cast<aq::packed_storage<>*>(self)->view();
        return status::ok;
    };
    aq::packed_storage<> first = packed_with(7), second = packed_with(8);
    REQUIRE(first.view().layout.packed == second.view().layout.packed);
    for (aq::packed_storage<>* delivered : {&first, &second}) {
        aq::pack_writer writer;
        REQUIRE(writer.add("w", {5, {4, true, 0}, first.view().layout}, {delivered, get}) == status::ok);
        byte_vector out;
        CHECK(writer.write({&out, append_bytes}) == (delivered == &first ? status::ok : status::bad_shape));
    }
}

TEST_CASE("pack_writer: what may not be announced") {
    quantizer q;
    aq::pack_writer writer;
    aq::k_layout layout;
    REQUIRE(layout.make(64, 32) == status::ok);
    const aq::packed_shape shape{5, {4, true, 32}, layout.view()};
    const auto refused = [&](auto&& edit) {
        aq::packed_shape other = shape;
        edit(other);
        return writer.add("w", other, q.matrices());
    };
    CHECK(writer.add("w", shape, aq::matrix_source()) == status::null_pointer);
    CHECK(writer.add("w", aq::matrix_shape{1, 2}, aq::float_source()) == status::null_pointer);
    CHECK(writer.add("w", {std::size_t{1} << 25, 1}, q.rows()) == status::bad_argument);
    CHECK(refused([](aq::packed_shape& s) { s.n = std::size_t{1} << 25; }) == status::bad_argument);
    CHECK(refused([](aq::packed_shape& s) { s.format.bits = 9; }) == status::bad_argument);
    CHECK(refused([](aq::packed_shape& s) { s.format.bits = 8, s.format.scales = aq::group_scales::integers; }) ==
          status::bad_argument);
    CHECK(refused([](aq::packed_shape& s) { s.layout.run_count = 1; }) == status::bad_argument);
    CHECK(writer.file_size() == 64);
    // 2^62 bytes are the end, long before a sum wraps
    std::size_t count = 0;
    const std::size_t largest = std::size_t{1} << 24;
    while (writer.add("w" + std::to_string(count), {largest, largest}, q.rows()) == status::ok) ++count;
    CHECK(count == 4095);  // of 2^50 bytes and a line
}

TEST_CASE("pack files of more than 2^32 bytes: places are right, and data behind them are read") {
    const aq::packed_storage<> packed = packed_case(1, 18, 50, {4, true, 20}, 3);
    aq::pack_writer alone, large;
    REQUIRE(alone.add("w", packed.view()) == status::ok);
    const byte_vector small = written(alone);
    // the header of a file whose first entry has 6 GiB; its sink ends the writing before they would be written
    quantizer q;
    const aq::matrix_shape shape{std::size_t{3} << 19, 1024};
    REQUIRE(large.add("embedding", shape, q.rows()) == status::ok);
    REQUIRE(large.add("w", packed.view()) == status::ok);
    const std::uint64_t floats = std::uint64_t{6} << 30;
    CHECK(large.file_size() == 64 + 2 * 128 + 64 + floats + 64 + (small.size() - entry_of(small, 0).data));
    byte_vector head;
    const auto once = [](void* self, const void* data, std::size_t size) {
        return append_bytes(self, data, size) == status::ok ? status::cache_full : status::bad_file;
    };
    REQUIRE(large.write({&head, once}) == status::cache_full);
    REQUIRE(head.size() == 64 + 2 * 128 + 64);
    // memory that takes up no room where nothing is written
    const std::size_t size = static_cast<std::size_t>(large.file_size());
    void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    std::uint8_t* const bytes = static_cast<std::uint8_t*>(memory);
    std::memcpy(bytes, head.data(), head.size());
    const aq::pack_entry from = entry_of(small, 0), to = entry_of(head, 1);
    CHECK(to.data == head.size() + floats + 64);
    REQUIRE(to.data_size == from.data_size);
    std::memcpy(bytes + to.data, small.data() + from.data, static_cast<std::size_t>(from.data_size));
    aq::pack_file file;
    aq::packed_weights w;
    aq::matrix_view<const float> embedding;
    CHECK(file.open(bytes, size - 64) == status::bad_file);
    REQUIRE(file.open(bytes, size) == status::ok);
    CHECK(file.verify("w") == status::ok);
    REQUIRE(file.matrix("w", w) == status::ok);
    CHECK(std::memcmp(w.codes, packed.view().codes, w.panels() * w.panel_bytes()) == 0);
    CHECK(reinterpret_cast<const std::uint8_t*>(w.codes) - bytes > (std::ptrdiff_t{6} << 30));
    REQUIRE(file.floats("embedding", embedding) == status::ok);
    CHECK((embedding.rows == shape.rows && embedding.cols == shape.cols && embedding.row(embedding.rows - 1)[1023] == 0.0F));
    munmap(memory, size);
}
