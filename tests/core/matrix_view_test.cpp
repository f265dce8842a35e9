#include "agilequant/core/matrix_view.hpp"

#include <doctest/doctest.h>

#include <type_traits>

TEST_CASE("rows of a view stand a stride apart") {
    float data[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    const aq::matrix_view<float> v(data, 3, 2, 4);
    CHECK(v.row(0)[1] == 1.0F);
    CHECK(v.row(2)[0] == 8.0F);
    CHECK((v.shape() == aq::matrix_shape{3, 2}));
    const aq::matrix_view<const float> tail = v.rows_from(1, 2);  // and a view of T is a view of const T
    CHECK(tail.rows == 2);
    CHECK(tail.row(1)[1] == 9.0F);
    CHECK((aq::matrix_view<float>(data, 3, 4).stride == 4));
    static_assert(!std::is_convertible_v<aq::matrix_view<const float>, aq::matrix_view<float>>);
    static_assert(!std::is_convertible_v<aq::matrix_view<float>, aq::matrix_view<const double>>);
    static_assert(std::is_trivially_copyable_v<aq::matrix_view<float>>);
}

TEST_CASE("check finds a view that cannot hold its shape") {
    float x = 0.0F;
    float* const none = nullptr;
    CHECK(aq::check(aq::matrix_view<float>(&x, 1, 1)) == aq::status::ok);
    CHECK(aq::check(aq::matrix_view<float>(&x, 1, 3, 2)) == aq::status::bad_stride);
    CHECK(aq::check(aq::matrix_view<float>(none, 1, 1)) == aq::status::null_pointer);
    CHECK(aq::check(aq::matrix_view<float>()) == aq::status::ok);
    CHECK(aq::check(aq::matrix_view<float>(none, 0, 5, 1)) == aq::status::ok);  // nothing in it
    CHECK(aq::check(aq::matrix_view<float>(none, 5, 0)) == aq::status::ok);
    CHECK(aq::matrix_view<float>(none, 5, 0).empty());
    CHECK(!aq::matrix_view<float>(&x, 1, 1).empty());
}
