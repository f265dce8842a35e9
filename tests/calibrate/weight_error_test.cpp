// The errors that a report tells, by the definition.
#include "calibrate/weight_error.hpp"

#include <doctest/doctest.h>

#include "model/threads.hpp"
#include "support/random.hpp"
#include "support/status_text.hpp"

using namespace aq_test;

TEST_CASE("weight errors: squares of outputs that are off, with columns in any order") {
    random_source random(301);
    constexpr std::size_t k = 21, n = 5, tokens = 7;
    const matrix x = random_matrix(random, tokens, k, 1), coded_x = random_matrix(random, tokens, k, 2),
                 w = random_matrix(random, n, k, 3);
    std::vector<std::uint32_t> columns(k);
    for (std::size_t i = 0; i < k; ++i) columns[i] = static_cast<std::uint32_t>((i * 8 + 3) % k);
    aq::coded_matrix fine, coarse;
    REQUIRE(quantize_weights(w.view(), {6, true, 4}, columns.data(), fine) == aq::status::ok);
    REQUIRE(quantize_weights(w.view(), {3, true, 0}, columns.data(), coarse) == aq::status::ok);

    aq::example::weight_report expected;
    for (std::size_t r = 0; r < n; ++r) {
        for (std::size_t t = 0; t < tokens; ++t) {
            double exact = 0.0, by_codes = 0.0, by_fine = 0.0, by_coarse = 0.0;
            for (std::size_t i = 0; i < k; ++i) {
                const double a = static_cast<double>(coded_x.at(t, columns[i]));
                exact += static_cast<double>(w.at(r, columns[i])) * static_cast<double>(x.at(t, columns[i]));
                by_codes += static_cast<double>(w.at(r, columns[i])) * a;
                by_fine += static_cast<double>(fine.value(r, i)) * a;
                by_coarse += static_cast<double>(coarse.value(r, i)) * a;
            }
            expected.energy += exact * exact;
            expected.by_codes += (by_codes - exact) * (by_codes - exact);
            expected.by_both += (by_fine - exact) * (by_fine - exact);
            expected.by_nearest += (by_coarse - exact) * (by_coarse - exact);
        }
    }
    const aq::example::weight_error error{x.view(), coded_x.view(), w.view(), fine, coarse, columns};
    for (const named_executor& e : all_executors(3)) {
        CAPTURE(e.name);
        aq::example::weight_report found;
        REQUIRE(error.measure(e.threads, found) == aq::status::ok);
        // sums of 21 products and of 35 squares in double, in another order
        CHECK(found.energy == doctest::Approx(expected.energy).epsilon(1e-13));
        CHECK(found.by_codes == doctest::Approx(expected.by_codes).epsilon(1e-13));
        CHECK(found.by_both == doctest::Approx(expected.by_both).epsilon(1e-13));
        CHECK(found.by_nearest == doctest::Approx(expected.by_nearest).epsilon(1e-13));
    }
}
