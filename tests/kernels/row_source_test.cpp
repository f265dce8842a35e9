// Rows that are computed on the way: the bits of elementwise/ on every instruction set, as floats and as codes.
#include "agilequant/kernels/row_source.hpp"

#include <doctest/doctest.h>

#include "agilequant/kernels/quantized_rows.hpp"
#include "support/effort.hpp"
#include "support/source_case.hpp"

using aq::row_source;
using aq::row_stage;
using aq::status;
using namespace aq_test;

namespace {

/// What quantizing leaves, with every byte of it.
outcome codes_of(const aq::activations_view& a, const aq::k_layout_view& l) { return gemm_setup::collect(a, l, matrix(0, 0)); }

/// The codes of a source by `kernels`, whose scratch touches a guard page.
outcome quantized(const aq::kernel_table& kernels, const row_source& source, const aq::k_layout_view& l,
                  const aq::activation_format& format, guard side) {
    const std::size_t bytes = aq::quantize_scratch_bytes(l, source.stage);
    guarded<std::byte> scratch(bytes, side);
    activation_buffer a(source.x.rows, l, format);
    REQUIRE(aq::quantize_rows(kernels, source, l, format, {0, source.x.rows}, scratch.data(), bytes, a.view) == status::ok);
    return codes_of(a.view, l);
}

aq::activation_format random_format(random_source& random) {
    aq::activation_format f;
    f.bits = random.between(2, 8);
    f.is_asymmetric = random.flip();
    f.is_static = random.below(3) == 0;
    f.clip = random.flip() ? 1.0F : 0.9F;
    if (f.is_static) f.fixed = aq::fit({-3.0F, 2.0F}, aq::activation_codes(f.bits, f.is_asymmetric), f.is_asymmetric);
    return f;
}

}  // namespace

TEST_CASE("exact: rows as floats are those of elementwise/, between guard pages") {
    for (std::uint64_t seed = 1; seed <= cases(2000); ++seed) {
        for (guard side : {guard::before, guard::after}) {
            const source_case c(seed, side);
            const std::vector<float> expected = c.defined();
            for (const aq::kernel_table* kernels : runnable_kernels()) {
                INFO(std::string(kernels->isa) << " seed " << seed << ": " << text(c));
                CHECK(same_bits(c.written(*kernels, side), expected));
            }
        }
    }
}

TEST_CASE("exact: codes are those of the rows of elementwise/, in any layout and format") {
    std::size_t moved = 0, plain = 0;
    for (std::uint64_t seed = 1; seed <= cases(2000); ++seed) {
        const source_case c(seed);
        random_source random(seed);
        std::vector<std::uint8_t> exponents(random.flip() ? c.k : 0);
        for (std::uint8_t& e : exponents) e = static_cast<std::uint8_t>(random.below(8));
        aq::k_layout layout;
        REQUIRE(layout.make(c.k, random.flip() ? 16 : random.below(40), exponents.empty() ? nullptr : exponents.data()) ==
                status::ok);
        const aq::k_layout_view l = layout.view();
        ++(l.order == nullptr ? plain : moved);
        const aq::activation_format format = random_format(random);
        const std::vector<float> rows = c.defined();
        const outcome expected =
            quantized(aq::scalar::table, row_source::plain({rows.data(), c.m, c.k}), l, format, guard::after);
        for (const aq::kernel_table* kernels : runnable_kernels()) {
            for (guard side : {guard::before, guard::after}) {
                INFO(std::string(kernels->isa) << " seed " << seed << ": " << text(c) << " bits " << format.bits);
                CHECK(differing(quantized(*kernels, c.source(), l, format, side), expected) == 0);
            }
        }
    }
    CHECK(plain > 1);
    CHECK(moved > 1);
}

TEST_CASE("exact: gate and activations at floats of every exponent, and around the bounds of e^x") {
    std::vector<float> x;
    const std::uint64_t step = slowdown > 1 ? 65521 : 4093;  // primes: all low bits come by
    for (std::uint64_t word = 0; word < std::uint64_t{1} << 32; word += step)
        x.push_back(aq::float_of(static_cast<std::uint32_t>(word)));
    // GELU's sigmoid comes to the bounds at 10.061 and 10
    for (const float bound : {88.7228317F, 87.33654F, 88.0F, 17.0F, 10.061F, 10.0F, 0.0F, 0x1p126F}) {
        for (int i = -2000; i <= 2000; ++i) {
            const float near =
                aq::float_of(static_cast<std::uint32_t>(static_cast<int>(aq::bits_of(bound)) + (bound > 0 ? i : i + 2000)));
            x.insert(x.end(), {near, -near});
        }
    }
    const std::vector<float> ups(x.size(), 1.0F);
    std::vector<float> gated(x.size()), rectified(x.size()), gelu(x.size()), actual(x.size());
    aq::silu_gate<definition>(x.data(), ups.data(), x.size(), gated.data());
    aq::relu<definition>(x.data(), x.size(), rectified.data());
    aq::gelu<definition>(x.data(), x.size(), gelu.data());
    const aq::matrix_view<const float> view(x.data(), 1, x.size());
    const std::pair<row_source, const std::vector<float>*> sources[] = {
        {row_source::silu_gate(view, {ups.data(), 1, ups.size()}), &gated},
        {row_source::relu(view), &rectified},
        {row_source::gelu(view), &gelu},
    };
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (const auto& s : sources) {
            CAPTURE(std::string(kernels->isa));
            CAPTURE(static_cast<int>(s.first.stage));
            REQUIRE(aq::write_rows(*kernels, s.first, {0, 1}, {actual.data(), 1, x.size()}) == status::ok);
            CHECK(same_bits(actual, *s.second));
        }
    }
}

