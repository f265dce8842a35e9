/// \file
/// Quantizes a model, site by site in the order in which it computes ("true sequential", GPTQ): every site is calibrated, and the weights
/// behind it are rounded, on what the model makes of the texts with everything before it as it will be: coded, rotated, pruned.
#pragma once

#include <functional>

#include "calibrate/layer_walk.hpp"
#include "calibrate/quantized_weights.hpp"
#include "calibrate/recipe.hpp"

namespace aq::example {

/// Who is told what; any of them may be empty.
struct calibration_events {
    std::function<void(const site_report&)> site;  ///< after each site
    /// After each layer, all of whose matrices are packed, and which counts as done. A failure ends the run.
    std::function<status(std::size_t layer)> layer;
    std::function<void(double share_done)> progress;  ///< often; the share of all layers, also where some were done before
};

class calibrator {
public:
    /// Borrows the model.
    calibrator(const models::loaded_model& model, const recipe& wanted, const walk_options& run);

    /// Calibrates all layers from out.layers_done on; those before have to be there, packed and with their formats. out.begin() was called
    /// for this model. After a failure, run() again goes on with the layer that was not finished, and makes what an undisturbed run makes.
    /// What walks, quantizers and packing answer: bad_argument without kernels or windows.
    [[nodiscard]] status run(const token_windows& windows, quantized_weights& out, const calibration_events& told);

private:
    [[nodiscard]] status calibrate(std::size_t layer, quantized_weights& out, const calibration_events& told);

    const models::loaded_model& model_;
    recipe recipe_;
    walk_options options_;
    std::unique_ptr<layer_walk> walk_, float_walk_;  // the second where weights are refitted to it
};

}  // namespace aq::example
