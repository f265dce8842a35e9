#include "agilequant/pack/packed_matrix.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "agilequant/kernels/reference.hpp"
#include "support/guarded.hpp"
#include "support/random.hpp"
#include "support/status_text.hpp"

using aq::status;
using aq_test::matrix;
using aq_test::random_source;

namespace {

/// Codes that are set by hand, scale 1 and zero point `zero` in every group.
aq::coded_matrix coded(std::size_t n, std::size_t k, const aq::weight_format& format, int code, int zero) {
    aq::coded_matrix m;
    REQUIRE(m.reset(format, n, k) == status::ok);
    for (std::uint8_t& c : m.codes) c = static_cast<std::uint8_t>(code);
    for (float& s : m.scales) s = 1.0F;
    for (std::uint8_t& z : m.zeros) z = static_cast<std::uint8_t>(zero);
    return m;
}

aq::k_layout layout_of(std::size_t k, std::size_t group, const std::vector<std::uint8_t>& exponents = {}) {
    aq::k_layout layout;
    REQUIRE(layout.make(k, group, exponents.empty() ? nullptr : exponents.data()) == status::ok);
    return layout;
}

}  // namespace

static_assert(!std::is_copy_constructible_v<aq::packed_storage<>> && std::is_nothrow_move_constructible_v<aq::packed_storage<>>);
static_assert(!std::is_copy_constructible_v<aq::packed_matrix<aq::uniform<4>>>);
static_assert(std::is_trivially_copyable_v<aq::packed_weights> && std::is_trivially_copyable_v<aq::packed_view<aq::uniform<4>>>);

TEST_CASE("layout: a packed matrix of fixed codes has fixed bytes, scales, zeros and offsets") {
    // w [2,18] in groups of 16: row 0 counts 0 1 2 .. 15 0 1, row 1 is 15 throughout
    aq::coded_matrix w = coded(2, 18, {4, true, 16}, 15, 3);
    for (std::size_t c = 0; c < 18; ++c) w.codes[c] = static_cast<std::uint8_t>(c % 16);
    w.scales[0] = 0.5F;   // row 0, group 0
    w.scales[1] = 0.25F;  // row 0, group 1
    w.zeros[1] = 1;
    aq::packed_storage<> storage;
    REQUIRE(storage.assign(w, layout_of(18, 16)) == status::ok);
    const aq::packed_weights p = storage.view();
    CHECK(p.panels() == 1);
    CHECK(p.layout.packed == 32);
    CHECK(p.panel_bytes() == 256);
    const std::uint8_t first[] = {0x40, 0x51, 0x62, 0x73, 0xFF, 0xFF, 0xFF, 0xFF, 0x00};  // positions 0..7: 0..3 low, 4..7 high
    CHECK(std::memcmp(p.codes, first, sizeof first) == 0);
    const std::uint8_t second[] = {0xC8, 0xD9, 0xEA, 0xFB, 0xFF};
    CHECK(std::memcmp(p.codes + 64, second, sizeof second) == 0);
    const std::uint8_t third[] = {0x00, 0x01, 0x00, 0x00, 0x0F, 0x0F, 0x00, 0x00};  // group 1: two channels, then padding
    CHECK(std::memcmp(p.codes + 128, third, sizeof third) == 0);
    CHECK((p.scales[0] == 0.5F && p.scales[1] == 1.0F && p.scales[2] == 0.0F && p.scales[16] == 0.25F && p.scales[17] == 1.0F));
    CHECK((p.zeros[0] == 3 && p.zeros[1] == 3 && p.zeros[2] == 0 && p.zeros[16] == 1 && p.zeros[17] == 3));
    // row 0: 0.5 (120 - 16*3) + 0.25 (0 + 1 - 2*1); row 1: 18 (15 - 3)
    CHECK((p.offsets[0] == 35.75F && p.offsets[1] == 216.0F && p.offsets[2] == 0.0F));
    CHECK(p.bytes() == 256 + 16 * 2 * 5 + 16 * 4);
}

