#include "agilequant/kernels/quantize.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "support/gemm_case.hpp"

using aq::status;
using namespace aq_test;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();

struct layout_owner {
    aq::k_layout layout;
    layout_owner(std::size_t k, std::size_t group, const std::vector<std::uint8_t>& exponents) {
        REQUIRE(layout.make(k, group, exponents.empty() ? nullptr : exponents.data()) == status::ok);
    }
};

/// Quantizes x [m,k] without exponents, per token, and returns what the kernel wrote.
outcome quantized(const aq::kernel_table& kernels, const std::vector<float>& x, const aq::activation_format& format,
                  const std::vector<std::uint8_t>& exponents = {}) {
    const layout_owner owner(x.size(), 0, exponents);
    const aq::k_layout_view l = owner.layout.view();
    activation_buffer a(1, l, format);
    REQUIRE(aq::quantize_rows(kernels, {x.data(), 1, x.size()}, l, format, {0, 1}, a.scratch.data(), a.scratch.size(), a.view) ==
            status::ok);
    return gemm_setup::collect(a.view, l, matrix(0, 0));
}

aq::activation_format format_of(int bits, bool asymmetric) {
    aq::activation_format f;
    f.bits = bits;
    f.is_asymmetric = asymmetric;
    return f;
}

/// Shares of a token's range: usual ones, what is too small for values to be taken as they are, and the limits.
constexpr float clips[] = {1.0F, 0.9F, 0.8F, 0.43F, 0x1p-12F, 0x1.fffffep-13F, 1e-6F, 0x1p-149F, 0x1.fffffep-1F};

/// Inputs that reach every rule: ordinary, tiny, huge, not numbers.
float awkward_value(random_source& random) {
    constexpr float awkward[] = {not_a_number, -not_a_number, infinity,  -infinity,       0.0F,      -0.0F,  0x1p-149F,
                                 -0x1p-130F,   0x1p126F,      -0x1p127F, 0x1.fffffep127F, 0x1p-124F, 1e-30F, 1e30F};
    return random.below(4) == 0 ? awkward[random.below(std::size(awkward))] : random.value();
}

}  // namespace

TEST_CASE("exact: codes, scales, zero points and sums are those of quant/uniform.hpp on x / 2^exponent") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (std::uint64_t seed = 1; seed <= 300; ++seed) {
            random_source random(seed);
            const std::size_t m = 1 + random.below(3), k = random.below(seed % 50 == 0 ? 4100 : 90), group = random.below(40);
            const aq::activation_format format = [&] {
                aq::activation_format f = format_of(random.between(2, 8), random.flip());
                f.is_static = random.below(3) == 0;
                const aq::code_range codes = aq::activation_codes(f.bits, f.is_asymmetric);
                if (f.is_static) f.fixed = aq::fit({-0.5F - random.value() * 0.1F, 1.0F}, codes, f.is_asymmetric);
                f.clip = clips[random.below(std::size(clips))];
                return f;
            }();
            std::vector<std::uint8_t> exponents(random.flip() ? k : 0);
            for (std::uint8_t& e : exponents) e = static_cast<std::uint8_t>(random.below(8));
            const bool is_awkward = random.flip();
            matrix x(m, k, random.below(5));
            for (std::size_t i = 0; i < m * k; ++i) x.at(i / k, i % k) = is_awkward ? awkward_value(random) : random.value();
            INFO(std::string(kernels->isa) << " seed " << seed << " m " << m << " k " << k << " group " << group << " bits "
                                           << format.bits);

            const layout_owner owner(k, group, exponents);
            const aq::k_layout_view l = owner.layout.view();
            activation_buffer a(m, l, format);
            REQUIRE(aq::quantize_rows(*kernels, x.view(), l, format, {0, m}, a.scratch.data(), a.scratch.size(), a.view) ==
                    status::ok);

            const aq::code_range codes = aq::activation_codes(format.bits, format.is_asymmetric);
            std::size_t wrong = 0;
            for (std::size_t r = 0; r < m; ++r) {
                std::vector<float> arranged(l.packed, 0.0F);
                for (std::size_t i = 0; i < l.run_count; ++i) {
                    for (std::size_t p = l.runs[i].begin; p < l.runs[i].end; ++p) {
                        if (l.channel(p) != aq::padding) {
                            arranged[p] = aq::made_finite(x.at(r, l.channel(p))) / static_cast<float>(1 << l.runs[i].exponent);
                        }
                    }
                }
                aq::value_range range = aq::range_of(arranged.data(), l.packed);
                volatile float end = range.low * format.clip;  // so that it is rounded
                range.low = end;
                end = range.high * format.clip;
                range.high = end;
                const aq::affine fit = format.is_static ? format.fixed : aq::fit(range, codes, format.is_asymmetric);
                wrong += aq::bits_of(a.view.scales[r]) == aq::bits_of(fit.scale) ? 0U : 1U;
                wrong += a.view.zeros[r] == fit.zero ? 0U : 1U;
                std::size_t group_index = 0;
                std::int32_t sum = 0;
                for (std::size_t i = 0; i < l.run_count; ++i) {
                    const aq::k_run run = l.runs[i];
                    for (std::size_t p = run.begin; p < run.end; ++p) {
                        const bool is_padding = l.channel(p) == aq::padding;
                        const int code = is_padding ? 0 : aq::encode(arranged[p], 1.0F / fit.scale, fit.zero, codes);
                        wrong += a.view.codes[r * a.view.stride + p] == code ? 0U : 1U;
                        sum += code * (1 << run.exponent);
                    }
                    if (!run.ends_group) continue;
                    wrong += a.view.sums[r * l.groups + group_index++] == sum ? 0U : 1U;
                    sum = 0;
                }
            }
            CHECK(wrong == 0);
        }
    }
}

