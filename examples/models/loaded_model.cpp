#include "models/loaded_model.hpp"

#include <algorithm>

namespace aq::models {

std::uint64_t weight_table::stored_bytes() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& layers : weights_) {
        for (const weight& w : layers) sum += w.data.size();
    }
    return sum;
}

status weight_table::read(weight_id id, std::size_t layer, matrix_view<float> out) const noexcept {
    if (id == weight_id::head && tied_) id = weight_id::embedding;
    const bool of_model = id == weight_id::embedding || id == weight_id::final_norm || id == weight_id::head;
    const auto& layers = weights_[static_cast<std::size_t>(id)];
    const std::size_t index = of_model ? 0 : layer;
    if (index >= layers.size()) return status::source_failed;
    if (out.shape() != shape_of(config_, id)) return status::bad_shape;
    AQ_TRY(check(out));
    for (std::size_t row = 0; row < out.rows; ++row)
        to_float(layers[index].type, layers[index].data, row * out.cols, out.cols, out.row(row));
    return status::ok;
}

weight_source weight_table::source() noexcept {
    return {this, [](void* self, weight_id id, std::size_t layer, matrix_view<float> out) {
                return static_cast<const weight_table*>(self)->read(id, layer, out);
            }};
}

std::vector<int> loaded_model::encode(std::string_view text) const {
    std::vector<int> tokens = tokenizer->encode(text);
    if (bos) tokens.insert(tokens.begin(), *bos);
    return tokens;
}

bool loaded_model::ends_at(int token) const noexcept { return std::find(eos.begin(), eos.end(), token) != eos.end(); }

void check_heads(const model_config& config, std::string_view file, const head_field_names& names) {
    const auto refuse = [&](const char* field, std::size_t value, const std::string& rule) {
        fail(inside(file, field), "is " + std::to_string(value) + " but " + rule);
    };
    if (config.dim % config.heads != 0)
        refuse(names.heads, config.heads, std::string("does not divide ") + names.dim + ", " + std::to_string(config.dim));
    if (config.heads % config.kv_heads != 0) {
        refuse(names.kv_heads, config.kv_heads,
               std::string("does not divide ") + names.heads + ", " + std::to_string(config.heads));
    }
    if (config.head_dim() % 2 != 0)
        refuse(names.dim, config.dim, "a head of it has an odd size, " + std::to_string(config.head_dim()));
    if (config.head_dim() > max_head_dim) {
        refuse(names.dim, config.dim,
               "a head of it has " + std::to_string(config.head_dim()) + " channels, more than " + std::to_string(max_head_dim));
    }
    if (validate(config) != status::ok) fail(file, "its numbers do not make a model");
}

}  // namespace aq::models