TEST_CASE("packing only moves: every value of quantize_weights is there, for every width, group and exponents") {
    std::uint64_t seed = 100;
    for (int bits = 2; bits <= 8; ++bits) {
        for (std::size_t group : aq_test::sizes{0, 1, 5, 16, 32, 100}) {
            for (bool asymmetric : {false, true}) {
                for (bool with_exponents : {false, true}) {
                    CAPTURE(++seed);
                    CAPTURE(bits);
                    CAPTURE(group);
                    random_source random(seed);
                    const std::size_t n = random.below(40), k = random.below(70);
                    const matrix w = random_matrix(random, n, k, random.below(3));
                    std::vector<std::uint8_t> exponents(k + 1);
                    for (std::uint8_t& e : exponents) e = static_cast<std::uint8_t>(random.below(8));
                    const aq::weight_format format{bits, asymmetric, group};
                    aq::packed_storage<> storage;
                    REQUIRE(aq::pack(w.view(), format, with_exponents ? exponents.data() : nullptr, storage) == status::ok);
                    const aq::packed_weights p = storage.view();
                    // the same by the definition: gather, quantize, compare with what the packed matrix stands for
                    std::vector<std::uint32_t> columns;
                    for (std::size_t at = 0; at < p.layout.packed; ++at) {
                        if (p.layout.channel(at) != aq::padding) columns.push_back(p.layout.channel(at));
                    }
                    aq::coded_matrix plain;
                    REQUIRE(aq::quantize_weights(w.view(), format, columns.data(), plain) == status::ok);
                    std::vector<double> values(n * k + 1, -1e9);
                    aq::reference::dequantize(p, {values.data(), n, k});
                    bool same = true;
                    for (std::size_t r = 0; r < n; ++r) {
                        for (std::size_t c = 0; c < k; ++c) {
                            same = same && static_cast<float>(values[r * k + columns[c]]) == plain.value(r, c);
                        }
                    }
                    CHECK(same);
                    CHECK((p.zeros != nullptr) == (asymmetric && n * k != 0));
                    // quantized to the nearest: half a step
                    bool near = true;
                    for (std::size_t r = 0; r < n; ++r) {
                        for (std::size_t c = 0; c < k; ++c) {
                            const double step =
                                static_cast<double>(plain.scales[r * plain.groups + (group == 0 ? 0 : c / group)]);
                            const double error = values[r * k + columns[c]] - static_cast<double>(w.at(r, columns[c]));
                            near = near && std::abs(error) <=
                                               (asymmetric ? 1.0001 : 0.50001) * step;  // a rounded zero point moves the ends
                        }
                    }
                    CHECK(near);
                }
            }
        }
    }
}

TEST_CASE("a format as a type packs as the same format at run time") {
    random_source random(7);
    const matrix w = random_matrix(random, 21, 75);
    aq::packed_matrix<aq::uniform<4, aq::symmetric, aq::group<32>>> typed;
    REQUIRE(typed.assign(w.view()) == status::ok);
    aq::packed_storage<> plain;
    REQUIRE(aq::pack(w.view(), {4, false, 32}, nullptr, plain) == status::ok);
    const aq::packed_weights a = typed.view().weights, b = plain.view();
    CHECK(a.bits == 4);
    CHECK(a.layout.id == b.layout.id);
    CHECK(a.zeros == nullptr);
    CHECK(std::memcmp(a.codes, b.codes, a.panels() * a.panel_bytes()) == 0);
    CHECK(std::memcmp(a.scales, b.scales, 2 * 16 * 3 * sizeof(float)) == 0);
    CHECK(std::memcmp(a.offsets, b.offsets, 2 * 16 * sizeof(float)) == 0);
    CHECK(aq::format_of<aq::uniform<8>>().group == 0);
}

TEST_CASE("packing refuses what it cannot hold, and keeps what it held") {
    random_source random(9);
    const matrix w = random_matrix(random, 3, 40);
    aq::packed_storage<> storage;
    REQUIRE(aq::pack(w.view(), {4, true, 16}, nullptr, storage) == status::ok);
    const std::uint64_t id = storage.view().layout.id;
    std::vector<std::uint8_t> exponents(40, 8);
    CHECK(aq::pack(w.view(), {1, true, 16}, nullptr, storage) == status::unsupported_format);
    CHECK(aq::pack(w.view(), {9, true, 16}, nullptr, storage) == status::unsupported_format);
    CHECK(aq::pack(w.view(), {4, true, 16}, exponents.data(), storage) == status::bad_argument);
    CHECK(aq::pack({w.data.data(), 3, 40, 39}, {4, true, 16}, nullptr, storage) == status::bad_stride);
    CHECK(aq::pack({nullptr, 3, 40}, {4, true, 16}, nullptr, storage) == status::null_pointer);

    const aq::coded_matrix codes = coded(3, 40, {4, true, 25}, 1, 0);  // two groups, 25 and 15
    CHECK(storage.assign(codes, layout_of(41, 25)) == status::bad_shape);
    CHECK(storage.assign(codes, layout_of(40, 10)) == status::bad_shape);
    CHECK(storage.assign(codes, layout_of(40, 32)) == status::bad_shape);  // two groups as well, but 32 and 8
    CHECK(storage.assign(codes, layout_of(40, 25)) == status::ok);
    REQUIRE(aq::pack(w.view(), {4, true, 16}, nullptr, storage) == status::ok);
    CHECK(storage.assign(coded(3, 66312, {8, true, 0}, 1, 0), layout_of(66312, 0)) == status::depth_over_limit);
    CHECK(storage.view().layout.id == id);
    CHECK(storage.view().n == 3);
    CHECK(storage.assign(coded(1, 66311, {8, true, 0}, 1, 0), layout_of(66311, 0)) == status::ok);
    CHECK(storage.assign(coded(1, 66312, {8, true, 66311}, 1, 0), layout_of(66312, 66311)) == status::ok);  // two groups hold it
}

