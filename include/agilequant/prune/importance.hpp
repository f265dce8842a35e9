/// \file
/// How much a token matters: the attention that its query pays to the first token, summed over the heads.
/// Agile-Quant's activation-guided pruning. Not the choice of survivors: prune/select.hpp.
#pragma once

#include <cstddef>

#include "agilequant/core/matrix_view.hpp"

namespace aq {

/// scores[i] = sum over heads of first_column[h, i], the probability that row i of head h gives to token 0, after the log2
/// quantizer where there is one. first_column [heads,rows]; scores [rows], not overlapping it. Summed in head order, so the
/// bits do not depend on threads. bad_stride, null_pointer.
[[nodiscard]] inline status token_importance(matrix_view<const float> first_column, float* scores) noexcept {
    AQ_TRY(check(first_column));
    if (scores == nullptr && first_column.cols != 0) return status::null_pointer;
    for (std::size_t i = 0; i < first_column.cols; ++i) scores[i] = 0.0F;
    for (std::size_t h = 0; h < first_column.rows; ++h) {
        const float* const row = first_column.row(h);
        for (std::size_t i = 0; i < first_column.cols; ++i) scores[i] += row[i];
    }
    return status::ok;
}

}  // namespace aq
