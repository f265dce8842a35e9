/// \file
/// The matrices of a model as far as they are packed, and the formats of its sites: what calibrating makes, layer by layer, and what a
/// quantized model is built from.
#pragma once

#include <agilequant/model/activation_profile.hpp>
#include <agilequant/pack/packed_matrix.hpp>
#include <vector>

#include "models/family.hpp"

namespace aq::models {

/// A site, and the linears that it feeds.
struct linears_of_site {
    site where;
    std::vector<weight_id> ids;
};
/// Those of every layer of a family, in the order in which a block computes them.
[[nodiscard]] const std::vector<linears_of_site>& linears_of(family f);

class quantized_weights {
public:
    /// Nothing is packed from now on. Borrows the source. out_of_memory.
    [[nodiscard]] status begin(const model_config& config, const weight_source& original);

    /// Takes a matrix, or borrows one; what was there before is freed.
    void put(weight_id id, std::size_t layer, packed_storage<>&& weights);
    void borrow(weight_id id, std::size_t layer, const packed_weights& weights);
    /// codes null: not packed.
    [[nodiscard]] const packed_weights& at(weight_id id, std::size_t layer) const { return views_[place(id, layer)]; }

    /// How many layers are complete, from 0 on.
    std::size_t layers_done = 0;
    activation_profile profile;

    /// The packed matrices, and everything else from the original. Good as long as this stays where it is.
    [[nodiscard]] weight_source source() noexcept { return {this, read, packed}; }

private:
    static constexpr std::size_t ids_of_layer = static_cast<std::size_t>(weight_id::down) + 1;
    [[nodiscard]] static std::size_t place(weight_id id, std::size_t layer) {
        return layer * ids_of_layer + static_cast<std::size_t>(id);
    }
    static status read(void* self, weight_id id, std::size_t layer, matrix_view<float> out);
    static status packed(void* self, weight_id id, std::size_t layer, packed_weights& out);

    weight_source original_;
    std::vector<packed_storage<>> storage_;
    std::vector<packed_weights> views_;
};

}  // namespace aq::models
