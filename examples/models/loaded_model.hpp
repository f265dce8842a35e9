/// \file
/// What every loader delivers: the numbers of a model, a source of its weights, its tokenizer and its marks.
#pragma once

#include <agilequant/model/config.hpp>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/family.hpp"
#include "models/mapped_file.hpp"
#include "models/precision.hpp"
#include "models/quantized_weights.hpp"
#include "models/safetensors.hpp"
#include "models/tokenizer.hpp"

namespace aq::models {

/// Sizes beyond these are no model but a broken file; below them, every product of two sizes fits 64 bits.
constexpr std::uint64_t max_size = std::uint64_t{1} << 24, max_layers = 4096;

/// Whether models of a family have a weight of this kind; a head that is tied counts.
[[nodiscard]] bool has_weight(family f, weight_id id) noexcept;

/// Which elements of a tensor are a weight: all, or run `part` of every `parts` runs, as where a head's queries, keys and values follow
/// each other.
struct tensor_part {
    std::size_t parts = 1, part = 0;
    std::size_t run = 0;  ///< elements; counts where there are several parts
};

/// Where each weight of a model lies in memory. Borrows the bytes; one call to add() per weight, layers in order.
class weight_table {
public:
    explicit weight_table(const model_config& config) : config_(config) {}

    /// `data` has as many elements as shape_of() says, times `parts`, of a dtype that reads as float; or none: this layer's is not here.
    void add(weight_id id, dtype type, std::string_view data, tensor_part part = {}) {
        weights_[static_cast<std::size_t>(id)].push_back({type, data, part});
    }
    /// From now on the head is the embedding.
    void tie_head() noexcept { tied_ = true; }
    [[nodiscard]] bool tied() const noexcept { return tied_; }
    /// Bytes that all weights take as they are stored; a tied head counts once.
    [[nodiscard]] std::uint64_t stored_bytes() const noexcept;
    /// CRC-32C of all of them, in the order of weight_id.
    [[nodiscard]] std::uint32_t checksum() const noexcept;

    /// weight_source::read: bad_shape where `out` has another shape (but the first of the learned positions may be asked for alone, as by a
    /// model that is built for a shorter context), source_failed where there is no such weight.
    [[nodiscard]] status read(weight_id id, std::size_t layer, matrix_view<float> out) const noexcept;
    /// A source that reads this table, for as long as it stays where it is.
    [[nodiscard]] weight_source source() noexcept;

private:
    struct weight {
        dtype type;
        std::string_view data;
        tensor_part part;
    };
    static void read_row(const weight& w, std::size_t first, std::size_t count, float* out) noexcept;
    model_config config_;
    std::array<std::vector<weight>, weight_count> weights_;
    bool tied_ = false;
};

/// A model, ready to build. Move-only; `source` stays good when it moves, and as long as it lives. Where it was read from
/// memory, that memory must live as long.
struct loaded_model {
    std::string name;
    models::family family = models::family::llama;
    model_config config;
    weight_source source;
    std::unique_ptr<models::tokenizer> tokenizer;
    std::optional<int> bos;                 ///< what a text starts with, if anything
    std::vector<int> eos;                   ///< the tokens that end a text, if any
    std::unique_ptr<weight_table> weights;  ///< what `source` reads
    std::vector<mapped_file> files;         ///< what `weights` points into, unless it was read from memory
    std::string tokenizer_file;             ///< the contents of llama2.c's, which `tokenizer` was made of; empty: it has none

    /// Where the model was quantized before it was stored: matrices and formats, which `source` delivers, and what for.
    std::unique_ptr<quantized_weights> quantized;
    precision made_for;

    /// bos, if there is one, and the tokens of the text.
    [[nodiscard]] std::vector<int> encode(std::string_view text) const;
    [[nodiscard]] bool ends_at(int token) const noexcept;
};

/// What a format calls the fields that check_heads() speaks of.
struct head_field_names {
    const char *dim, *heads, *kv_heads;
};

/// Throws load_error unless the heads divide the dimension, the key-value heads the heads, and a head has an even size that
/// the library takes; or where validate() has another complaint.
void check_heads(const model_config& config, std::string_view file, const head_field_names& names);

}  // namespace aq::models
