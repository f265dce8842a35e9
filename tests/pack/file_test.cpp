#include "agilequant/pack/file.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "agilequant/dispatch/dispatch.hpp"
#include "agilequant/kernels/gemm.hpp"
#include "agilequant/kernels/quantized_rows.hpp"
#include "pack/file_case.hpp"

using aq::status;
using namespace aq_test;

namespace {

/// Whether two arrays hold the same bytes, or are both null.
template <class T>
bool same(const T* a, const T* b, std::size_t count) {
    if (a == nullptr || b == nullptr) return a == b || count == 0;
    return std::memcmp(a, b, count * sizeof(T)) == 0;
}

bool same_runs(const aq::k_layout_view& a, const aq::k_layout_view& b) {
    bool is_same = a.run_count == b.run_count;
    for (std::size_t i = 0; is_same && i < a.run_count; ++i) {
        const aq::k_run &x = a.runs[i], &y = b.runs[i];
        is_same = x.begin == y.begin && x.end == y.end && x.exponent == y.exponent && x.shift == y.shift &&
                  x.ends_group == y.ends_group;
    }
    return is_same;
}

void check_same(const aq::packed_weights& a, const aq::packed_weights& b) {
    const aq::k_layout_view &l = a.layout, &o = b.layout;
    CHECK((a.bits == b.bits && a.tile == b.tile && a.n == b.n));
    CHECK((l.k == o.k && l.packed == o.packed && l.group == o.group && l.groups == o.groups && l.id == o.id));
    CHECK((l.depth == o.depth && l.total_depth == o.total_depth));
    CHECK(same_runs(l, o));
    CHECK(same(l.order, o.order, l.packed));
    CHECK((l.order == nullptr) == (o.order == nullptr));
    const std::size_t lanes = a.panels() * 16, groups = lanes * l.groups;
    CHECK(same(a.codes, b.codes, a.panels() * a.panel_bytes()));
    CHECK(same(a.scales, b.scales, a.multipliers == nullptr ? groups : lanes));
    CHECK((a.zeros == nullptr) == (b.zeros == nullptr));
    CHECK((a.multipliers == nullptr) == (b.multipliers == nullptr));
    CHECK(same(a.zeros, b.zeros, groups));
    CHECK(same(a.multipliers, b.multipliers, groups));
    CHECK(same(a.offsets, b.offsets, lanes));
    CHECK(a.bytes() == b.bytes());
}

/// x w^T, of 8-bit activations.
std::vector<float> product(const aq::kernel_table& kernels, const aq::packed_weights& w) {
    random_source random(9);
    const matrix x = random_matrix(random, 4, w.layout.k);
    aq::quantized_rows a;
    std::vector<float> y(4 * w.n + 1, 0.0F);
    REQUIRE(a.assign(kernels, x.view(), w.layout, {}) == status::ok);
    REQUIRE(aq::gemm(kernels, {w, a.view(), {y.data(), 4, w.n}, {}}) == status::ok);
    return y;
}

/// What docs/pack-file.md calls the ten lines.
status first_product(const void* bytes, std::size_t size, aq::packed_weights& w) {
    aq::pack_file file;
    AQ_TRY(file.open(bytes, size));
    AQ_TRY(file.matrix("blocks.0.q", w));
    return status::ok;
}

}  // namespace

static_assert(std::is_trivially_copyable_v<aq::pack_file>);

