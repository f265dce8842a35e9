// e^x against libm's double, its special values, and the same bits in every lane.
#include "agilequant/elementwise/exp.hpp"

#include <doctest/doctest.h>

#include "agilequant/elementwise/loops.hpp"
#include "elementwise/samples.hpp"

using namespace aq_test;

namespace {

float exp_of(float x) { return aq::lanes::exp(x); }

template <class Lane>
std::vector<float> exp_of(const std::vector<float>& x) {
    std::vector<float> y(x.size());
    const auto f = [](auto v) { return aq::lanes::exp(v); };
    aq::lanes::map<Lane>(x.size(), y.data(), f, x.data());
    return y;
}

// Every step-th float from `first` on, in the order of bits.
template <class F>
void for_floats(std::uint32_t first, std::uint32_t last, std::uint32_t step, F f) {
    for (std::uint64_t b = first; b <= last; b += step) f(aq::float_of(static_cast<std::uint32_t>(b)));
}

}  // namespace

TEST_CASE("exp is within 0.991 ulp of e^x") {
    double worst = 0;
    // Magnitudes 2^-30 to 88.7; smaller ones give 1 within half an ulp. The bound is from a run over all floats.
    const auto measure = [&](float x) {
        if (x > 88.7228317F || x < -87.33654F) return;
        worst = std::max(worst, ulps(exp_of(x), std::exp(static_cast<double>(x))));
    };
    for_floats(0x30800000U, 0x42B17218U, 997, measure);
    for_floats(0xB0800000U, 0xC2B17218U, 997, measure);
    CHECK(worst <= 0.991);
    CHECK(worst >= 0.5);  // else nothing was measured
}

TEST_CASE("exp never makes a denormal") {
    for (float x = -87.0F; x > -88.5F; x = std::nextafter(x, -infinity)) {
        const float y = exp_of(x);
        REQUIRE((y == 0.0F || y >= std::numeric_limits<float>::min()));
    }
}

TEST_CASE("exp of special values") {
    CHECK(exp_of(0.0F) == 1.0F);
    CHECK(exp_of(-0.0F) == 1.0F);
    CHECK(exp_of(denormal) == 1.0F);
    CHECK(exp_of(-denormal) == 1.0F);
    CHECK(exp_of(infinity) == infinity);
    CHECK(bits(exp_of(-infinity)) == bits(0.0F));
    CHECK(std::isnan(exp_of(quiet_nan)));
    CHECK(std::isnan(exp_of(-quiet_nan)));
    CHECK(exp_of(88.7228317F) < infinity);
    CHECK(exp_of(std::nextafter(88.7228317F, infinity)) == infinity);
    CHECK(exp_of(3e38F) == infinity);
    CHECK(exp_of(-87.33654F) > 0.0F);
    CHECK(exp_of(std::nextafter(-87.33654F, -infinity)) == 0.0F);
    CHECK(exp_of(-3e38F) == 0.0F);
}

TEST_CASE("exp has the same bits in every lane") {
    std::vector<float> x = numbers(1).take_mixed(20000, 100.0F, true);
    for_floats(0, 0xFFFFFFFFU, 86711, [&](float v) { x.push_back(v); });
    CHECK(same_bits(exp_of<native>(x), exp_of<definition>(x)));
}
