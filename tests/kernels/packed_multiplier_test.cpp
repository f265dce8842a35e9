#include "agilequant/kernels/packed_multiplier.hpp"

#include <doctest/doctest.h>

#include <array>
#include <string>
#include <vector>

#include "isa/guarded_product.hpp"
#include "support/effort.hpp"
#include "support/manual_product.hpp"

using aq::status;
using namespace aq_test;

namespace {

using scalar_ops = aq::scalar::ops;
constexpr std::size_t most_terms = aq::scalar::packed_multiplier_steps;
static_assert(most_terms == 291);

/// Scalar's operations with one of them wrong on request: what the exact tests below have to find.
enum class fault { none, mask_forgotten, shift_of_7, halves_swapped, high_row_lost, sums_of_15_bits, signed_low_half, count };
fault active = fault::none;

struct broken_ops : scalar_ops {
    static packed_sums add_packed_products(packed_sums sum, codes low, codes high, packed_quads a) {
        for (int j = 0; j < 4; ++j) {
            const std::uint32_t pair = active == fault::halves_swapped ? std::uint32_t{low.at[j]} << 8 | high.at[j]
                                                                       : std::uint32_t{high.at[j]} << 8 | low.at[j];
            const std::uint32_t p = pair * static_cast<std::uint32_t>(a.at[j]);
            const std::uint32_t both = p | p << (active == fault::shift_of_7 ? 7 : 8);
            sum.at[j] += active == fault::mask_forgotten ? both : both & 0x00FF00FFU;
        }
        return sum;
    }
    static void add_split(i32& low, i32& high, packed_sums sum) {
        for (std::uint32_t& both : sum.at) {
            if (active == fault::high_row_lost) both &= 0xFFFFU;
            if (active == fault::sums_of_15_bits) both &= 0x7FFF7FFFU;
            if (active == fault::signed_low_half && (both & 0x8000U) != 0) low -= 0x10000;
        }
        scalar_ops::add_split(low, high, sum);
    }
};

/// A table whose ordinary W4A4 product is the packed multiplier: what tests of products are given, to compare with scalar's own.
aq::kernel_table in_place_of_gemm(const aq::kernel_table& kernels) {
    aq::kernel_table table = kernels;
    table.gemm[1][0] = kernels.gemm_packed_multiplier;
    return table;
}

/// Those that run here.
std::vector<aq::kernel_table> multipliers() {
    std::vector<aq::kernel_table> tables;
    for (const aq::kernel_table* kernels : runnable_kernels()) tables.push_back(in_place_of_gemm(*kernels));
    return tables;
}
kernel_list list_of(const std::vector<aq::kernel_table>& tables) {
    kernel_list list;
    for (const aq::kernel_table& t : tables) list.push_back(&t);
    return list;
}

/// A case for it: unsigned activations of at most 4 bits, weights of 3 or 4.
gemm_case unsigned_case(std::uint64_t seed, std::size_t limit) {
    gemm_case c = random_case(seed, limit);
    set_widths(c, 3 + static_cast<int>(seed % 4 != 0), seed % 3 == 0 ? 2 + static_cast<int>(seed % 2) : 4);
    c.is_asymmetric = true;
    return c;
}

/// Rows 0 .. 15 of the weights are the codes 0 .. 15 throughout, rows r of a the code r: y[r,j] = r j k.
std::size_t wrong_pairs(const aq::kernel_table& kernels, std::size_t k, aq::group_scales scales, std::size_t group) {
    aq::weight_format format{4, true, group};
    format.scales = scales;
    const auto row = [](std::size_t r, std::size_t) { return static_cast<int>(r % 16); };
    const manual_product p(16, 32, k, format, 4, row, row);
    const int multiplier = scales == aq::group_scales::integers ? manual_product::multiplier(4) : 1;
    const matrix y = p.product(kernels);
    std::size_t wrong = 0;
    for (std::size_t r = 0; r < 16; ++r) {
        for (std::size_t j = 0; j < 32; ++j) {
            wrong += y.at(r, j) == static_cast<float>(r * (j % 16) * k) * static_cast<float>(multiplier) ? 0 : 1;
        }
    }
    return wrong;
}

/// Both codes at their largest along the whole depth; every second row of w is 0 where `is_alternating`, so that what a sum loses
/// to its neighbour shows in both.
std::size_t wrong_extremes(const aq::kernel_table& kernels, std::size_t k, bool is_alternating) {
    const auto weight = [&](std::size_t r, std::size_t) { return is_alternating && r % 2 != 0 ? 0 : 15; };
    const manual_product p(5, 33, k, {4, true, 0}, 4, weight, [](std::size_t, std::size_t) { return 15; });
    const matrix y = p.product(kernels);
    std::size_t wrong = 0;
    for (std::size_t r = 0; r < 5; ++r) {
        const matrix one = p.product(kernels, {false, 0, {r, r + 1}, {0, p.w.panels()}});
        for (std::size_t j = 0; j < 33; ++j) {
            const float expected = static_cast<float>(weight(j, 0) * 15 * static_cast<int>(k));
            for (const matrix* m : {&y, &one}) wrong += m->at(r, j) == expected ? 0 : 1;
        }
    }
    return wrong;
}

/// Whether the cases of these tests tell `kernels` from scalar.
bool is_found(const aq::kernel_table& kernels) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        const gemm_setup setup(unsigned_case(seed, 70));
        if (setup.differing(setup.run(aq::scalar::table), kernels, setup.whole()) != 0) return true;
    }
    return wrong_extremes(kernels, 4 * most_terms + 100, false) != 0 || wrong_extremes(kernels, 4 * most_terms + 100, true) != 0;
}

