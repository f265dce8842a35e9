// RMSNorm and LayerNorm against double, with bounds from the depth and the data.
#include "agilequant/elementwise/norm.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "elementwise/samples.hpp"

using namespace aq_test;
using aq::matrix_view;
using aq::status;

namespace {

const std::size_t depths[] = {1, 2, 7, 15, 16, 17, 31, 33, 64, 127, 288, 1000, 4096};

std::vector<float> rms(const std::vector<float>& x, const std::vector<float>& gain, float eps) {
    std::vector<float> y(x.size(), -7.0F);
    CHECK(aq::rms_norm({x.data(), x.size() / gain.size(), gain.size()}, gain.data(), eps,
                       {y.data(), x.size() / gain.size(), gain.size()}) == status::ok);
    return y;
}

std::vector<float> layer(const std::vector<float>& x, const std::vector<float>& gain, const std::vector<float>& bias, float eps) {
    std::vector<float> y(x.size(), -7.0F);
    CHECK(aq::layer_norm({x.data(), x.size() / gain.size(), gain.size()}, gain.data(), bias.data(), eps,
                         {y.data(), x.size() / gain.size(), gain.size()}) == status::ok);
    return y;
}

}  // namespace

// All terms are positive, so the sum's relative error is that of its depth, k/16 additions, four of the tree and the square; the
// quotient, eps and 1/sqrt add four, half of what is under the root counts, and two products follow.
TEST_CASE("rms_norm against double") {
    for (const std::size_t k : depths) {
        const auto x = numbers(2).take(3 * k, 5.0F), gain = numbers(3).take(k, 2.0F), y = rms(x, gain, 1e-5F);
        const double bound = (static_cast<double>(k) / 32 + 9) * u;
        CHECK(bound < 1e-4);
        for (std::size_t r = 0; r < 3; ++r) {
            double squares = 0;
            for (std::size_t c = 0; c < k; ++c) squares += std::pow(static_cast<double>(x[r * k + c]), 2);
            for (std::size_t c = 0; c < k; ++c) {
                const double exact = x[r * k + c] / std::sqrt(squares / static_cast<double>(k) + 1e-5F) * gain[c];
                REQUIRE(std::abs(y[r * k + c] - exact) <= bound * std::abs(exact));
            }
        }
    }
}

// The mean is off by (k/16 + 5) u of the mean magnitude; so is every difference, plus u of itself. What that does to the
// variance is its square, beside the error of a sum of squares as above.
TEST_CASE("layer_norm against double") {
    for (const std::size_t k : depths) {
        auto x = numbers(4).take(3 * k, 5.0F);
        for (float& v : x) v += 20.0F;  // a mean that a one-pass variance would pay for
        const auto gain = numbers(5).take(k, 2.0F), bias = numbers(6).take(k, 1.0F), y = layer(x, gain, bias, 1e-5F);
        const double depth = static_cast<double>(k) / 16;
        for (std::size_t r = 0; r < 3; ++r) {
            double mean = 0, magnitude = 0, variance = 0;
            for (std::size_t c = 0; c < k; ++c) mean += x[r * k + c], magnitude += std::abs(x[r * k + c]);
            mean /= static_cast<double>(k), magnitude /= static_cast<double>(k);
            for (std::size_t c = 0; c < k; ++c) variance += std::pow(x[r * k + c] - mean, 2) / static_cast<double>(k);
            const double inverse = 1 / std::sqrt(variance + 1e-5F), shift = (depth + 6) * u * magnitude;
            const double root = (depth / 2 + 7) * u + shift * shift * inverse * inverse / 2;
            for (std::size_t c = 0; c < k; ++c) {
                const double normal = (x[r * k + c] - mean) * inverse, exact = normal * gain[c] + bias[c];
                const double bound =
                    std::abs(gain[c]) * (shift * inverse + std::abs(normal) * (root + 3 * u)) + u * std::abs(exact);
                REQUIRE(bound * 0.99 < 1e-3 + 1e-2 * (k == 1));
                REQUIRE(std::abs(y[r * k + c] - exact) <= 1.01 * bound);
            }
        }
    }
}

