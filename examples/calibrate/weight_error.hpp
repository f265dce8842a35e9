/// \file
/// What the report says of one matrix: how far its outputs are off, by the activations' codes, by its own, and had it been rounded to
/// nearest.
#pragma once

#include <agilequant/model/executor.hpp>
#include <agilequant/quant/coded_matrix.hpp>
#include <vector>

#include "calibrate/recipe.hpp"

namespace aq::example {

/// x [t,k] are rows as they should be, and coded_x what their codes stand for; `original` [n,k] the weights for them, and `columns` [k]
/// says of which of their columns each column of the coded ones is.
struct weight_error {
    matrix_view<const float> x, coded_x, original;
    const coded_matrix &coded, &nearest;
    const std::vector<std::uint32_t>& columns;

    /// Adds to `out`. All sums in double, row by row of the weights: the same bits with any number of threads. out_of_memory.
    [[nodiscard]] status measure(const executor& threads, weight_report& out) const;

private:
    [[nodiscard]] status add_row(std::size_t r, weight_report& sum) const;
};

}  // namespace aq::example
