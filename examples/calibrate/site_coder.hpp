/// \file
/// Decides how the activations of one site are coded: statistics of what enters it, then, with the weights that they meet, the format.
#pragma once

#include <agilequant/model/executor.hpp>

#include "calibrate/layer_walk.hpp"
#include "calibrate/recipe.hpp"
#include "calibrate/site_weights.hpp"

namespace aq::example {

class site_coder {
public:
    /// For rows of `channels`, `wanted` being the site's format in the recipe. Borrows the recipe. out_of_memory.
    [[nodiscard]] status reset(const recipe& how, const site_format& wanted, std::size_t channels);
    /// Takes in what enters the site. What trip_calibrator::add answers.
    [[nodiscard]] status add(site_rows& x);
    /// How it is best coded; of rotated and not rotated what has less error in the outputs, where the recipe tries both.
    [[nodiscard]] status choose(const site_weights& weights, const executor& threads, site_coding& out) const;

    /// Of all that was added, before a rotation.
    [[nodiscard]] value_range range() const noexcept { return plain_.range(); }
    /// Some of the rows, rotated or not.
    [[nodiscard]] matrix_view<const float> sample(bool is_rotated) const noexcept {
        return is_rotated ? rotated_.sample() : plain_.sample();
    }

private:
    [[nodiscard]] status search(const site_weights& weights, const executor& threads, site_coding& out, double& error) const;

    const recipe* recipe_ = nullptr;
    site_format wanted_;
    bool rotates_ = false;
    trip_calibrator plain_, rotated_;
    std::vector<float> copy_;
};

}  // namespace aq::example
