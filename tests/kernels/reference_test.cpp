#include "agilequant/kernels/reference.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "support/gemm_case.hpp"

using aq::status;

TEST_CASE("reference: a product worked by hand, from codes to y") {
    // w [1,3] in one group: codes 0 9 15, zero 5, scale 1/2 -> -2.5 2 5; x [1,3]: codes -3 0 100, zero -1, scale 1/4, exponents 0 1 0
    const std::uint8_t exponents[] = {0, 1, 0};
    aq::coded_matrix w;
    REQUIRE(w.reset({4, true, 0}, 1, 3) == status::ok);
    const std::uint8_t codes[] = {9, 0, 15};  // in the layout's order: channels 1, 0, 2
    for (int i = 0; i < 3; ++i) w.codes[static_cast<std::size_t>(i)] = codes[i];
    w.scales[0] = 0.5F;
    w.zeros[0] = 5;
    aq::k_layout layout;
    REQUIRE(layout.make(3, 0, exponents) == status::ok);
    aq::packed_storage<> packed;
    REQUIRE(packed.assign(w, std::move(layout)) == status::ok);
    const aq::packed_weights p = packed.view();
    aq_test::activation_buffer a(1, p.layout, {});
    for (std::size_t i = 0; i < p.layout.packed; ++i) a.view.codes[i] = 0;
    a.view.codes[0] = 0;  // channel 1
    a.view.codes[16] = -3;
    a.view.codes[17] = 100;
    a.view.scales[0] = 0.25F;
    a.view.zeros[0] = -1;

    std::vector<double> x_values(3), w_values(3), y(1);
    aq::reference::dequantize(a.view, p.layout, {x_values.data(), 1, 3});
    aq::reference::dequantize(p, {w_values.data(), 1, 3});
    CHECK(w_values == std::vector<double>{-2.5, 2.0, 5.0});
    CHECK(x_values == std::vector<double>{-0.5, 0.5, 25.25});
    aq::reference::matmul({x_values.data(), 1, 3}, {w_values.data(), 1, 3}, {y.data(), 1, 1});
    CHECK(y[0] == -2.5 * -0.5 + 2.0 * 0.5 + 5.0 * 25.25);

    int groups = 0;
    aq::reference::for_each_group(p, a.view, 0, 0, [&](const aq::reference::group_sums& g) {
        ++groups;
        CHECK(g.products == 2 * 4 * 0 + -5 * -3 + 10 * 100);
        CHECK(g.weights == 2 * 4 - 5 + 10);
        CHECK(g.magnitude == 2 * 4 * 1 + 5 * 2 + 10 * 101);
        CHECK(g.scale == 0.5);
    });
    CHECK(groups == 1);
}

TEST_CASE("reference: no depth, nothing to add") {
    const std::vector<double> none;
    double y = -1.0;
    aq::reference::matmul({none.data(), 1, 0}, {none.data(), 1, 0}, {&y, 1, 1});
    CHECK(y == 0.0);
}
