#include "agilequant/quant/trip.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "agilequant/dispatch/dispatch.hpp"
#include "agilequant/kernels/quantize.hpp"
#include "agilequant/quant/all.hpp"

namespace {

std::vector<float> normal_values(unsigned seed, std::size_t count, float size) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.3F, 1.0F);
    std::vector<float> x(count);
    for (float& v : x) v = size * normal(random);
    return x;
}

/// The paper's search, written out in double: mean square error with clip and zero point, first of the least.
int oracle_exponent(const std::vector<float>& x, aq::affine a, aq::code_range codes, int top) {
    int best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (int k = 0; k <= top; ++k) {
        double sum = 0.0;
        for (const float v : x) {
            const float inverse = 1.0F / a.scale;
            const double steps = std::nearbyint(static_cast<double>(std::ldexp(v, -k) * inverse)) + a.zero;
            const double q = std::min(std::max(steps, static_cast<double>(codes.low)), static_cast<double>(codes.high));
            const auto decoded =
                std::ldexp(static_cast<double>(static_cast<float>(static_cast<double>(a.scale) * (q - a.zero))), k);
            sum += (static_cast<double>(v) - decoded) * (static_cast<double>(v) - decoded);
        }
        if (sum < least) {
            least = sum;
            best = k;
        }
    }
    return best;
}

}  // namespace

TEST_CASE("K = 0 is the uniform quantizer, code for code") {
    for (int width = 2; width <= 8; ++width) {
        for (const bool is_asymmetric : {false, true}) {
            const aq::code_range codes = aq::activation_codes(width, is_asymmetric);
            const std::vector<float> x = normal_values(51, 400, 3.0F);
            const aq::value_range r = aq::range_of(x.data(), x.size() / 2);  // the other half may be clipped
            const aq::affine uniform = aq::fit(r, codes, is_asymmetric), trip = aq::fit_trip(r, codes, is_asymmetric, 0);
            CHECK(uniform.scale == trip.scale);
            CHECK(uniform.zero == trip.zero);
            int different = 0;
            for (const float v : x) {
                const int code = aq::encode(v, 1.0F / uniform.scale, uniform.zero, codes);
                different += aq::encode_trip(v, 1.0F / trip.scale, trip.zero, 0, codes) == code ? 0 : 1;
                different += aq::bits_of(aq::decode_trip(code, trip, 0)) == aq::bits_of(aq::decode(code, uniform)) ? 0 : 1;
            }
            CHECK(different == 0);
            CHECK(aq::least_error_exponent(x.data(), x.size(), 1, trip, codes, 0) == 0);
        }
    }
}

TEST_CASE("the scale is s_K / 2^K, the zero point that of s_K, and exponent K is the tensor's uniform quantizer") {
    for (int width = 2; width <= 8; ++width) {
        for (const bool is_asymmetric : {false, true}) {
            for (int top = 0; top <= aq::max_trip_exponent; ++top) {
                const aq::code_range codes = aq::activation_codes(width, is_asymmetric);
                const std::vector<float> x = normal_values(52, 200, 7.0F);
                const aq::value_range r = aq::range_of(x.data(), x.size());
                const aq::affine whole = aq::fit(r, codes, is_asymmetric), a = aq::fit_trip(r, codes, is_asymmetric, top);
                CHECK(a.scale == std::ldexp(whole.scale, -top));
                CHECK(a.zero == whole.zero);
                int different = 0;
                for (const float v : x) {
                    const int code = aq::encode(v, 1.0F / whole.scale, whole.zero, codes);
                    different += aq::encode_trip(v, 1.0F / a.scale, a.zero, top, codes) == code ? 0 : 1;
                    different += aq::decode_trip(code, a, top) == aq::decode(code, whole) ? 0 : 1;
                }
                CHECK(different == 0);
            }
        }
    }
}

TEST_CASE_TEMPLATE_DEFINE("trip: a value within a channel's range is at most half a step away", Q, trip_accuracy) {
    const aq::affine a = Q::fit({-30.0F, 50.0F});
    std::mt19937 random(53);
    for (int exponent = 0; exponent <= Q::top_exponent; ++exponent) {
        const double step = std::ldexp(static_cast<double>(a.scale), exponent);
        const double low = step * (Q::codes.low - a.zero), high = step * (Q::codes.high - a.zero);
        std::uniform_real_distribution<float> inside(static_cast<float>(low), static_cast<float>(high));
        for (int i = 0; i < 300; ++i) {
            const float v = inside(random);
            const int code = Q::encode(v, a, exponent);
            // the slack is that of uniform_test.cpp: four roundings of at most 255 steps, twice
            CHECK(std::fabs(static_cast<double>(v) - static_cast<double>(Q::decode(code, a, exponent))) <=
                  step * (0.5 + 8 * 255 * 0x1p-24));
        }
        CHECK(Q::encode(static_cast<float>(4 * high), a, exponent) == Q::codes.high);
        CHECK(Q::encode(static_cast<float>(4 * low), a, exponent) == Q::codes.low);
        for (int code = Q::codes.low; code <= Q::codes.high; ++code) {
            CHECK(Q::encode(Q::decode(code, a, exponent), a, exponent) == code);
            CHECK(static_cast<double>(Q::decode(code, a, exponent)) ==
                  static_cast<double>(static_cast<float>(step * (code - a.zero))));
        }
    }
}
TEST_CASE_TEMPLATE_APPLY(trip_accuracy, aq::quant::trips);

