/// \file
/// A site whose activations are coded and the linear that it feeds, and the errors that coding makes there: of the outputs themselves, row by
/// row, in plain double. No H, and none of the loops of quant/activation_format.hpp.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "agilequant/quant/activation_format.hpp"
#include "agilequant/quant/hessian.hpp"
#include "agilequant/quant/trip_calibrator.hpp"
#include "support/random.hpp"
#include "support/status_text.hpp"

namespace aq_test {

/// A site, and the linear [n,k] that it feeds.
struct site_case {
    matrix x, w;
    aq::trip_calibrator site;
    aq::hessian outputs;

    site_case(matrix activations, matrix weights) : x(std::move(activations)), w(std::move(weights)) {
        REQUIRE(site.reset(x.cols) == aq::status::ok);  // keeps all rows in their order
        REQUIRE(site.add(x.view()) == aq::status::ok);
        REQUIRE(outputs.reset(w.cols) == aq::status::ok);
        REQUIRE(outputs.add(w.view()) == aq::status::ok);
    }
};

/// A fifth of the channels are up to 64 times as large as the others, of one sign, before weights that make up for it, as behind a norm's gain.
inline site_case with_outliers(std::uint64_t seed, std::size_t rows = 37, std::size_t k = 19, std::size_t n = 11) {
    random_source random(seed);
    matrix x = random_matrix(random, rows, k, 3);
    for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < k; c += 5) x.at(r, c) = std::ldexp(std::fabs(x.at(r, c)) + 4.0F, static_cast<int>(c % 4));
    }
    matrix w = random_matrix(random, n, k, 1);
    for (std::size_t r = 0; r < n; ++r) {
        for (std::size_t c = 0; c < k; c += 5) w.at(r, c) = std::ldexp(w.at(r, c), -2 - static_cast<int>(c % 4));
    }
    return {std::move(x), std::move(w)};
}

inline site_case without_outliers(std::uint64_t seed) {
    random_source random(seed);
    matrix x = random_matrix(random, 60, 24);
    return {std::move(x), random_matrix(random, 16, 24)};
}

/// A sum of products in double, and what it could be at most, from the sizes of its parts.
struct sum_of_products {
    double value = 0.0, magnitude = 0.0;

    void add(double v) { add(v, std::fabs(v)); }
    void add(double v, double size) {
        value += v;
        magnitude += size;
    }
};

/// By G or by the outputs themselves, sums of n, k and rows products follow each other, each off by half a unit in the last place of no more than
/// the sum of the parts' sizes; both ways together twice that.
inline bool agree(double ours, const sum_of_products& plain, const site_case& c) {
    const double units = 2.0 * static_cast<double>(c.w.rows + 2 * c.w.cols + c.x.rows + 8) * 0x1p-53;
    return std::fabs(ours - plain.value) <= units * plain.magnitude;
}

/// What is lost of a row: a channel coded one after the other by the equations of quant/trip.hpp, or nothing coded and all of it lost.
inline std::vector<double> loss_of(const site_case& c, std::size_t r, const std::uint8_t* exponents,
                                   const aq::activation_format* f) {
    std::vector<double> e(c.x.cols);
    aq::affine a;
    aq::code_range codes;
    if (f != nullptr) {
        aq::value_range range;
        for (std::size_t k = 0; k < e.size(); ++k) range = aq::including(range, std::ldexp(c.x.at(r, k), -exponents[k]));
        codes = aq::activation_codes(f->bits, f->is_asymmetric);
        range = {aq::rounded(range.low * f->clip), aq::rounded(range.high * f->clip)};
        a = f->is_static ? f->fixed : aq::fit(range, codes, f->is_asymmetric);
    }
    for (std::size_t k = 0; k < e.size(); ++k) {
        const float x = c.x.at(r, k);
        e[k] = static_cast<double>(x);
        if (f == nullptr) continue;
        const int code = aq::encode(std::ldexp(x, -exponents[k]), 1.0F / a.scale, a.zero, codes);
        e[k] -= static_cast<double>(std::ldexp(aq::decode(code, a), exponents[k]));
    }
    return e;
}

/// sum over rows of |e W^T|^2, of `count` rows evenly out of all.
inline sum_of_products output_error(const site_case& c, const std::uint8_t* exponents, const aq::activation_format* f,
                                    std::size_t count) {
    sum_of_products sum;
    for (std::size_t i = 0; i < count; ++i) {
        const std::vector<double> e = loss_of(c, i * c.x.rows / count, exponents, f);
        for (std::size_t n = 0; n < c.w.rows; ++n) {
            sum_of_products y;
            for (std::size_t k = 0; k < e.size(); ++k) y.add(e[k] * static_cast<double>(c.w.at(n, k)));
            sum.add(y.value * y.value, y.magnitude * y.magnitude);
        }
    }
    return sum;
}

/// sum over rows and channels of e^2 |column of W|^2.
inline sum_of_products diagonal_error(const site_case& c, const std::uint8_t* exponents, const aq::activation_format& f) {
    sum_of_products sum;
    for (std::size_t r = 0; r < c.x.rows; ++r) {
        const std::vector<double> e = loss_of(c, r, exponents, &f);
        for (std::size_t k = 0; k < e.size(); ++k) {
            for (std::size_t n = 0; n < c.w.rows; ++n) sum.add(std::pow(e[k] * static_cast<double>(c.w.at(n, k)), 2));
        }
    }
    return sum;
}

}  // namespace aq_test
