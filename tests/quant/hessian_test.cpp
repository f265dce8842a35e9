#include "agilequant/quant/hessian.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "support/random.hpp"
#include "support/status_text.hpp"

using aq::status;
using aq_test::matrix;
using aq_test::random_source;
using aq_test::sizes;

namespace {

/// How many elements of H differ from sums made one after the other in double.
int wrong_sums(const aq::hessian& h, const matrix& x) {
    int wrong = 0;
    for (std::size_t i = 0; i < x.cols; ++i) {
        for (std::size_t j = 0; j < x.cols; ++j) {
            double sum = 0.0;
            for (std::size_t r = 0; r < x.rows; ++r) sum += static_cast<double>(x.at(r, i)) * static_cast<double>(x.at(r, j));
            wrong += h(i, j) == sum ? 0 : 1;
        }
    }
    return wrong;
}

}  // namespace

TEST_CASE("a Hessian is the sum of x x^T row by row, however rows are cut into calls and channels into ranges") {
    random_source random(71);
    for (const std::size_t k : sizes{1, 2, 63, 64, 65, 131}) {
        for (const std::size_t rows : sizes{0, 1, 15, 16, 17, 61}) {
            CAPTURE(k);
            CAPTURE(rows);
            matrix x = random_matrix(random, rows, k, 3);
            for (std::size_t r = 0; r < rows; ++r)
                for (std::size_t c = 0; c < k; c += 3) x.at(r, c) *= 1.0F + 0x1p-20F * static_cast<float>(random.below(1U << 20));
            aq::hessian whole, pieces;
            REQUIRE(whole.reset(k) == status::ok);
            REQUIRE(whole.add(x.view()) == status::ok);
            CHECK(wrong_sums(whole, x) == 0);
            CHECK(whole.rows() == rows);
            REQUIRE(pieces.reset(7) == status::ok);
            REQUIRE(pieces.reset(k) == status::ok);
            const matrix other = random_matrix(random, 5, k);
            REQUIRE(pieces.add(other.view()) == status::ok);
            REQUIRE(pieces.reset(k) == status::ok);  // nothing of an earlier use is left
            for (std::size_t first = 0; first < rows;) {
                const std::size_t count = 1 + random.below(rows - first), cut = random.below(k + 1);
                const auto some = x.view().rows_from(first, count);
                REQUIRE(pieces.add(some, cut, k) == status::ok);
                REQUIRE(pieces.add(some, 0, cut) == status::ok);
                if (cut == 0) CHECK(pieces.rows() == first + count);
                first += count;
            }
            CHECK(pieces.rows() == rows);
            CHECK(wrong_sums(pieces, x) == 0);
        }
    }
}

TEST_CASE("d H d^T is the squared output, and the error of codes that of their difference") {
    random_source random(72);
    constexpr std::size_t rows = 40, n = 6, k = 37;
    const matrix x = random_matrix(random, rows, k), w = random_matrix(random, n, k, 2);
    aq::hessian h;
    REQUIRE(h.reset(k) == status::ok);
    REQUIRE(h.add(x.view()) == status::ok);
    std::vector<std::uint32_t> columns(k);
    for (std::size_t i = 0; i < k; ++i) columns[i] = static_cast<std::uint32_t>((i * 5 + 2) % k);
    aq::coded_matrix coded;
    REQUIRE(aq::quantize_weights(w.view(), {3, true, 16}, columns.data(), coded) == status::ok);
    aq::output_error e;
    REQUIRE(aq::measure_output(h, w.view(), coded, columns.data(), e) == status::ok);
    double error = 0.0, energy = 0.0;
    for (std::size_t r = 0; r < n; ++r) {
        for (std::size_t t = 0; t < rows; ++t) {
            double difference = 0.0, output = 0.0;
            for (std::size_t i = 0; i < k; ++i) {
                const double v = static_cast<double>(x.at(t, columns[i])), exact = static_cast<double>(w.at(r, columns[i]));
                difference += v * (exact - static_cast<double>(coded.value(r, i)));
                output += v * exact;
            }
            error += difference * difference;
            energy += output * output;
        }
    }
    // Both ways are sums of products in double: k (k + rows) n of them at most follow each other, each off by half a unit in the last place of
    // sums whose parts cancel no more than the sizes of their parts allow.
    constexpr double units = static_cast<double>(k * (k + rows) * n) * 0x1p-53;
    CHECK(std::fabs(e.energy - energy) < 64 * units * energy);
    CHECK(std::fabs(e.error - error) < 64 * units * error);
    CHECK(64 * units < 1e-9);
}