TEST_CASE("numeric: per token, a value comes back within half a step of its channel") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (int bits = 2; bits <= 8; ++bits) {
            for (bool asymmetric : {false, true}) {
                random_source random(static_cast<std::uint64_t>(bits) * 2 + (asymmetric ? 1 : 0));
                std::vector<float> x(77);
                std::vector<std::uint8_t> exponents(77);
                for (std::size_t i = 0; i < 77; ++i) {
                    exponents[i] = static_cast<std::uint8_t>(i % 4);
                    x[i] = random.value() * static_cast<float>(1 << exponents[i]);
                }
                const layout_owner owner(77, 0, exponents);
                const aq::k_layout_view l = owner.layout.view();
                const outcome o = quantized(*kernels, x, format_of(bits, asymmetric), exponents);
                double worst = 0.0;
                for (std::size_t i = 0; i < l.run_count; ++i) {
                    const double step = static_cast<double>(o.scales[0]) * (1 << l.runs[i].exponent);
                    for (std::size_t p = l.runs[i].begin; p < l.runs[i].end; ++p) {
                        if (l.channel(p) == aq::padding) continue;
                        worst = std::max(
                            worst, std::fabs(step * (o.codes[p] - o.zeros[0]) - static_cast<double>(x[l.channel(p)])) / step);
                    }
                }
                CAPTURE(bits);
                CAPTURE(asymmetric);
                // Half a step, and x (1/s) has two roundings on up to 255 steps. A rounded zero point moves both ends of the range by
                // up to half a step more, where the outermost value is clipped.
                CHECK(worst <= (asymmetric ? 1.0 : 0.5) + 255 * 0x1p-23);
                CHECK(worst > 0.3);
            }
        }
    }
}

