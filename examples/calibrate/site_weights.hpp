/// \file
/// The matrices that one site of one layer feeds, as they are in the original, or rotated.
#pragma once

#include <vector>

#include "calibrate/quantized_weights.hpp"

namespace aq::example {

class site_weights {
public:
    /// Borrows both.
    site_weights(const models::loaded_model& model, std::size_t layer, const linears_of_site& linears)
        : model_(model), layer_(layer), linears_(linears) {}

    [[nodiscard]] const std::vector<weight_id>& ids() const noexcept { return linears_.ids; }
    [[nodiscard]] std::size_t layer() const noexcept { return layer_; }
    [[nodiscard]] site where() const noexcept { return linears_.where; }
    /// A matrix [n,k] -> values, each row rotated where asked. What the source answers.
    [[nodiscard]] status read(weight_id id, bool is_rotated, std::vector<float>& values) const;

private:
    const models::loaded_model& model_;
    std::size_t layer_;
    const linears_of_site& linears_;
};

/// Rows of `cols` values one after the other.
[[nodiscard]] inline matrix_view<float> view(std::vector<float>& values, std::size_t cols) {
    return {values.data(), values.size() / cols, cols};
}

}  // namespace aq::example
