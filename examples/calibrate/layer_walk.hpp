/// \file
/// The texts that a model is calibrated on, on their way through its layers: the rows of all of them stand in front of one layer, which can
/// be run as often as its sites have to be looked at, before they move on. So a model of many layers costs a few runs of each, and
/// one layer's memory.
#pragma once

#include <agilequant/model/transformer.hpp>
#include <memory>
#include <vector>

#include "models/loaded_model.hpp"

namespace aq::example {

using token_windows = std::vector<std::vector<std::uint32_t>>;

/// What a walk runs with.
struct walk_options {
    model_options formats;  ///< attention, cache and pruning; weights and sites come with each layer
    const kernel_table* kernels = nullptr;
    executor threads;
};

/// How one layer is, for the time being.
struct layer_state {
    weight_source weights;
    site_format sites[site_count];
};

class layer_walk {
public:
    virtual ~layer_walk() = default;
    /// Puts the embedded windows in front of layer 0. What loading answers; bad_argument: there is no window, or one is empty.
    [[nodiscard]] virtual status begin(const token_windows& windows) = 0;
    /// Runs all windows through the layer they stand in front of, and shows the observer every site of each.
    [[nodiscard]] virtual status look(const layer_state& state, site_observer observer) = 0;
    /// Moves them behind the layer, pruned where the plan says so. Where `state` is as in the last look, this is cheap.
    [[nodiscard]] virtual status advance(const layer_state& state) = 0;
    [[nodiscard]] virtual std::size_t layer() const noexcept = 0;
    /// Which tokens of a window are left.
    [[nodiscard]] virtual const std::vector<std::uint32_t>& kept(std::size_t window) const noexcept = 0;
};

/// A walk through a model of any family. `config` and the source behind the layer states are those of the model.
[[nodiscard]] std::unique_ptr<layer_walk> make_walk(models::family family, const model_config& config,
                                                    const weight_source& original, const walk_options& options);

}  // namespace aq::example