TEST_CASE("rules: what docs/numerics.md says of special inputs") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        CAPTURE(std::string(kernels->isa));
        const aq::activation_format symmetric = format_of(8, false), asymmetric = format_of(4, true);

        SUBCASE("NaN counts as zero and does not touch the scale") {
            outcome o = quantized(*kernels, {1.0F, not_a_number, -2.0F, -not_a_number}, symmetric);
            CHECK(o.scales[0] == 2.0F / 127.0F);
            CHECK((o.codes[1] == 0 && o.codes[2] == -127 && o.codes[3] == 0));
            o = quantized(*kernels, {3.0F, not_a_number, -1.0F}, asymmetric);
            CHECK(o.codes[1] == o.zeros[0]);
        }
        SUBCASE("infinity counts as 2^126 of its sign") {
            const outcome o = quantized(*kernels, {1.0F, infinity, -infinity}, symmetric);
            CHECK(o.scales[0] == 0x1p126F / 127.0F);
            CHECK((o.codes[0] == 0 && o.codes[1] == 127 && o.codes[2] == -127));
        }
        SUBCASE("a row of zeros, of either sign, has scale 1 and its zero point throughout") {
            outcome o = quantized(*kernels, {0.0F, -0.0F, 0.0F}, symmetric);
            CHECK((o.scales[0] == 1.0F && o.zeros[0] == 0 && o.codes[0] == 0 && o.codes[1] == 0));
            o = quantized(*kernels, {0.0F, -0.0F, not_a_number}, format_of(8, true));
            CHECK((o.scales[0] == 1.0F && o.zeros[0] == -127 && o.codes[0] == -127 && o.codes[1] == -127));
            CHECK(o.sums[0] == 3 * -127);
        }
        SUBCASE("a row below the smallest scale, denormals included, counts as zeros") {
            outcome o = quantized(*kernels, {0x1p-149F, -0x1p-130F, 0x1p-126F}, symmetric);
            CHECK((o.scales[0] == 1.0F && o.codes[2] == 0));
            o = quantized(*kernels, {127 * 0x1p-124F, 0x1p-126F}, symmetric);  // the smallest that counts
            CHECK((o.scales[0] == 0x1p-124F && o.codes[0] == 127 && o.codes[1] == 0));
        }
        SUBCASE("a constant row gives back its constant to within half a step, and zero exactly") {
            for (float constant : {3.5F, -0.125F, 0x1p126F, -1e-20F}) {
                for (const aq::activation_format& f : {symmetric, asymmetric, format_of(8, true), format_of(2, false)}) {
                    const outcome o = quantized(*kernels, {constant, constant, 0.0F}, f);
                    const double step = static_cast<double>(o.scales[0]);
                    CHECK(std::fabs(step * (o.codes[0] - o.zeros[0]) - static_cast<double>(constant)) <= 0.51 * step);
                    CHECK(o.codes[2] == o.zeros[0]);
                }
            }
        }
        SUBCASE("ties go to the even code") {
            const outcome o = quantized(*kernels, {127.0F, 0.5F, 1.5F, 2.5F, -0.5F, -1.5F, -2.5F}, symmetric);
            CHECK(o.scales[0] == 1.0F);
            const std::int8_t expected[] = {127, 0, 2, 2, 0, -2, -2};
            CHECK(std::memcmp(o.codes.data(), expected, sizeof expected) == 0);
        }
        SUBCASE("a clip: codes span that share of the range, and what lies beyond takes the end codes") {
            aq::activation_format f = symmetric;
            f.clip = 0.5F;
            outcome o = quantized(*kernels, {254.0F, -254.0F, 128.0F, 127.0F, 126.0F, -127.0F, 0.0F}, f);
            const std::int8_t expected[] = {127, -127, 127, 127, 126, -127, 0};
            CHECK(std::memcmp(o.codes.data(), expected, sizeof expected) == 0);
            CHECK(o.scales[0] == 1.0F);
            f = asymmetric;
            f.clip = 0.75F;
            o = quantized(*kernels, {-4.0F, 16.0F, 12.0F, -3.0F, 3.0F, not_a_number}, f);
            const std::int8_t offset[] = {0, 15, 15, 0, 6, 3};
            CHECK(std::memcmp(o.codes.data(), offset, sizeof offset) == 0);
            CHECK((o.scales[0] == 1.0F && o.zeros[0] == 3));
            f.clip = 1e-30F;  // a scale that leaves room for no other code than the ends
            o = quantized(*kernels, {-1e30F, 1e30F, 0.0F, 1e20F}, f);
            CHECK((o.codes[0] == 0 && o.codes[1] == 15 && o.codes[2] == o.zeros[0] && o.codes[3] == 15));
            f.clip = 1e-38F;  // the scale is too small: zeros, whatever there is
            o = quantized(*kernels, {-1.0F, 1.0F, infinity}, f);
            CHECK(o.scales[0] == 0x1p126F * 1e-38F / 15.0F);
            o = quantized(*kernels, {-0.01F, 0.01F}, f);
            CHECK((o.scales[0] == 1.0F && o.codes[0] == 0 && o.codes[1] == 0));
        }
        SUBCASE("static: what lies beyond the range is clipped, huge values included") {
            aq::activation_format f = symmetric;
            f.is_static = true;
            f.fixed = {0.5F, 0};
            const outcome o = quantized(*kernels, {1.0F, 1e30F, -1e30F, infinity, -infinity, not_a_number, 63.5F, -64.0F}, f);
            const std::int8_t expected[] = {2, 127, -127, 127, -127, 0, 127, -127};
            CHECK(std::memcmp(o.codes.data(), expected, sizeof expected) == 0);
            CHECK(o.scales[0] == 0.5F);
        }
    }
}