/// The product of two weights and an activation by the scalar operations, both halves as a 16-bit lane holds them.
struct halves {
    int low, high;
};
halves multiplied(int low, int high, int a) {
    const auto code = [](int v) { return static_cast<std::uint8_t>(v); };
    const scalar_ops::codes l{{code(low), 0, 0, 0}}, h{{code(high), 0, 0, 0}};
    const scalar_ops::packed_sums sum = scalar_ops::add_packed_products({}, l, h, {{static_cast<std::int8_t>(a), 0, 0, 0}});
    return {static_cast<int>(sum.at[0] & 0xFFFF), static_cast<int>(sum.at[0] >> 16)};
}

}  // namespace

TEST_CASE("packed multiplier: two products of unsigned codes, whatever the neighbour") {
    std::size_t wrong = 0;
    for (int low = 0; low < 16; ++low) {
        for (int high = 0; high < 16; ++high) {
            for (int a = 0; a < 16; ++a) {
                const halves h = multiplied(low, high, a);
                wrong += h.low == low * a && h.high == high * a ? 0 : 1;
            }
        }
    }
    CHECK(wrong == 0);
}

TEST_CASE("packed multiplier: signed codes break it in nearly half of all pairs, as docs/packed-multiplier.md says") {
    struct wrong_of_256 {
        std::size_t as_stored = 0;    ///< the lower product, as the byte that the mask leaves
        std::size_t with_a_sign = 0;  ///< the upper product, if bytes are read with their sign: the lower one is right then
    };
    const auto count = [](int first_weight) {
        wrong_of_256 wrong;
        for (int w = first_weight; w < first_weight + 16; ++w) {
            for (int a = -8; a < 8; ++a) {
                constexpr int high = 3;  // any will do
                const auto p = static_cast<std::uint32_t>((high * 256 + w) * a);
                wrong.as_stored += static_cast<int>(p & 0xFFU) != w * a ? 1U : 0U;
                CHECK(static_cast<std::int8_t>(p & 0xFFU) == w * a);
                wrong.with_a_sign += static_cast<std::int8_t>(p >> 8 & 0xFFU) != high * a ? 1U : 0U;
            }
        }
        return wrong;
    };
    const wrong_of_256 both = count(-8), activations = count(0);
    CHECK(both.as_stored == 112);
    CHECK(both.with_a_sign == 112);
    CHECK(activations.as_stored == 120);
    CHECK(activations.with_a_sign == 120);
    std::size_t wrong = 0;  // the scalar operations, weights 0 .. 15 as they are stored, two at a time
    for (int i = 0; i < 16 * 256; ++i) {
        const int low = i % 16, high = i / 16 % 16, a = i / 256 - 8;
        const halves h = multiplied(low, high, a);
        wrong += h.low == low * a && h.high == high * a ? 0U : 1U;
    }
    CHECK(wrong == 8 * 255);  // wherever a is negative, but for two weights of 0
}

