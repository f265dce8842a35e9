/// \file
/// What each site is worth for the final error: how far the model's predictions move when this one site alone changes from one state of
/// the quantization to another, its activations' format and the weights behind it together.
#pragma once

#include <functional>
#include <vector>

#include "calibrate/output_distance.hpp"
#include "calibrate/quantized_weights.hpp"

namespace aq::example {

/// A model in some state of its quantization: its weights, packed as far as they are, and how the activations of its sites are coded. Borrowed.
struct model_state {
    weight_source weights;
    const activation_profile* profile = nullptr;
};

/// The place of a site in lists [layers * site_count].
[[nodiscard]] constexpr std::size_t place_of(std::size_t layer, site where) noexcept {
    return layer * site_count + static_cast<std::size_t>(where);
}

/// Two states of one model, mixed: each site, with the matrices behind it, is of one of them. Everything else is of the first.
class mixed_state {
public:
    /// All sites are of the first. Borrows the states, whose floats, where neither has packed a matrix, should be those of one function: not one rotated and one
    /// not. null_pointer: a state without a profile or `read`; bad_shape: a profile is for another model; out_of_memory.
    [[nodiscard]] status reset(models::family family, const model_config& config, const model_state& first,
                               const model_state& second);
    void take_second(std::size_t layer, site where, bool is_second) noexcept;

    /// Good as long as this stays where it is.
    [[nodiscard]] model_state state() noexcept { return {{this, read, packed}, &profile_}; }

private:
    /// The state that a weight is of.
    [[nodiscard]] const weight_source& owner(weight_id id, std::size_t layer) const noexcept;
    static status read(void* self, weight_id id, std::size_t layer, matrix_view<float> out);
    static status packed(void* self, weight_id id, std::size_t layer, packed_weights& out);

    model_state first_, second_;
    std::size_t site_of_[weight_count] = {};  // site_count: behind none
    std::vector<char> is_second_;             // [layers * site_count]
    activation_profile profile_;
};

/// KL divergences from the float model in nats a token, as output_distance has them.
struct site_shares {
    double base = 0.0;          ///< of the state that is changed from
    double all = 0.0;           ///< with all sites changed: not the sum of what each adds, since errors meet
    std::vector<double> sites;  ///< [layers * site_count] of the base with this one changed

    /// What one adds to the base; negative where the change does good.
    [[nodiscard]] double added(std::size_t place) const { return sites[place] - base; }
    /// What it adds, of the sum that all add alone, which need not be what they add together. 0 where that sum is none.
    [[nodiscard]] double share(std::size_t place) const;
};

/// Changes one site at a time from `base` to `changed`, then all of them: layers * site_count + 2 runs over the windows of `distance`, which has begun. Out of a
/// model in float and a quantized one this is what each site does to the final error. Progress may be empty. What loading and running answer, and mixed_state::reset.
[[nodiscard]] status measure_shares(output_distance& distance, const model_state& base, const model_state& changed,
                                    site_shares& out, const std::function<void(double share_done)>& progress = {});

}  // namespace aq::example