TEST_CASE("edges: rows are an odd number of cache lines apart, and zeros follow the last position") {
    for (std::size_t packed : sizes{0, 16, 32, 48, 64, 80, 1008, 1024, 4096}) {
        const std::size_t stride = aq::activation_stride(packed);
        CAPTURE(packed);
        CHECK(stride % 128 == 64);
        CHECK(stride >= packed + 48);
        CHECK(stride < packed + 48 + 2 * 64 + 64);
    }
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (std::size_t k : sizes{0, 1, 16, 17, 64, 80, 129}) {
            gemm_case c;
            c.m = 3;
            c.k = k;
            c.is_asymmetric = true;  // zero is a code like any other
            const outcome o = gemm_setup(c).run(*kernels);
            CHECK(o.tails.size() >= 3 * 48);
            CHECK(o.tails == std::vector<std::int8_t>(o.tails.size(), 0));
        }
    }
}

TEST_CASE("edges: misaligned rows, strides and sub-ranges; other rows stay as they were") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        random_source random(17);
        for (std::size_t k : sizes{1, 15, 16, 32, 33}) {
            const layout_owner owner(k, 16, {});
            const aq::k_layout_view l = owner.layout.view();
            const matrix x = random_matrix(random, 5, k);
            activation_buffer expected(5, l, {});
            REQUIRE(aq::quantize_rows(*kernels, x.view(), l, {}, {0, 5}, expected.scratch.data(), expected.scratch.size(),
                                      expected.view) == status::ok);
            for (std::size_t shift = 0; shift < 16; ++shift) {
                std::vector<float> moved(5 * (k + shift) + 16, not_a_number);
                for (std::size_t r = 0; r < 5; ++r)
                    std::memcpy(moved.data() + shift + r * (k + shift), x.data.data() + r * k, k * sizeof(float));
                activation_buffer a(5, l, {});
                REQUIRE(aq::quantize_rows(*kernels, {moved.data() + shift, 5, k, k + shift}, l, {}, {1, 4}, a.scratch.data(),
                                          a.scratch.size(), a.view) == status::ok);
                const std::size_t stride = a.view.stride;
                CHECK(std::memcmp(a.view.codes + stride, expected.view.codes + stride, 3 * stride) == 0);
                CHECK(std::memcmp(a.view.scales + 1, expected.view.scales + 1, 3 * sizeof(float)) == 0);
                CHECK(std::memcmp(a.view.sums + l.groups, expected.view.sums + l.groups, 3 * l.groups * sizeof(std::int32_t)) ==
                      0);
                for (std::size_t r : sizes{0, 4}) {
                    CHECK((aq::bits_of(a.view.scales[r]) == 0xFFFFFFFFU && a.view.zeros[r] == -1 &&
                           a.view.codes[r * stride] == -1));
                    CHECK(a.view.sums[r * l.groups] == -1);
                }
            }
        }
    }
}

