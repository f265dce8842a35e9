/// \file
/// A borrowed row-major matrix. Owns nothing, checks nothing but on request.
#pragma once

#include <cstddef>
#include <type_traits>

#include "agilequant/core/status.hpp"

namespace aq {

struct matrix_shape {
    std::size_t rows = 0, cols = 0;
    friend constexpr bool operator==(matrix_shape a, matrix_shape b) noexcept { return a.rows == b.rows && a.cols == b.cols; }
    friend constexpr bool operator!=(matrix_shape a, matrix_shape b) noexcept { return !(a == b); }
};

/// [rows,cols] elements, row r at data + r * stride; stride is in elements and at least cols.
template <class T>
struct matrix_view {
    T* data = nullptr;
    std::size_t rows = 0, cols = 0, stride = 0;

    constexpr matrix_view() noexcept = default;
    constexpr matrix_view(T* d, std::size_t r, std::size_t c) noexcept : matrix_view(d, r, c, c) {}
    constexpr matrix_view(T* d, std::size_t r, std::size_t c, std::size_t s) noexcept : data(d), rows(r), cols(c), stride(s) {}

    /// A view of T is a view of const T.
    template <class U, class = std::enable_if_t<std::is_same_v<T, const U> && !std::is_const_v<U>>>
    constexpr matrix_view(matrix_view<U> o) noexcept : matrix_view(o.data, o.rows, o.cols, o.stride) {}

    [[nodiscard]] constexpr T* row(std::size_t r) const noexcept { return data + r * stride; }
    [[nodiscard]] constexpr matrix_shape shape() const noexcept { return {rows, cols}; }
    [[nodiscard]] constexpr bool empty() const noexcept { return rows == 0 || cols == 0; }

    /// Rows first .. first + count.
    [[nodiscard]] constexpr matrix_view rows_from(std::size_t first, std::size_t count) const noexcept {
        return {data + first * stride, count, cols, stride};
    }
};

/// bad_stride or null_pointer where the view cannot hold its own shape; an empty view is always fine.
template <class T>
[[nodiscard]] constexpr status check(matrix_view<T> v) noexcept {
    if (v.empty()) return status::ok;
    if (v.stride < v.cols) return status::bad_stride;
    return v.data == nullptr ? status::null_pointer : status::ok;
}

}  // namespace aq
