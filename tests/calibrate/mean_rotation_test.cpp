#include "calibrate/mean_rotation.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "agilequant/elementwise/hadamard.hpp"
#include "support/random.hpp"

using aq::example::mean_rotation;
using namespace aq_test;

namespace {

/// Q as a matrix: what becomes of the unit vectors.
std::vector<double> dense(std::size_t n) {
    std::vector<double> q(n * n, 0.0);
    for (std::size_t i = 0; i < n; ++i) q[i * n + i] = 1.0;
    mean_rotation(n).apply(q.data(), n);
    return q;
}

int parity(std::size_t v) {
    int bits = 0;
    for (; v != 0; v /= 2) bits += static_cast<int>(v % 2);
    return bits % 2;
}

/// The block's matrix by its definition: sum_k H_ik s_k H_kj.
double block_entry(std::size_t b, std::size_t i, std::size_t j) {
    std::size_t half = 1;
    while (half * half * 4 <= b) half *= 2;  // 2^(bits / 2)
    double sum = 0.0;
    for (std::size_t k = 0; k < b; ++k) {
        const std::size_t x = k % half, y = k / half % half;
        sum += (parity(k & i) + parity(k & j) + parity(x & y)) % 2 == 0 ? 1.0 : -1.0;
    }
    return sum / static_cast<double>(b);
}

double largest_entry(std::size_t n) {
    const std::size_t b = aq::hadamard_block(n);
    std::size_t root = 1;
    while (root * root < b) root *= 2;
    double bound = root * root == b ? 1.0 / static_cast<double>(root) : std::sqrt(2.0 / static_cast<double>(b));
    std::size_t left = n / b;
    for (std::size_t p = 3; left > 1; p += 2) {
        for (; left % p == 0; left /= p) bound *= p == 3 ? 2.0 / 3.0 : 1.0 - 2.0 / static_cast<double>(p);
    }
    return bound;
}

}  // namespace

TEST_CASE("mean rotation: symmetric, orthogonal, keeps the mean, and no entry is larger than it says") {
    for (const std::size_t n : sizes{1, 2, 3, 4, 6, 7, 8, 16, 20, 32, 45, 48, 64, 96, 112, 128, 144, 192, 256}) {
        CAPTURE(n);
        const std::vector<double> q = dense(n);
        double largest = 0.0, wrong = 0.0, asymmetric = 0.0;
        for (std::size_t i = 0; i < n; ++i) {
            double sum = 0.0;
            for (std::size_t j = 0; j < n; ++j) {
                double dot = 0.0;
                for (std::size_t k = 0; k < n; ++k) dot += q[i * n + k] * q[j * n + k];
                wrong = std::max(wrong, std::abs(dot - (i == j ? 1.0 : 0.0)));
                asymmetric = std::max(asymmetric, std::abs(q[i * n + j] - q[j * n + i]));
                largest = std::max(largest, std::abs(q[i * n + j]));
                sum += q[i * n + j];
            }
            wrong = std::max(wrong, std::abs(sum - 1.0));
        }
        // Entries are at most a few roundings of 2^-53 off, and sums have up to 256 terms.
        CHECK(wrong < 1e-13);
        CHECK(asymmetric < 1e-15);
        CHECK(largest == doctest::Approx(largest_entry(n)).epsilon(1e-14));
    }
}

TEST_CASE("mean rotation: a block is H S H, all entries as large as another where it is a power of 4, else half of them") {
    for (const std::size_t n : sizes{1, 2, 4, 8, 16, 32, 64, 128, 256}) {
        CAPTURE(n);
        const std::vector<double> q = dense(n);
        std::size_t different = 0, large = 0;
        for (std::size_t i = 0; i < n * n; ++i) {
            different += q[i] == block_entry(n, i / n, i % n) ? 0U : 1U;  // both exact: integers over a power of two
            large += std::abs(std::abs(q[i]) - largest_entry(n)) < 1e-15 ? 1U : 0U;
        }
        CHECK(different == 0);
        CHECK(large == (std::lround(std::sqrt(n)) * std::lround(std::sqrt(n)) == static_cast<long>(n) ? n * n : n * n / 2));
    }
}

TEST_CASE("mean rotation: columns are turned one as the other, and the Hadamard matrix is that of elementwise/") {
    random_source random(17);
    for (const std::size_t n : sizes{2, 12, 20, 64, 96}) {
        CAPTURE(n);
        const std::size_t width = 3;
        const matrix x = random_matrix(random, n, width);
        std::vector<double> together(x.data.begin(), x.data.begin() + static_cast<std::ptrdiff_t>(n * width)),
            transformed = together;
        mean_rotation(n).apply(together.data(), width);
        aq::example::hadamard_columns(transformed.data(), n, width);
        for (std::size_t c = 0; c < width; ++c) {
            std::vector<double> alone(n);
            matrix in_float(1, n);
            for (std::size_t r = 0; r < n; ++r) alone[r] = in_float.at(0, r) = x.at(r, c);
            mean_rotation(n).apply(alone.data(), 1);
            REQUIRE(aq::hadamard(in_float.view()) == aq::status::ok);
            for (std::size_t r = 0; r < n; ++r) {
                CHECK(together[r * width + c] == alone[r]);
                // log2 n additions of numbers up to 4 sqrt n, each rounded to 2^-24 of itself
                CHECK(std::abs(transformed[r * width + c] - static_cast<double>(in_float.at(0, r))) < 8 * 4 * 12 * 0x1p-24);
            }
        }
    }
}
