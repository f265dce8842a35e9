// The double functions behind the tables, against libm.
#include "agilequant/elementwise/portable_math.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

namespace {
constexpr double epsilon = std::numeric_limits<double>::epsilon();
}

// The last sum rounds by epsilon/2 of the result, e ln2 by as much of itself, the series by a few epsilon of its own size.
TEST_CASE("portable log") {
    for (double x = 1e-6; x < 1e8; x *= 1.0137)
        CHECK(std::abs(aq::portable::log(x) - std::log(x)) <= 4 * epsilon * (std::abs(std::log(x)) + 0.35));
    CHECK(aq::portable::log(1.0) == 0.0);
}

// The series rounds by 2 epsilon; n ln2 is exact in its high part.
TEST_CASE("portable exp") {
    for (double x = -300; x < 300; x += 0.1371) CHECK(std::abs(aq::portable::exp(x) / std::exp(x) - 1) <= 4 * epsilon);
    CHECK(aq::portable::exp(0.0) == 1.0);
}

// The error of exponent * log(base) is absolute in exp.
TEST_CASE("portable power") {
    for (double e = -8; e < 8; e += 0.173)
        CHECK(std::abs(aq::portable::power(10000.0, e) / std::pow(10000.0, e) - 1) <= epsilon * (4 + 5 * std::abs(e) * 9.3));
    CHECK(aq::portable::power(2.0, 0.0) == 1.0);
}

TEST_CASE("portable cosine and sine") {
    for (double angle = 0; angle < 1e5; angle = angle * 1.0007 + 1e-4) {
        const auto [cosine, sine] = aq::portable::cosine_and_sine(angle);
        REQUIRE(std::abs(cosine - std::cos(angle)) <= 2 * epsilon);
        REQUIRE(std::abs(sine - std::sin(angle)) <= 2 * epsilon);
    }
    CHECK(aq::portable::cosine_and_sine(0.0).cosine == 1.0);
    CHECK(aq::portable::cosine_and_sine(0.0).sine == 0.0);
}
