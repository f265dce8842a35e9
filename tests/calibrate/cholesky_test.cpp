#include "calibrate/cholesky.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "support/plain_gptq.hpp"
#include "support/status_text.hpp"

using aq::status;
using namespace aq_test;

namespace {

/// H of an accumulator, all of it, rows `stride` apart.
std::vector<double> full(const aq::hessian& h, std::size_t stride, double damping) {
    std::vector<double> result(h.channels() * stride, std::nan(""));
    for (std::size_t i = 0; i < h.channels(); ++i)
        for (std::size_t j = 0; j < h.channels(); ++j) result[i * stride + j] = h(i, j) + (i == j ? damping : 0.0);
    return result;
}

status factor(aq::matrix_view<double> h) {
    const aq::inverse_cholesky eigen = aq::example::eigen_cholesky();
    return eigen.factor(eigen.self, h);
}

}  // namespace

TEST_CASE("Eigen's factor of the inverse is the plain one") {
    random_source random(91);
    for (const std::size_t k : sizes{1, 2, 7, 64, 131}) {
        for (const std::size_t gap : sizes{0, 3}) {
            CAPTURE(k);
            const aq::hessian h = hessian_of(correlated_rows(random, 4 * k, k));
            double mean = 0.0;
            for (std::size_t i = 0; i < k; ++i) mean += h(i, i) / static_cast<double>(k);
            std::vector<double> ours = full(h, k + gap, 0.01 * mean), plain = full(h, k, 0.01 * mean);
            REQUIRE(factor({ours.data(), k, k, k + gap}) == status::ok);
            REQUIRE(plain_factor(nullptr, {plain.data(), k, k}) == status::ok);
            double largest = 0.0, off = 0.0;
            for (std::size_t i = 0; i < k; ++i) {
                CHECK(ours[i * (k + gap) + i] > 0.0);
                for (std::size_t j = i; j < k; ++j) {
                    largest = std::max(largest, std::fabs(plain[i * k + j]));
                    off = std::max(off, std::fabs(plain[i * k + j] - ours[i * (k + gap) + j]));
                }
                for (std::size_t j = k; j < k + gap; ++j) CHECK(std::isnan(ours[i * (k + gap) + j]));
            }
            // Both are off by k units at most, times the condition of H: at most k mean / (damping mean) = 100 k.
            CHECK(off <= largest * static_cast<double>(100 * k * k) * 0x1p-52);
        }
    }
}

TEST_CASE("Eigen's factor: a matrix that is not positive definite is refused") {
    std::vector<double> h = {1.0, 2.0, 2.0, 1.0};
    CHECK(factor({h.data(), 2, 2}) == status::not_positive_definite);
    h = {1.0, 0.0, 0.0, 0.0};
    CHECK(factor({h.data(), 2, 2}) == status::not_positive_definite);
    h = {1.0, 0.0, 0.0, std::nan("")};
    CHECK(factor({h.data(), 2, 2}) == status::not_positive_definite);
    h = {std::numeric_limits<double>::infinity(), 0.0, 0.0, 1.0};
    CHECK(factor({h.data(), 2, 2}) == status::not_positive_definite);
    CHECK(factor({nullptr, 0, 0}) == status::ok);
}

TEST_CASE("codes by Eigen's factor are those of the paper's equations") {
    random_source random(92);
    constexpr std::size_t n = 8, k = 70;
    gptq_case c{{4, true, 16, aq::range_search::mean_square}, {}, {}};
    for (std::size_t i = 0; i < k; ++i) c.columns.push_back(static_cast<std::uint32_t>(i));
    for (int round = 0; round < 5; ++round) {
        const matrix x = correlated_rows(random, 200, k), w = random_matrix(random, n, k);
        aq::gptq_plan plan;
        REQUIRE(plan.make(hessian_of(x), c.settings, aq::example::eigen_cholesky()) == status::ok);
        aq::coded_matrix coded;
        REQUIRE(aq::quantize_gptq(w.view(), c.format, plan, coded) == status::ok);
        const plain_gptq expected(w, x, c);
        int wrong = 0;
        for (std::size_t i = 0; i < n * k; ++i) wrong += coded.codes[i] == expected.codes[i] ? 0 : 1;
        CHECK(wrong == 0);
    }
}
