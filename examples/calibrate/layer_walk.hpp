/// \file
/// The texts that a model is calibrated on, on their way through its layers: the rows of all of them stand in front of one layer, which
/// can be run as often as its sites have to be looked at, before they move on. So a model of many layers costs a few runs of each,
/// and one layer's memory.
#pragma once

#include <agilequant/model/transformer.hpp>
#include <memory>
#include <vector>

#include "models/loaded_model.hpp"

namespace aq::example {

using token_windows = std::vector<std::vector<std::uint32_t>>;

/// What a walk runs with.
struct walk_options {
    model_options formats;  ///< attention, cache, pruning, and of weights that do not come packed; the sites come with each layer
    const kernel_table* kernels = nullptr;
    executor threads;
};

/// How one layer is, for the time being.
struct layer_state {
    weight_source weights;
    site_format sites[site_count];
};

/// What entered one site, of one window.
struct site_rows {
    std::size_t channels = 0;
    std::vector<float> values;          // [rows,channels], before a rotation
    std::vector<std::uint32_t> tokens;  // [rows]: which of the window's

    [[nodiscard]] matrix_view<float> view() noexcept { return {values.data(), tokens.size(), channels}; }
    [[nodiscard]] float* row(std::size_t r) noexcept { return values.data() + r * channels; }
};

class layer_walk {
public:
    virtual ~layer_walk() = default;
    /// Puts the embedded windows in front of layer 0. What loading answers; bad_argument: no kernels, a pruning plan for other layers, no
    /// window, or one that is empty, too long or of tokens that the model does not have. After a failure there are no windows.
    [[nodiscard]] virtual status begin(const token_windows& windows) = 0;
    /// From now on, the layer that they stand in front of is as this says. The packed weights stay borrowed until the next advance() or
    /// set(). bad_argument: there is no window, or no layer left; what loading answers: the layer is not set then.
    [[nodiscard]] virtual status set(const layer_state& state) = 0;
    /// Runs one window through the layer, as it was set, and tells what entered a site. bad_argument: there is no such window, or the layer
    /// is not set.
    [[nodiscard]] virtual status look(std::size_t window, site where, site_rows& out) = 0;
    /// Moves all windows behind the layer, as it was set, pruned where the plan says so; the next one is to be set. bad_argument: the
    /// layer is not set. After any other failure, begin() again.
    [[nodiscard]] virtual status advance() = 0;
    [[nodiscard]] virtual std::size_t layer() const noexcept = 0;
    [[nodiscard]] virtual std::size_t windows() const noexcept = 0;
};

/// A walk through a model of any family. `config` and the source behind the layer states are those of the model.
[[nodiscard]] std::unique_ptr<layer_walk> make_walk(models::family family, const model_config& config,
                                                    const weight_source& original, const walk_options& options);

}  // namespace aq::example