TEST_CASE("the exponent is the first argmin of the squared error, strides included") {
    std::mt19937 random(54);
    int seen[aq::max_trip_exponent + 1] = {};
    for (int round = 0; round < 300; ++round) {
        const int width = 2 + static_cast<int>(random() % 7), top = static_cast<int>(random() % (aq::max_trip_exponent + 1));
        const bool is_asymmetric = random() % 2 == 0;
        const aq::code_range codes = aq::activation_codes(width, is_asymmetric);
        const aq::affine a = aq::fit_trip({-40.0F, 100.0F}, codes, is_asymmetric, top);
        const std::vector<float> x =
            normal_values(static_cast<unsigned>(round), 60, std::ldexp(30.0F, -static_cast<int>(random() % 8)));
        std::vector<float> spread(x.size() * 3, 1e9F);
        for (std::size_t i = 0; i < x.size(); ++i) spread[3 * i] = x[i];
        const int expected = oracle_exponent(x, a, codes, top);
        ++seen[expected];
        CHECK(aq::least_error_exponent(spread.data(), x.size(), 3, a, codes, top) == expected);
    }
    for (const int times : seen) CHECK(times > 0);
    const float zeros[8] = {};
    const aq::code_range codes = aq::activation_codes(4, true);
    CHECK(aq::least_error_exponent(zeros, 8, 1, aq::fit_trip({-1.0F, 1.0F}, codes, true, 3), codes, 3) ==
          0);  // all are equal: the first
    CHECK(aq::least_error_exponent(nullptr, 0, 1, aq::affine{}, codes, 3) == 0);
}

TEST_CASE("the exponent of a statistic is a rounded logarithm") {
    std::mt19937 random(55);
    std::uniform_real_distribution<double> log_ratio(-12.0, 0.0);
    for (int top = 0; top <= aq::max_trip_exponent; ++top) {
        for (int i = 0; i < 2000; ++i) {
            const double largest = std::exp2(log_ratio(random)) * 100.0, b = largest * std::exp2(log_ratio(random));
            const double expected = std::nearbyint(std::log2(b / (largest / std::exp2(top))));
            CHECK(aq::statistic_exponent(b, largest, top) ==
                  static_cast<int>(std::min(std::max(expected, 0.0), static_cast<double>(top))));
        }
        CHECK(aq::statistic_exponent(5.0, 5.0, top) == top);
        CHECK(aq::statistic_exponent(0.0, 5.0, top) == 0);
        CHECK(aq::statistic_exponent(0.0, 0.0, top) == 0);
    }
    CHECK(aq::statistic_exponent(0.70, 1.0, 3) == 2);  // the boundary is at sqrt(1/2)
    CHECK(aq::statistic_exponent(0.71, 1.0, 3) == 3);
}

TEST_CASE("trip: NaN, infinities, huge and vanishing tensors") {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const aq::code_range codes = aq::activation_codes(4, true);
    for (int top = 0; top <= aq::max_trip_exponent; ++top) {
        for (const float size : {0.0F, 1e-45F, 0x1p-126F, 0x1p-120F, 1.0F, std::numeric_limits<float>::max(), infinity}) {
            const float extremes[] = {-size, size};
            const aq::affine a = aq::fit_trip(aq::range_of(extremes, 2), codes, true, top);
            CHECK(std::isnormal(a.scale));
            CHECK(std::isnormal(1.0F / a.scale));
            for (int exponent = 0; exponent <= top; ++exponent) {
                CHECK(aq::encode_trip(std::nanf(""), 1.0F / a.scale, a.zero, exponent, codes) == a.zero);
                for (const float sign : {-1.0F, 1.0F}) {  // infinities are as good as the largest value
                    CHECK(aq::encode_trip(sign * infinity, 1.0F / a.scale, a.zero, exponent, codes) ==
                          aq::encode_trip(sign * aq::largest_value, 1.0F / a.scale, a.zero, exponent, codes));
                }
                CHECK(std::isfinite(aq::decode_trip(codes.high, a, exponent)));
                CHECK(aq::decode_trip(a.zero, a, exponent) == 0.0F);
            }
        }
    }
    CHECK(aq::fit_trip({}, codes, true, 3).scale == 1.0F);
}