TEST_CASE("pack_file: every width, granularity and layout is read as it was written, and multiplies to the same bits") {
    const aq::kernel_table* kernels = nullptr;
    REQUIRE(aq::choose_kernels(kernels) == status::ok);
    std::uint64_t seed = 0;
    for (int bits = 2; bits <= 8; ++bits) {
        for (const std::size_t group : sizes{0, 1, 16, 32, 40}) {
            for (int i = 0; i < 8; ++i) {
                const bool is_two_level = (i & 1) != 0;
                if (is_two_level && bits == 8) continue;
                aq::weight_format format{bits, (i & 2) != 0, group};
                format.scales = is_two_level ? aq::group_scales::integers : aq::group_scales::floats;
                random_source random(++seed);
                const std::size_t n = 1 + random.below(50),
                                  k = seed % 3 == 0 ? 16 * (1 + random.below(6)) : 1 + random.below(100);
                CAPTURE(seed);
                CAPTURE(bits);
                CAPTURE(group);
                CAPTURE(i);
                const aq::packed_storage<> packed = packed_case(seed, n, k, format, (i & 4) != 0 ? 7 : 0);
                aq::pack_writer writer;
                REQUIRE(writer.add("blocks.0.q", packed.view()) == status::ok);
                const opened o(written(writer));
                REQUIRE(o.result == status::ok);
                aq::packed_weights w;
                REQUIRE(first_product(o.bytes.data(), o.bytes.size() - 1, w) == status::ok);
                CHECK(o.file.verify_all() == status::ok);
                check_same(w, packed.view());
                const std::vector<float> before = product(*kernels, packed.view()), after = product(*kernels, w);
                CHECK(std::memcmp(before.data(), after.data(), before.size() * sizeof(float)) == 0);
                // in place, each array on a line
                for (const void* p : {static_cast<const void*>(w.codes), static_cast<const void*>(w.scales),
                                      static_cast<const void*>(w.layout.runs), static_cast<const void*>(w.offsets)}) {
                    CHECK(reinterpret_cast<std::uintptr_t>(p) % 64 == 0);
                    CHECK((p > o.bytes.data() && p < o.bytes.data() + o.bytes.size()));
                }
            }
        }
    }
}

TEST_CASE("pack_file: matrices without rows or channels") {
    for (const std::size_t n : sizes{0, 1, 17}) {
        for (const std::size_t k : sizes{0, 1, 16}) {
            for (const bool is_asymmetric : {false, true}) {
                for (const aq::group_scales scales : {aq::group_scales::floats, aq::group_scales::integers}) {
                    CAPTURE(n);
                    CAPTURE(k);
                    aq::weight_format format{4, is_asymmetric, 0};
                    format.scales = scales;
                    const aq::packed_storage<> packed = packed_case(1, n, k, format, 0);
                    aq::pack_writer writer;
                    REQUIRE(writer.add("w", packed.view()) == status::ok);
                    REQUIRE(writer.add("floats", aq::matrix_view<const float>(nullptr, 0, k)) == status::ok);
                    const opened o(written(writer));
                    REQUIRE(o.result == status::ok);
                    CHECK(o.file.verify_all() == status::ok);
                    aq::packed_weights w;
                    REQUIRE(o.file.matrix("w", w) == status::ok);
                    CHECK((w.n == n && w.layout.k == k && w.layout.id == packed.view().layout.id));
                    if (n * k != 0) check_same(w, packed.view());
                    CHECK(product(aq::scalar::table, w) == product(aq::scalar::table, packed.view()));
                }
            }
        }
    }
}

TEST_CASE("pack_file: floats and bytes, found by name, and nothing under other names or kinds") {
    const byte_vector bytes = sample_file();
    const opened o(bytes);
    REQUIRE(o.result == status::ok);
    REQUIRE(o.file.size() == sample_entries);
    const char* const names[] = {"a", "b", "c", "floats", "text"};
    for (std::size_t i = 0; i < sample_entries; ++i) {
        CHECK(std::string(o.file.name(i)) == names[i]);
        CHECK(o.file.find(names[i]) == i);
    }
    CHECK((o.file.kind(sample_c) == aq::pack_kind::matrix && o.file.kind(sample_floats) == aq::pack_kind::floats));
    CHECK(o.file.kind(sample_text) == aq::pack_kind::bytes);
    CHECK(o.file.verify_all() == status::ok);

    random_source random(4);
    const matrix expected = random_matrix(random, 3, 5, 2);
    aq::matrix_view<const float> floats;
    REQUIRE(o.file.floats("floats", floats) == status::ok);
    REQUIRE((floats.rows == 3 && floats.cols == 5 && floats.stride == 5));
    for (std::size_t r = 0; r < 3; ++r) CHECK(std::memcmp(floats.row(r), expected.data.data() + r * 7, 5 * sizeof(float)) == 0);
    std::string_view text;
    REQUIRE(o.file.bytes("text", text) == status::ok);
    CHECK(std::string(text) == "{\"bits\": 4}");

    aq::packed_weights w;
    for (const char* const absent : {"", "A", "aa", "d", "floats ", "zz", "floats2", "\xFF"}) {
        CHECK(o.file.find(absent) == o.file.size());
        CHECK(o.file.matrix(absent, w) == status::no_such_entry);
        CHECK(o.file.floats(absent, floats) == status::no_such_entry);
        CHECK(o.file.bytes(absent, text) == status::no_such_entry);
        CHECK(o.file.verify(absent) == status::no_such_entry);
    }
    CHECK(o.file.matrix("text", w) == status::no_such_entry);
    CHECK(o.file.floats("a", floats) == status::no_such_entry);
    CHECK(o.file.bytes("floats", text) == status::no_such_entry);
    CHECK(o.file.verify("b") == status::ok);
}

