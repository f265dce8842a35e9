#include "models/quantized_weights.hpp"

namespace aq::models {

const std::vector<linears_of_site>& linears_of(family f) {
    static const linears_of_site attention{site::attention, {weight_id::q, weight_id::k, weight_id::v}},
        output{site::attention_output, {weight_id::o}}, middle{site::mlp_middle, {weight_id::down}};
    static const std::vector<linears_of_site> gated{attention, output, {site::mlp, {weight_id::gate, weight_id::up}}, middle},
        plain{attention, output, {site::mlp, {weight_id::up}}, middle};
    return f == family::llama ? gated : plain;
}

status quantized_weights::begin(const model_config& config, const weight_source& original) {
    original_ = original;
    layers_done = 0;
    storage_.clear();
    storage_.resize(config.layers * ids_of_layer);
    views_.assign(config.layers * ids_of_layer, {});
    return profile.reset(config);
}

void quantized_weights::put(weight_id id, std::size_t layer, packed_storage<>&& weights) {
    packed_storage<>& mine = storage_[place(id, layer)];
    mine = std::move(weights);
    views_[place(id, layer)] = mine.view();
}

void quantized_weights::borrow(weight_id id, std::size_t layer, const packed_weights& weights) {
    views_[place(id, layer)] = weights;
    storage_[place(id, layer)] = {};
}

status quantized_weights::read(void* self, weight_id id, std::size_t layer, matrix_view<float> out) {
    const weight_source& original = static_cast<quantized_weights*>(self)->original_;
    return original.read(original.self, id, layer, out);
}

status quantized_weights::packed(void* self, weight_id id, std::size_t layer, packed_weights& out) {
    out = static_cast<quantized_weights*>(self)->at(id, layer);
    return status::ok;
}

}  // namespace aq::models
