/// \file
/// Rows of a source as floats: norms and gates at the speed of the kernels' instruction set, for whoever wants more than their codes.
#pragma once

#include "agilequant/kernels/jobs.hpp"

namespace aq {

/// y[r] = row r of `source` for r in `rows`; y [m,k] may be one of the source's matrices. Exact: the bits of elementwise/, but for the
/// sign and the payload of a NaN. What check(source) says; bad_shape, bad_stride, null_pointer.
[[nodiscard]] inline status write_rows(const kernel_table& kernels, const row_source& source, index_range rows,
                                       matrix_view<float> y) noexcept {
    AQ_TRY(check(source));
    AQ_TRY(check(y));
    if (y.shape() != source.x.shape() || rows.end > y.rows || rows.begin > rows.end) return status::bad_shape;
    if (!y.empty()) kernels.write_rows(source, rows, y);
    return status::ok;
}

}  // namespace aq