TEST_CASE("depth counts powers of two: 518 channels of 2^7 and 7 plain ones are the limit of 8 bits by 8 bits") {
    std::vector<std::uint8_t> exponents(526, 0);
    for (std::size_t i = 0; i < 518; ++i) exponents[i] = 7;
    const auto packed_to = [&](std::size_t k) {
        aq::packed_storage<> storage;
        return storage.assign(coded(1, k, {8, true, 0}, 255, 0),
                              layout_of(k, 0, {exponents.begin(), exponents.begin() + static_cast<std::ptrdiff_t>(k)}));
    };
    CHECK(packed_to(525) == status::ok);
    CHECK(packed_to(526) == status::depth_over_limit);
}

TEST_CASE("edges: packing reads nothing beyond its matrix") {
    random_source random(11);
    for (aq_test::guard side : {aq_test::guard::before, aq_test::guard::after}) {
        for (std::size_t k : aq_test::sizes{1, 15, 16, 17, 33}) {
            for (std::size_t n : aq_test::sizes{1, 16, 17}) {
                const matrix w = random_matrix(random, n, k);
                const std::vector<std::uint8_t> e(k, 1);
                const aq_test::guarded<float> guarded(w.data.data(), n * k, side);
                const aq_test::guarded<std::uint8_t> exponents(e.data(), k, side);
                aq::packed_storage<> storage;
                CHECK(aq::pack({guarded.data(), n, k}, {3, true, 5}, exponents.data(), storage) == status::ok);
            }
        }
    }
}

TEST_CASE("packed_matrix: codes, zero points and multipliers beyond what kernels rely on are refused") {
    const auto assign = [](int bits, int code, int zero, int multiplier) {
        aq::weight_format format{bits, true, 4};
        if (multiplier >= 0) format.scales = aq::group_scales::integers;
        const std::vector<float> values(8, 1.0F);
        aq::coded_matrix coded;
        REQUIRE(aq::quantize_weights({values.data(), 1, 8, 8}, format, nullptr, coded) == aq::status::ok);
        for (std::size_t i = 0; i < 8; ++i) coded.codes[i] = static_cast<std::uint8_t>(zero);
        coded.codes[5] = static_cast<std::uint8_t>(code);
        coded.zeros[0] = coded.zeros[1] = static_cast<std::uint8_t>(zero);
        if (multiplier >= 0) coded.multipliers[0] = coded.multipliers[1] = static_cast<std::uint8_t>(multiplier);
        aq::k_layout layout;
        REQUIRE(layout.make(8, 4) == aq::status::ok);
        aq::packed_storage<> packed;
        const aq::status s = packed.assign(coded, std::move(layout));
        CHECK(packed.view().n == (s == aq::status::ok ? 1 : 0));
        return s;
    };
    CHECK(assign(4, 15, 15, -1) == aq::status::ok);
    CHECK(assign(4, 16, 8, -1) == aq::status::bad_argument);
    CHECK(assign(4, 8, 16, -1) == aq::status::bad_argument);
    CHECK(assign(8, 255, 0, -1) == aq::status::ok);
    CHECK(assign(4, 15, 0, 8) == aq::status::ok);
    CHECK(assign(4, 15, 0, 9) == aq::status::bad_argument);
    CHECK(assign(4, 0, 15, 8) == aq::status::ok);
    CHECK(assign(4, 0, 15, 9) == aq::status::bad_argument);
    CHECK(assign(7, 127, 0, 1) == aq::status::ok);
    CHECK(assign(4, 8, 8, 0) == aq::status::bad_argument);
}