TEST_CASE("edges: rows in place, and only those asked for") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (std::uint64_t seed = 1; seed <= 60; ++seed) {
            const source_case c(seed);
            const std::vector<float> expected = c.defined();
            row_source s = c.source();
            matrix y(c.m, c.k, 3);
            for (std::size_t r = 0; r < c.m; ++r) std::copy(s.x.row(r), s.x.row(r) + c.k, y.view().row(r));
            const matrix before = y;
            s.x = std::as_const(y).view();
            const aq::index_range some{c.m / 3, c.m - c.m / 3};
            INFO(std::string(kernels->isa) << " seed " << seed << ": " << text(c));
            REQUIRE(aq::write_rows(*kernels, s, some, y.view()) == status::ok);
            for (std::size_t r = 0; r < c.m; ++r) {
                const bool is_asked = r >= some.begin && r < some.end;
                for (std::size_t i = 0; i < c.k; ++i)
                    CHECK(bits(y.at(r, i)) == bits(is_asked ? expected[r * c.k + i] : before.at(r, i)));
                for (std::size_t i = c.k; i < y.stride; ++i)
                    CHECK(aq::bits_of(y.data[r * y.stride + i]) == aq::bits_of(before.data[r * y.stride + i]));
            }
        }
    }
}

TEST_CASE("sources that do not fit are refused, with the statuses of elementwise/") {
    std::vector<float> x(6, 1.0F), gain(3, 1.0F), y(6, 7.0F);
    const aq::matrix_view<float> view(x.data(), 2, 3), out(y.data(), 2, 3);
    const auto answer = [&](const row_source& s, aq::index_range rows = {0, 2}) {
        const status written = aq::write_rows(aq::scalar::table, s, rows, out);
        aq::k_layout layout;
        REQUIRE(layout.make(3) == status::ok);
        activation_buffer a(2, layout.view(), {});
        std::vector<float> scratch(64);
        const status coded = aq::quantize_rows(aq::scalar::table, s, layout.view(), {}, rows, scratch.data(),
                                               scratch.size() * sizeof(float), a.view);
        CHECK(coded == written);
        return written;
    };
    CHECK(answer(row_source::rms_norm(view, nullptr, 1e-5F)) == status::null_pointer);
    CHECK(answer(row_source::layer_norm(view, gain.data(), nullptr, 1e-5F)) == status::null_pointer);
    CHECK(answer(row_source::rms_norm(view, gain.data(), -1.0F)) == status::bad_argument);
    CHECK(answer(row_source::layer_norm(view, gain.data(), gain.data(), quiet_nan)) == status::bad_argument);
    CHECK(answer(row_source::silu_gate({x.data(), 2, 2}, view)) == status::bad_shape);
    CHECK(answer(row_source::silu_gate({x.data(), 2, 3, 2}, view)) == status::bad_stride);
    CHECK(answer(row_source::silu_gate({nullptr, 2, 3}, view)) == status::null_pointer);
    CHECK(answer(row_source::plain({nullptr, 2, 3})) == status::null_pointer);
    CHECK(answer(row_source::plain(view), {0, 3}) == status::bad_shape);
    CHECK(answer(row_source::plain(view), {2, 1}) == status::bad_shape);
    CHECK(y == std::vector<float>(6, 7.0F));
    CHECK(aq::write_rows(aq::scalar::table, row_source::plain(view), {0, 2}, {y.data(), 3, 2}) == status::bad_shape);
    CHECK(aq::write_rows(aq::scalar::table, row_source::plain(view), {0, 2}, {nullptr, 2, 3}) == status::null_pointer);

    // a computed row needs scratch, and says how much
    aq::k_layout layout;
    REQUIRE(layout.make(3, 2) == status::ok);
    const aq::k_layout_view l = layout.view();
    CHECK(aq::quantize_scratch_bytes(l, row_stage::rms_norm) == aq::quantize_scratch_bytes(l) + 64);
    activation_buffer a(2, l, {});
    const row_source normed = row_source::rms_norm(view, gain.data(), 1e-5F);
    std::vector<std::byte> scratch(aq::quantize_scratch_bytes(l, row_stage::rms_norm));
    CHECK(aq::quantize_rows(aq::scalar::table, normed, l, {}, {0, 2}, scratch.data(), scratch.size() - 1, a.view) ==
          status::scratch_too_small);
    CHECK(aq::quantize_rows(aq::scalar::table, normed, l, {}, {0, 2}, nullptr, scratch.size(), a.view) == status::null_pointer);
}

TEST_CASE("rows without channels, and no rows") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (const row_stage stage : row_stages) {
            row_source s;
            s.stage = stage;
            s.x = s.gate = {nullptr, 3, 0};
            CHECK(aq::write_rows(*kernels, s, {0, 3}, {nullptr, 3, 0}) == status::ok);
            aq::k_layout layout;
            REQUIRE(layout.make(0) == status::ok);
            activation_buffer a(3, layout.view(), {});
            REQUIRE(aq::quantize_rows(*kernels, s, layout.view(), {}, {0, 3}, nullptr, 0, a.view) == status::ok);
            for (std::size_t r = 0; r < 3; ++r) CHECK((a.view.scales[r] == 1.0F && a.view.zeros[r] == 0));
            s.x = s.gate = {nullptr, 0, 5};
            CHECK(aq::write_rows(*kernels, s, {0, 0}, {nullptr, 0, 5}) == status::ok);
        }
    }
}
