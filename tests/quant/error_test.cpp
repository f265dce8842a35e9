#include "agilequant/quant/error.hpp"

#include <doctest/doctest.h>

#include <cmath>

TEST_CASE("errors of known vectors") {
    const float x[] = {1.0F, -2.0F, 2.0F}, y[] = {1.0F, -2.0F, 1.0F}, far[] = {0.0F, 0.0F, 0.0F};
    CHECK(aq::sum_of_squares(x, 3) == 9.0);
    CHECK(aq::mean_square_error(x, y, 3) == 1.0 / 3.0);
    CHECK(aq::mean_square_error(x, y, 0) == 0.0);
    CHECK(std::fabs(aq::signal_to_noise_db(x, y, 3) - 10.0 * std::log10(9.0)) < 1e-12);
    CHECK(aq::signal_to_noise_db(x, far, 3) == 0.0);
    CHECK(std::isinf(aq::signal_to_noise_db(x, x, 3)));
    CHECK(aq::mean_square_error(x, far, 3) == 3.0);
    const float large[] = {0x1p126F};
    CHECK(aq::mean_square_error(large, far, 1) == 0x1p252);  // double: no overflow
}
