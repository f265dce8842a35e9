/// \file
/// Random inputs with the same bits on every machine: integers make them, and floats are integers times a power of two.
/// Every test fixes its seeds and shows the one that failed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <vector>

#include "agilequant/core/matrix_view.hpp"

namespace aq_test {

/// A list of sizes to go through: for (std::size_t k : sizes{0, 1, 17})
using sizes = std::initializer_list<std::size_t>;

/// splitmix64 (Steele, Lea, Flood, 2014).
class random_source {
public:
    explicit random_source(std::uint64_t seed) : state_(seed) {}

    std::uint64_t next() {
        std::uint64_t z = state_ += 0x9E3779B97F4A7C15U;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9U;
        z = (z ^ z >> 27) * 0x94D049BB133111EBU;
        return z ^ z >> 31;
    }
    std::size_t below(std::size_t limit) { return static_cast<std::size_t>(next() % limit); }
    int between(int low, int high) { return low + static_cast<int>(below(static_cast<std::size_t>(high - low + 1))); }
    bool flip() { return next() >> 63 != 0; }

    /// Bell-shaped, |x| <= 4, a multiple of 2^-15: the sum of four uniform numbers.
    float value() {
        const std::uint64_t bits = next();
        int sum = 0;
        for (int i = 0; i < 64; i += 16) sum += static_cast<int>(bits >> i & 0xFFFFU) - 32768;
        return static_cast<float>(sum) * 0x1p-15F;
    }

private:
    std::uint64_t state_;
};

/// An owned [rows,cols] matrix with `stride`; what is between the rows is NaN.
struct matrix {
    std::size_t rows = 0, cols = 0, stride = 0;
    std::vector<float> data;

    matrix(std::size_t r, std::size_t c, std::size_t gap = 0)
        : rows(r), cols(c), stride(c + gap), data(r * stride + 1, std::numeric_limits<float>::quiet_NaN()) {}

    float& at(std::size_t r, std::size_t c) { return data[r * stride + c]; }
    float at(std::size_t r, std::size_t c) const { return data[r * stride + c]; }
    aq::matrix_view<float> view() { return {data.data(), rows, cols, stride}; }
    aq::matrix_view<const float> view() const { return {data.data(), rows, cols, stride}; }
};

inline matrix random_matrix(random_source& random, std::size_t rows, std::size_t cols, std::size_t gap = 0) {
    matrix a(rows, cols, gap);
    for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < cols; ++c) a.at(r, c) = random.value();
    }
    return a;
}

}  // namespace aq_test