TEST_CASE("packed multiplier: 291 products of the largest codes fit, one more does not") {
    const scalar_ops::codes largest{{15, 15, 15, 15}};
    scalar_ops::packed_sums sum = scalar_ops::zero_packed_sums();
    const auto split = [&] {
        std::array<std::int32_t, 2> s{};
        scalar_ops::add_split(s[0], s[1], sum);
        return s;
    };
    for (std::size_t i = 1; i <= most_terms; ++i) {
        sum = scalar_ops::add_packed_products(sum, largest, largest, {{15, 15, 15, 15}});
        const auto expected = static_cast<std::int32_t>(4 * 15 * 15 * i);
        CHECK(split() == std::array<std::int32_t, 2>{expected, expected});
    }
    sum = scalar_ops::add_packed_products(sum, largest, largest, {{15, 15, 15, 15}});
    const auto expected = static_cast<std::int32_t>(4 * 15 * 15 * (most_terms + 1));
    CHECK(split()[0] == expected - 4 * 0x10000);      // gone ..
    CHECK(split()[1] == expected + 4 - 4 * 0x10000);  // .. to the neighbour
}

TEST_CASE("exact: packed multiplier, random shapes, groups, exponents, scales, pieces of y") {
    const std::vector<aq::kernel_table> tables = multipliers();
    for (std::uint64_t seed = 1; seed <= cases(3000); ++seed) {
        check_exact(list_of(tables), unsigned_case(seed, seed % 50 == 0 ? 300 : seed % 4 == 0 ? 20 : 80));
    }
}

TEST_CASE("exact: packed multiplier, edges of blocks and of the depth") {
    const std::vector<aq::kernel_table> tables = multipliers();
    std::uint64_t seed = 60000;
    for (std::size_t m : sizes{1, 2, 3, 4, 5, 6, 7, 8, 9, 17}) {
        for (std::size_t n : sizes{1, 2, 7, 8, 9, 15, 16, 17, 33}) {
            for (std::size_t k : sizes{0, 1, 3, 4, 5, 15, 16, 17, 31, 32, 33, 127, 1153}) {
                if (++seed % (slowdown < 6 ? 1 : 7) != 0) continue;
                gemm_case c = unsigned_case(seed, 1);
                c.m = m;
                c.n = n;
                c.k = k;
                if (k > 1000) c.weights.scales = aq::group_scales::floats;  // integers would leave no room for exponents
                check_exact(list_of(tables), c);
            }
        }
    }
}

TEST_CASE("exact: packed multiplier, every pair of codes") {
    for (const aq::kernel_table& kernels : multipliers()) {
        INFO(std::string(kernels.isa));
        for (std::size_t k : sizes{1, 16, 80, 1200}) {
            CHECK(wrong_pairs(kernels, k, aq::group_scales::floats, 0) == 0);
            CHECK(wrong_pairs(kernels, k, aq::group_scales::integers, 32) == 0);
        }
    }
}

TEST_CASE("exact: packed multiplier, sums at and beyond what 16 bits hold") {
    constexpr std::size_t steps = aq::portable_tile::kr, whole = most_terms * steps / aq::k_step * aq::k_step;
    for (const aq::kernel_table& kernels : multipliers()) {
        INFO(std::string(kernels.isa));
        for (std::size_t k : sizes{most_terms, most_terms + 1, whole - 1, whole, whole + 1, whole + 16, most_terms * steps,
                                   (most_terms + 1) * steps, 2 * whole, 2 * whole + 16, 3 * whole + 5}) {
            CAPTURE(k);
            CHECK(wrong_extremes(kernels, k, false) == 0);
            CHECK(wrong_extremes(kernels, k, true) == 0);
        }
    }
}

TEST_CASE("exact: packed multiplier, no byte beyond any buffer") {
    const std::vector<aq::kernel_table> tables = multipliers();
    for (std::uint64_t seed = 1; seed <= cases(200); ++seed) {
        const gemm_setup setup(unsigned_case(seed + 70000, 50));
        const outcome expected = setup.run(aq::scalar::table);
        for (const aq::kernel_table& kernels : tables) {
            INFO(std::string(kernels.isa) << ": " << text(setup.what));
            for (guard side : {guard::before, guard::after}) {
                CHECK(differing(guarded_outcome(setup, kernels, side, false), expected) == 0);
            }
        }
    }
}