TEST_CASE("norms of special rows") {
    const std::vector<float> one(20, 1.0F), half(20, 0.5F);
    const auto all = [](const std::vector<float>& y, auto condition) { return std::all_of(y.begin(), y.end(), condition); };
    const auto zero = [](float v) { return v == 0.0F; };
    const auto is_nan = [](float v) { return std::isnan(v); };
    const auto with = [](float v) {
        std::vector<float> x(20, 1.0F);
        x[17] = v;
        return x;
    };
    CHECK(all(rms(std::vector<float>(20, 0.0F), one, 1e-5F), zero));
    CHECK(all(rms(std::vector<float>(20, 0.0F), one, 0.0F), is_nan));
    CHECK(all(rms(std::vector<float>(20, denormal), one, 1e-5F), [](float v) { return std::abs(v) < 1e-36F; }));
    CHECK(all(rms(std::vector<float>(20, 1e30F), one, 1e-5F), zero));
    CHECK(all(rms(with(quiet_nan), one, 1e-5F), is_nan));
    CHECK(std::isnan(rms(with(infinity), one, 1e-5F)[17]));
    CHECK(rms(with(infinity), one, 1e-5F)[0] == 0.0F);
    CHECK(all(layer(std::vector<float>(20, 3.0F), one, half, 1e-5F), [](float v) { return v == 0.5F; }));
    CHECK(all(layer(std::vector<float>(20, 3.0F), one, half, 0.0F), is_nan));
    CHECK(all(layer(with(quiet_nan), one, half, 1e-5F), is_nan));
    CHECK(all(layer(with(infinity), one, half, 1e-5F), is_nan));
}

TEST_CASE("norms in place and with strides leave the padding alone") {
    const std::size_t m = 3, k = 37, stride = 41;
    const auto x = numbers(7).take(m * k, 3.0F), gain = numbers(8).take(k, 1.0F), bias = numbers(9).take(k, 1.0F);
    for (const bool rms_not_layer : {true, false}) {
        const auto dense = rms_not_layer ? rms(x, gain, 1e-5F) : layer(x, gain, bias, 1e-5F);
        std::vector<float> wide(m * stride, quiet_nan);
        for (std::size_t r = 0; r < m; ++r) std::copy_n(&x[r * k], k, &wide[r * stride]);
        const matrix_view<float> view(wide.data(), m, k, stride);
        CHECK((rms_not_layer ? aq::rms_norm(view, gain.data(), 1e-5F, view)
                             : aq::layer_norm(view, gain.data(), bias.data(), 1e-5F, view)) == status::ok);
        for (std::size_t r = 0; r < m; ++r)
            for (std::size_t c = 0; c < stride; ++c)
                CHECK(bits(wide[r * stride + c]) == bits(c < k ? dense[r * k + c] : quiet_nan));
    }
}

TEST_CASE("norms refuse what does not fit") {
    float x[8] = {}, gain[4] = {}, bias[4] = {};
    const matrix_view<float> ok(x, 2, 4);
    CHECK(aq::rms_norm(ok, gain, 1e-5F, {x, 1, 4}) == status::bad_shape);
    CHECK(aq::rms_norm(ok, gain, 1e-5F, {x, 2, 3}) == status::bad_shape);
    CHECK(aq::rms_norm({x, 2, 4, 3}, gain, 1e-5F, ok) == status::bad_stride);
    CHECK(aq::rms_norm({nullptr, 2, 4}, gain, 1e-5F, ok) == status::null_pointer);
    CHECK(aq::rms_norm(ok, nullptr, 1e-5F, ok) == status::null_pointer);
    CHECK(aq::rms_norm(ok, gain, -1.0F, ok) == status::bad_argument);
    CHECK(aq::rms_norm(ok, gain, quiet_nan, ok) == status::bad_argument);
    CHECK(aq::rms_norm({nullptr, 0, 4}, nullptr, 1e-5F, {nullptr, 0, 4}) == status::ok);
    CHECK(aq::rms_norm({x, 2, 0}, nullptr, 1e-5F, {x, 2, 0}) == status::ok);
    CHECK(aq::layer_norm(ok, gain, nullptr, 1e-5F, ok) == status::null_pointer);
    CHECK(aq::layer_norm(ok, gain, bias, 1e-5F, {x, 4, 2}) == status::bad_shape);
}