TEST_CASE("quantize_rows refuses what does not fit, each with its own status, and writes nothing") {
    random_source random(5);
    const matrix x = random_matrix(random, 3, 20);
    const layout_owner owner(20, 16, {}), other(20, 5, {});
    const aq::k_layout_view l = owner.layout.view();
    activation_buffer a(3, l, {});
    struct call {
        aq::matrix_view<const float> x;
        aq::k_layout_view layout;
        aq::activation_format format;
        aq::index_range rows;
        void* scratch;
        std::size_t scratch_bytes;
        aq::activations_view out;
    };
    const call good{x.view(), l, {}, {0, 3}, a.scratch.data(), a.scratch.size(), a.view};
    const auto answer = [](const call& c) {
        return aq::quantize_rows(aq::scalar::table, c.x, c.layout, c.format, c.rows, c.scratch, c.scratch_bytes, c.out);
    };
    const auto with = [&](auto&& change) {
        call c = good;
        change(c);
        return answer(c);
    };
    CHECK(with([](call& c) { c.x.cols = 19; }) == status::bad_shape);
    CHECK(with([](call& c) { c.x.rows = 2; }) == status::bad_shape);
    CHECK(with([](call& c) { c.rows = {0, 4}; }) == status::bad_shape);
    CHECK(with([](call& c) { c.rows = {2, 1}; }) == status::bad_shape);
    CHECK(with([](call& c) { c.x.stride = 19; }) == status::bad_stride);
    CHECK(with([](call& c) { c.x.data = nullptr; }) == status::null_pointer);
    CHECK(with([&](call& c) { c.layout = other.layout.view(); }) == status::wrong_layout);
    CHECK(with([](call& c) { c.out.stride += 16; }) == status::wrong_layout);
    CHECK(with([](call& c) { --c.scratch_bytes; }) == status::scratch_too_small);
    CHECK(with([](call& c) { c.scratch = nullptr; }) == status::null_pointer);
    CHECK(with([](call& c) { c.out.codes = nullptr; }) == status::null_pointer);
    CHECK(with([](call& c) { c.out.scales = nullptr; }) == status::null_pointer);
    CHECK(with([](call& c) { c.out.zeros = nullptr; }) == status::null_pointer);
    CHECK(with([](call& c) { c.out.sums = nullptr; }) == status::null_pointer);
    for (int bits : {-1, 0, 1, 4, 9, 99})
        CHECK(with([&](call& c) { c.format.bits = bits; }) == status::bad_argument);  // out is for 8
    // a calibrated scale has to be a number that can be divided by, its zero point a code
    for (float scale : {0.0F, -1.0F, not_a_number, infinity, 0x1p-125F, 0x1p127F}) {
        CHECK(with([&](call& c) { c.format.is_static = true, c.format.fixed = {scale, 0}; }) == status::bad_argument);
    }
    for (float clip : {0.0F, -0.5F, 0x1.000002p0F, infinity, not_a_number})
        CHECK(with([&](call& c) { c.format.clip = clip; }) == status::bad_argument);
    for (int zero : {-128, 128, 2147483647, -2147483647}) {
        CHECK(with([&](call& c) { c.format.is_static = true, c.format.fixed = {1.0F, zero}; }) == status::bad_argument);
    }
    for (std::size_t i = 0; i < 3 * a.view.stride; ++i) CHECK(a.view.codes[i] == -1);
    for (std::size_t i = 0; i < 3; ++i) CHECK(aq::bits_of(a.view.scales[i]) == 0xFFFFFFFFU);
    CHECK(answer(good) == status::ok);

    // without channels there is still the zero padding behind each row
    aq::k_layout flat;
    REQUIRE(flat.make(0) == status::ok);
    activation_buffer none(2, flat.view(), {});
    none.view.codes = nullptr;
    CHECK(aq::quantize_rows(aq::scalar::table, {x.view().data, 2, 0, 20}, flat.view(), {}, {0, 2}, nullptr, 0, none.view) ==
          status::null_pointer);

    aq::activations_view out;
    CHECK(aq::place_activations(3, l, format_of(9, false), a.storage.data(), a.storage.size(), out) == status::bad_argument);
    CHECK(aq::place_activations(3, l, format_of(1, false), a.storage.data(), a.storage.size(), out) == status::bad_argument);
    CHECK(aq::place_activations(3, l, {}, a.storage.data(), a.storage.size() - 1, out) == status::scratch_too_small);
    CHECK(aq::place_activations(3, l, {}, nullptr, a.storage.size(), out) == status::null_pointer);
    CHECK(aq::place_activations(0, l, {}, nullptr, 0, out) == status::ok);
    CHECK(aq::quantize_rows(aq::scalar::table, {nullptr, 0, 20}, l, {}, {0, 0}, a.scratch.data(), a.scratch.size(), out) ==
          status::ok);
}
