#include "agilequant/quant/coded_matrix.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <vector>

namespace {

std::vector<float> random_weights(std::size_t count, unsigned seed) {
    std::mt19937 random(seed);
    std::student_t_distribution<float> t(5.0F);
    std::vector<float> w(count);
    for (float& v : w) v = 0.03F * t(random);
    return w;
}

/// Everything about one coded matrix against the scalar quantizer applied to each group by itself.
void check_against_groups(const aq::matrix_view<const float>& w, const aq::weight_format& f, const std::uint32_t* columns,
                          const aq::coded_matrix& coded) {
    const std::size_t size = f.group == 0 ? w.cols : f.group, groups = w.cols == 0 ? 0 : (w.cols + size - 1) / size;
    REQUIRE(coded.n == w.rows);
    REQUIRE(coded.k == w.cols);
    REQUIRE(coded.groups == groups);
    int wrong = 0;
    for (std::size_t r = 0; r < w.rows; ++r) {
        for (std::size_t g = 0; g < groups; ++g) {
            std::vector<float> slice;
            for (std::size_t c = g * size; c < std::min(w.cols, (g + 1) * size); ++c) {
                slice.push_back(w.row(r)[columns == nullptr ? c : columns[c]]);
            }
            const aq::code_range codes = f.is_asymmetric ? aq::unsigned_codes(f.bits) : aq::signed_codes(f.bits);
            const aq::affine a = aq::fit(slice.data(), slice.size(), codes, f.is_asymmetric, f.range);
            const int zero = f.is_asymmetric ? a.zero : 1 << (f.bits - 1);
            wrong += coded.scales[r * groups + g] == a.scale ? 0 : 1;
            wrong += coded.zeros[r * groups + g] == zero ? 0 : 1;
            for (std::size_t i = 0; i < slice.size(); ++i) {
                const int code = aq::encode(slice[i], 1.0F / a.scale, a.zero, codes);
                const std::size_t c = g * size + i;
                wrong += coded.codes[r * w.cols + c] == code - a.zero + zero ? 0 : 1;
                wrong += coded.value(r, c) == aq::decode(code, a) ? 0 : 1;
            }
        }
    }
    CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("quantize_weights is the scalar quantizer, group by group, the last one short") {
    constexpr std::size_t rows = 3, cols = 50, stride = 53;
    const std::vector<float> data = random_weights(rows * stride, 41);
    const aq::matrix_view<const float> w(data.data(), rows, cols, stride);
    std::vector<std::uint32_t> columns(cols);
    for (std::size_t c = 0; c < cols; ++c) columns[c] = static_cast<std::uint32_t>((c * 7 + 3) % cols);
    for (int bits = 2; bits <= 8; ++bits) {
        for (const bool is_asymmetric : {false, true}) {
            for (const std::size_t group : {0U, 1U, 16U, 49U, 50U, 51U, 128U}) {
                for (const auto range : {aq::range_search::min_max, aq::range_search::mean_square}) {
                    const aq::weight_format f{bits, is_asymmetric, group, range};
                    CAPTURE(bits);
                    CAPTURE(is_asymmetric);
                    CAPTURE(group);
                    aq::coded_matrix coded;
                    REQUIRE(aq::quantize_weights(w, f, nullptr, coded) == aq::status::ok);
                    check_against_groups(w, f, nullptr, coded);
                    REQUIRE(aq::quantize_weights(w, f, columns.data(), coded) == aq::status::ok);
                    check_against_groups(w, f, columns.data(), coded);
                }
            }
        }
    }
}

TEST_CASE("symmetric codes stand around 2^(bits-1) and never use code 0") {
    const std::vector<float> data = random_weights(256, 42);
    for (int bits = 2; bits <= 8; ++bits) {
        aq::coded_matrix coded;
        REQUIRE(aq::quantize_weights({data.data(), 4, 64}, {bits, false, 16, aq::range_search::min_max}, nullptr, coded) ==
                aq::status::ok);
        CHECK(std::all_of(coded.zeros.begin(), coded.zeros.end(), [&](int z) { return z == 1 << (bits - 1); }));
        CHECK(*std::min_element(coded.codes.begin(), coded.codes.end()) >= 1);
        CHECK(*std::max_element(coded.codes.begin(), coded.codes.end()) <= (1 << bits) - 1);
    }
}

TEST_CASE("coded_matrix: zero sizes, zero weights, odd weights and refusals") {
    aq::coded_matrix coded;
    const aq::weight_format f;
    CHECK(aq::quantize_weights({nullptr, 0, 8}, f, nullptr, coded) == aq::status::ok);
    CHECK(coded.groups == 1);
    CHECK(aq::quantize_weights({nullptr, 8, 0}, f, nullptr, coded) == aq::status::ok);
    CHECK(coded.groups == 0);
    const float zeros[8] = {};
    REQUIRE(aq::quantize_weights({zeros, 2, 4}, f, nullptr, coded) == aq::status::ok);
    for (std::size_t i = 0; i < 8; ++i) CHECK(coded.value(i / 4, i % 4) == 0.0F);
    const float odd[4] = {std::numeric_limits<float>::quiet_NaN(), 1.0F, -2.0F, 0.0F};
    REQUIRE(aq::quantize_weights({odd, 1, 4}, f, nullptr, coded) == aq::status::ok);
    CHECK(coded.value(0, 0) == 0.0F);
    CHECK(coded.value(0, 3) == 0.0F);
    CHECK(coded.value(0, 2) == -2.0F);

    for (const int bits : {-1, 0, 1, 9}) {
        CHECK(aq::quantize_weights({zeros, 2, 4}, {bits, true, 0, aq::range_search::min_max}, nullptr, coded) ==
              aq::status::unsupported_format);
    }
    CHECK(aq::quantize_weights({nullptr, 2, 4}, f, nullptr, coded) == aq::status::null_pointer);
    CHECK(aq::quantize_weights({zeros, 2, 4, 3}, f, nullptr, coded) == aq::status::bad_stride);
}