TEST_CASE("forms side by side have the bits of each alone, and nothing is shared between them") {
    random_source random(73);
    constexpr std::size_t step = aq::hessian::form_count;
    for (const std::size_t k : sizes{0, 1, 2, 7, 8, 9, 65}) {
        const matrix x = random_matrix(random, 30, k);
        aq::hessian h;
        REQUIRE(h.reset(k) == status::ok);
        REQUIRE(h.add(x.view()) == status::ok);
        std::vector<double> d(k * step), one(k);
        for (double& v : d) v = static_cast<double>(random.value()) / 3.0;  // all bits of a double
        double out[step];
        h.forms(d.data(), out);
        for (std::size_t i = 0; i < step; ++i) {
            for (std::size_t c = 0; c < k; ++c) one[c] = d[c * step + i];
            CHECK(out[i] == h.form(one.data()));
        }
    }
}

TEST_CASE("hessian: odd values, sizes of zero and refusals") {
    aq::hessian h;
    CHECK(h.channels() == 0);
    CHECK(h.add({nullptr, 0, 0}) == status::ok);
    REQUIRE(h.reset(0) == status::ok);
    CHECK(h.add({nullptr, 3, 0}) == status::ok);
    CHECK(h.form(nullptr) == 0.0);
    REQUIRE(h.reset(3) == status::ok);
    CHECK(h.add({nullptr, 0, 3}) == status::ok);
    CHECK(h.rows() == 0);
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const float odd[3] = {std::numeric_limits<float>::quiet_NaN(), -infinity, 2.0F};
    REQUIRE(h.add({odd, 1, 3}) == status::ok);
    CHECK(h(0, 0) == 0.0);
    CHECK(h(0, 1) == 0.0);
    CHECK(h(1, 1) == 0x1p252);
    CHECK(h(2, 1) == -0x1p127);
    CHECK(h(1, 2) == -0x1p127);
    CHECK(h.add({odd, 1, 2}) == status::bad_shape);
    CHECK(h.add({odd, 1, 3, 2}) == status::bad_stride);
    CHECK(h.add({nullptr, 1, 3}) == status::null_pointer);
    CHECK(h.add({odd, 1, 3}, 2, 1) == status::bad_shape);
    CHECK(h.add({odd, 1, 3}, 0, 4) == status::bad_shape);
    CHECK(h.rows() == 1);
    CHECK(h.reset(std::size_t{1} << 33) == status::out_of_memory);
    CHECK(h.channels() == 0);

    aq::coded_matrix coded;
    const float w[6] = {};
    aq::output_error e;
    REQUIRE(h.reset(3) == status::ok);
    REQUIRE(aq::quantize_weights({w, 2, 3}, {}, nullptr, coded) == status::ok);
    CHECK(aq::measure_output(h, {w, 2, 3}, coded, nullptr, e) == status::ok);
    CHECK(aq::measure_output(h, {w, 1, 3}, coded, nullptr, e) == status::bad_shape);
    CHECK(aq::measure_output(h, {w, 2, 2}, coded, nullptr, e) == status::bad_shape);
    CHECK(aq::measure_output(h, {nullptr, 2, 3}, coded, nullptr, e) == status::null_pointer);
    CHECK(aq::measure_output(h, {w, 2, 3, 1}, coded, nullptr, e) == status::bad_stride);
}