TEST_CASE("pack_file: many entries are found, whatever the order in which they were given") {
    std::vector<std::string> names;
    random_source random(3);
    for (int i = 0; i < 500; ++i) names.push_back("blocks." + std::to_string(random.below(1000000)) + "." + std::to_string(i));
    aq::pack_writer writer;
    for (const std::string& name : names) REQUIRE(writer.add(name, std::string_view(name)) == status::ok);
    const opened o(written(writer));
    REQUIRE(o.result == status::ok);
    const char* last = nullptr;
    for (const std::string& name : names) {
        std::string_view text;
        REQUIRE(o.file.bytes(name, text) == status::ok);
        CHECK(text == name);
        CHECK((last == nullptr || text.data() > last));  // data stand in the order in which they were given
        last = text.data();
    }
    CHECK(o.file.verify_all() == status::ok);
}

TEST_CASE("pack_file: a file without entries, and what is no file at all") {
    const aq::pack_writer empty;
    const byte_vector bytes = written(empty);
    CHECK(bytes.size() == 64);
    const opened o(bytes);
    CHECK(o.result == status::ok);
    CHECK(o.file.size() == 0);
    CHECK(o.file.verify_all() == status::ok);
    aq::pack_file file;
    CHECK(file.open(nullptr, 0) == status::null_pointer);
    CHECK(file.open(o.bytes.data(), 0) == status::bad_file);
    const opened other(sample_file());
    aq::aligned_buffer<std::uint8_t> moved;
    REQUIRE(moved.reset(other.bytes.size() + 64) == status::ok);
    for (const std::size_t shift : sizes{1, 4, 8, 32}) {
        std::memcpy(moved.data() + shift, other.bytes.data(), other.bytes.size() - 1);
        CHECK(file.open(moved.data() + shift, other.bytes.size() - 1) == status::bad_argument);
    }
    // a second open that fails leaves nothing of the first
    CHECK(file.open(other.bytes.data(), other.bytes.size() - 1) == status::ok);
    CHECK(file.size() == sample_entries);
    CHECK(file.open(other.bytes.data(), 100) == status::bad_file);
    CHECK(file.size() == 0);
    CHECK(file.find("a") == 0);
}

TEST_CASE("pack_file: kinds of a newer minor version are passed over, and refused where the version is ours") {
    const auto with_kind = [](std::uint16_t minor) {
        byte_vector f = with_entry(sample_file(), sample_text, [](aq::pack_entry& e) {
            e.kind = 77;
            e.rows = ~std::uint64_t{0};
            e.reserved[2] = 5;
        });
        return with_header(f, [&](aq::pack_header& h) { h.minor = minor; });
    };
    const opened newer(with_kind(1)), ours(with_kind(0));
    CHECK(ours.result == status::bad_file);
    REQUIRE(newer.result == status::ok);
    std::string_view text;
    CHECK(newer.file.bytes("text", text) == status::no_such_entry);
    CHECK(newer.file.verify_all() == status::ok);
    CHECK(static_cast<std::uint32_t>(newer.file.kind(sample_text)) == 77);
    byte_vector damaged = with_kind(1);
    damaged[entry_of(damaged, sample_text).data] ^= 1;
    CHECK(opened(damaged).file.verify("text") == status::bad_checksum);
}
