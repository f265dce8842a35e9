/// \file
/// Quantizes a model, site by site in the order in which it computes ("true sequential"): every site is calibrated, and the
/// weights behind it are rounded, on what the model makes of the texts with everything before it as it will be: coded, rotated, pruned.
#pragma once

#include <functional>

#include "calibrate/layer_walk.hpp"
#include "calibrate/quantized_weights.hpp"
#include "calibrate/recipe.hpp"

namespace aq::example {

class calibrator {
public:
    /// Told after each site.
    using observer = std::function<void(const site_report&, std::size_t sites_done, std::size_t sites)>;

    /// Borrows the model.
    calibrator(const models::loaded_model& model, const recipe& wanted, const walk_options& run);

    /// Calibrates all layers from out.layers_done on, on which begin() was called; those before it have to be there. What walks, quantizers and packing
    /// answer; bad_argument also where weights are not to be quantized.
    [[nodiscard]] status run(const token_windows& windows, quantized_weights& out, const observer& told);

private:
    struct site_work;
    [[nodiscard]] status calibrate(site_work& work);
    [[nodiscard]] status look_at_range(site_work& work);
    [[nodiscard]] status choose_format(site_work& work);
    [[nodiscard]] status search(site_work& work, bool is_rotated, double& error);
    [[nodiscard]] status look_at_codes(site_work& work);
    [[nodiscard]] status round_weights(site_work& work);
    [[nodiscard]] status round(site_work& work, weight_id id);
    [[nodiscard]] status measure(site_work& work, weight_id id, matrix_view<const float> original,
                                 const coded_matrix& coded) const;
    [[nodiscard]] status add(hessian& sums, matrix_view<const float> x) const;
    void code_rows(const site_work& work, matrix_view<float> x) const;
    [[nodiscard]] layer_state state(quantized_weights& out, std::size_t layer) const;
    [[nodiscard]] status read(weight_id id, std::size_t layer, std::vector<float>& values) const;

    const models::loaded_model& model_;
    recipe recipe_;
    walk_options options_;
    std::unique_ptr<layer_walk> walk_;
};

}  // namespace aq::example
