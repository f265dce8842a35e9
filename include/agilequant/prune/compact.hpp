/// \file
/// Moves the surviving rows of a matrix together, in place. Positions, ids or lengths are a matrix of one column.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "agilequant/core/matrix_view.hpp"

namespace aq {

/// x [rows,cols]: row i becomes row kept[i], for i < count; the rows after that keep what they held. kept [count] rises
/// strictly, as select_rows makes it, so no row is overwritten before it is read. Nothing is written unless the answer is ok.
/// bad_argument: kept does not rise or leaves the matrix; bad_stride, null_pointer.
template <class T>
[[nodiscard]] status compact_rows(matrix_view<T> x, const std::uint32_t* kept, std::size_t count) noexcept {
    static_assert(std::is_trivially_copyable_v<T> && !std::is_const_v<T>,
                  "aq: compact_rows moves plain data that may be written.");
    AQ_TRY(check(x));
    if (kept == nullptr && count != 0) return status::null_pointer;
    for (std::size_t i = 0; i < count; ++i) {
        if (kept[i] >= x.rows || (i != 0 && kept[i] <= kept[i - 1])) return status::bad_argument;
    }
    for (std::size_t i = 0; i < count && !x.empty(); ++i) {
        if (kept[i] != i) std::memcpy(x.row(i), x.row(kept[i]), x.cols * sizeof(T));
    }
    return status::ok;
}

}  // namespace aq