TEST_CASE("faults: a broken packed multiplier is found") {
    aq::kernel_table table = aq::scalar::table;
    table.gemm[1][0] = aq::scalar::gemm_packed_multiplier<most_terms, broken_ops>;
    CHECK_FALSE(is_found(table));
    for (int f = 1; f < static_cast<int>(fault::count); ++f) {
        CAPTURE(f);
        active = static_cast<fault>(f);
        CHECK(is_found(table));
    }
    active = fault::none;
    // widened where the bound says, in whole k_steps, and one k_step later
    constexpr std::size_t in_k_step = aq::k_step / aq::portable_tile::kr, full = most_terms / in_k_step * in_k_step;
    table.gemm[1][0] = aq::scalar::gemm_packed_multiplier<full>;
    CHECK_FALSE(is_found(table));
    table.gemm[1][0] = aq::scalar::gemm_packed_multiplier<full + in_k_step>;
    CHECK(is_found(table));
}

TEST_CASE("packed multiplier: the public function has the bits of gemm, and refuses what it cannot take") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        const gemm_setup setup(unsigned_case(5, 60));
        const activation_buffer a = setup.activations(*kernels);
        CHECK(a.view.is_unsigned);
        const aq::packed_weights w = setup.weights();
        matrix y(setup.what.m, setup.what.n);
        REQUIRE(aq::gemm_packed_multiplier(*kernels, {w, a.view, y.view(), {}}) == status::ok);
        CHECK(differing(gemm_setup::collect(a.view, w.layout, y), setup.run(*kernels)) == 0);
    }
}

TEST_CASE("packed multiplier: refuses signed codes, more than 4 bits, and what gemm refuses") {
    const aq::kernel_table& kernels = aq::scalar::table;
    const auto answer = [&](int weight_bits, int activation_bits, bool is_asymmetric) {
        gemm_case c;
        c.m = 2;
        c.n = 3;
        c.k = 20;
        c.weights.bits = weight_bits;
        c.activation_bits = activation_bits;
        c.is_asymmetric = is_asymmetric;
        const gemm_setup setup(c);
        const activation_buffer a = setup.activations(kernels);
        matrix y(c.m, c.n);
        const status s = aq::gemm_packed_multiplier(kernels, {setup.weights(), a.view, y.view(), {}});
        const bool is_untouched = aq::bits_of(y.at(1, 2)) == aq::bits_of(matrix(1, 1).data[0]);
        CHECK(is_untouched == (s != status::ok));
        return s;
    };
    for (int weight_bits = 2; weight_bits <= 8; ++weight_bits) {
        for (int activation_bits = 2; activation_bits <= 8; ++activation_bits) {
            const bool is_good = (weight_bits == 3 || weight_bits == 4) && activation_bits <= 4;
            CHECK(answer(weight_bits, activation_bits, true) == (is_good ? status::ok : status::unsupported_format));
            CHECK(answer(weight_bits, activation_bits, false) == status::unsupported_format);
        }
    }
    const gemm_setup setup(unsigned_case(6, 60));
    const activation_buffer a = setup.activations(kernels);
    const aq::packed_weights w = setup.weights();
    matrix y(setup.what.m, setup.what.n), other(setup.what.m + 1, setup.what.n);
    const aq::gemm_job job{w, a.view, y.view(), {}};
    CHECK(aq::gemm_packed_multiplier(kernels, {w, a.view, other.view(), {}}) == status::bad_shape);
    CHECK(aq::gemm_packed_multiplier(kernels, job, {0, y.rows + 1}, {0, w.panels()}) == status::bad_shape);
    CHECK(aq::gemm_packed_multiplier(kernels, job, {0, y.rows}, {0, w.panels() + 1}) == status::bad_shape);
    CHECK(aq::gemm_packed_multiplier(kernels, job, {2, 1}, {0, w.panels()}) == status::bad_shape);
}

TEST_CASE("packed multiplier: codes that are said to be unsigned cannot be quantized with a sign") {
    gemm_case c = unsigned_case(7, 40);
    c.activation_bits = 4;
    const gemm_setup setup(c);
    activation_buffer a(c.m, setup.weights().layout, setup.format);
    aq::activation_format with_sign;
    with_sign.bits = 4;
    CHECK(aq::quantize_rows(aq::scalar::table, setup.x.view(), setup.weights().layout, with_sign, {0, c.m}, a.scratch.data(),
                            a.scratch.size(), a.view) == status::bad_argument);
}