TEST_CASE("the kernels quantize as this header says, static and for each token") {
    constexpr std::size_t rows = 5, k = 70;
    const std::vector<float> x = normal_values(56, rows * k, 4.0F);
    std::vector<std::uint8_t> exponents(k);
    for (std::size_t c = 0; c < k; ++c) exponents[c] = static_cast<std::uint8_t>(c * 5 % 7);
    aq::k_layout layout;
    REQUIRE(layout.make(k, 32, exponents.data()) == aq::status::ok);
    const aq::k_layout_view l = layout.view();
    const aq::kernel_table* kernels = nullptr;
    REQUIRE(aq::choose_kernels(kernels) == aq::status::ok);
    for (int width = 2; width <= 8; ++width) {
        for (const bool is_asymmetric : {false, true}) {
            for (const bool is_static : {false, true}) {
                const aq::code_range codes = aq::activation_codes(width, is_asymmetric);
                const aq::activation_format f{width, is_asymmetric, is_static,
                                              aq::fit_trip({-5.0F, 9.0F}, codes, is_asymmetric, 6)};
                aq::aligned_buffer<std::byte> storage, scratch;
                REQUIRE(storage.reset(aq::activation_bytes(rows, l)) == aq::status::ok);
                REQUIRE(scratch.reset(aq::quantize_scratch_bytes(l)) == aq::status::ok);
                aq::activations_view a;
                REQUIRE(aq::place_activations(rows, l, f, storage.data(), storage.size(), a) == aq::status::ok);
                REQUIRE(aq::quantize_rows(*kernels, {x.data(), rows, k}, l, f, {0, rows}, scratch.data(), scratch.size(), a) ==
                        aq::status::ok);
                int wrong = 0;
                for (std::size_t r = 0; r < rows; ++r) {
                    aq::value_range range;
                    for (std::size_t c = 0; c < k; ++c) range = aq::including(range, std::ldexp(x[r * k + c], -exponents[c]));
                    const aq::affine expected = is_static ? f.fixed : aq::fit(range, codes, is_asymmetric);
                    wrong += a.scales[r] == expected.scale && a.zeros[r] == expected.zero ? 0 : 1;
                    for (std::size_t p = 0; p < l.packed; ++p) {
                        const std::uint32_t c = l.channel(p);
                        if (c == aq::padding) continue;
                        wrong += a.codes[r * a.stride + p] ==
                                         aq::encode_trip(x[r * k + c], 1.0F / expected.scale, expected.zero, exponents[c], codes)
                                     ? 0
                                     : 1;
                    }
                }
                CHECK(wrong == 0);
            }
        }
    }
}

TEST_CASE("fold: powers of two in the weights instead of the activations, exactly") {
    constexpr std::size_t n = 4, k = 24, m = 3;
    const std::vector<float> x = normal_values(57, m * k, 2.0F), w = normal_values(58, n * k, 0.1F);
    std::vector<std::uint8_t> exponents(k);
    for (std::size_t c = 0; c < k; ++c) exponents[c] = static_cast<std::uint8_t>(c % 7);
    std::vector<float> folded_w(w), folded_x(x);
    REQUIRE(aq::fold_into_weights({folded_w.data(), n, k}, exponents.data()) == aq::status::ok);
    REQUIRE(aq::fold_into_activations({folded_x.data(), m, k}, exponents.data()) == aq::status::ok);
    using q = aq::trip<4, 6>;
    const aq::affine a = q::fit(aq::range_of(x.data(), x.size()));
    for (std::size_t t = 0; t < m; ++t) {
        for (std::size_t r = 0; r < n; ++r) {
            double with_exponents = 0.0, folded = 0.0;
            for (std::size_t c = 0; c < k; ++c) {
                const int code = q::encode(x[t * k + c], a, exponents[c]);
                CHECK(q::encode(folded_x[t * k + c], a) == code);
                with_exponents +=
                    std::ldexp(static_cast<double>((code - a.zero)) * static_cast<double>(w[r * k + c]), exponents[c]);
                folded += static_cast<double>(code - a.zero) * static_cast<double>(folded_w[r * k + c]);
            }
            CHECK(with_exponents == folded);
        }
    }
    REQUIRE(aq::fold_into_activations({folded_w.data(), n, k}, exponents.data()) == aq::status::ok);
    CHECK(folded_w == w);

    float one[2] = {1.0F, 1.0F};
    const std::uint8_t too_large[2] = {3, 7};
    CHECK(aq::fold_into_weights({one, 1, 2}, too_large) == aq::status::bad_argument);
    CHECK(aq::fold_into_weights({one, 1, 2}, nullptr) == aq::status::null_pointer);
    CHECK(aq::fold_into_weights({one, 1, 2, 1}, too_large) == aq::status::bad_stride);
    CHECK(aq::fold_into_weights({nullptr, 0, 2}, nullptr) == aq::status::ok);
    CHECK(one[0] == 1.0F);
}
