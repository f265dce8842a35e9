#include "models/loaded_model.hpp"

#include <agilequant/core/crc32c.hpp>
#include <algorithm>

namespace aq::models {

const char* name_of(family f) noexcept {
    switch (f) {
        case family::llama: return "llama";
        case family::opt: return "opt";
        default: return "bloom";
    }
}

bool has_weight(family f, weight_id id) noexcept {
    switch (id) {
        case weight_id::gate: return f == family::llama;
        case weight_id::positions: return f == family::opt;
        case weight_id::embedding_norm:
        case weight_id::embedding_norm_bias: return f == family::bloom;
        default: return id < weight_id::positions || f != family::llama;  // the others have biases
    }
}

std::uint64_t weight_table::stored_bytes() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& layers : weights_) {
        for (const weight& w : layers) sum += w.data.size() / w.part.parts;
    }
    return sum;
}

std::uint32_t weight_table::checksum() const noexcept {
    std::uint32_t sum = 0;
    for (const auto& layers : weights_) {
        for (const weight& w : layers) sum = crc32c(sum, w.data.data(), w.data.size());
    }
    return sum;
}

/// Elements first .. first + count of a weight.
void weight_table::read_row(const weight& w, std::size_t first, std::size_t count, float* out) noexcept {
    if (w.part.parts == 1) return to_float(w.type, w.data, first, count, out);
    while (count > 0) {
        const std::size_t run = first / w.part.run, inside = first % w.part.run, now = std::min(count, w.part.run - inside);
        to_float(w.type, w.data, (run * w.part.parts + w.part.part) * w.part.run + inside, now, out);
        first += now, count -= now, out += now;
    }
}

status weight_table::read(weight_id id, std::size_t layer, matrix_view<float> out) const noexcept {
    if (id == weight_id::head && tied_) id = weight_id::embedding;
    const auto& layers = weights_[static_cast<std::size_t>(id)];
    const std::size_t index = is_of_layer(id) ? layer : 0;
    if (index >= layers.size() || layers[index].data.empty()) return status::source_failed;
    matrix_shape shape = shape_of(config_, id);
    if (id == weight_id::positions && out.rows < shape.rows) shape.rows = out.rows;
    if (out.shape() != shape) return status::bad_shape;
    AQ_TRY(check(out));
    for (std::size_t row = 0; row < out.rows; ++row) read_row(layers[index], row * out.cols, out.cols, out.row(row));
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
