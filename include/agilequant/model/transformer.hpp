/// \file
/// A decoder-only transformer: weights in the formats that its options name. Families are traits: llama.hpp, opt.hpp, bloom.hpp.
#pragma once

#include <cstring>
#include <memory>
#include <new>

#include "agilequant/elementwise/alibi.hpp"
#include "agilequant/model/activation_profile.hpp"
#include "agilequant/model/block.hpp"
#include "agilequant/prune/schedule.hpp"

namespace aq {

/// Everything that may differ between two quantizations of one model.
struct model_options {
    bool float_weights = true;
    weight_format weights;          ///< of every linear in a block, where not float
    site_format sites[site_count];  ///< activations, where weights are not float and no profile says otherwise
    probability_coding coding = probability_coding::softmax;
    int kv_bits = 32;           ///< 32 (float), 8 or 4
    std::size_t kv_group = 0;   ///< channels of a head that share a scale there; 0: what is usual for the width
    bool rotates_keys = false;  ///< see elementwise/hadamard.hpp
    prune_plan pruning;         ///< which layers drop tokens of a prompt, and how many
};

/// Told after each layer: for progress on a terminal.
struct load_observer {
    void* self = nullptr;
    void (*loaded)(void* self, std::size_t layers_done, std::size_t layers) = nullptr;
};

template <class Family>
class transformer {
public:
    /// Reads and quantizes every weight, one at a time: beside the model itself this takes one weight in float. What the source has packed
    /// already is used where it lies, with the channels in the order that it was packed for. `profile`: the formats of all
    /// sites, instead of those of the options, and TRIP's exponents; or null. bad_argument: the config is not valid, or a site's format is
    /// none, or it is static and there is no profile; bad_shape: the profile, or a packed weight, is for another model; null_pointer: a
    /// source without `read`; wrong_tile; what the source says; what pack() says. After a failure the model is empty.
    [[nodiscard]] status load(const model_config& config, const model_options& options, const weight_source& source,
                              const activation_profile* profile = nullptr, load_observer observer = {}) noexcept {
        const model_config wanted = config;  // which may be this model's own, as may the options
        const model_options formats = options;
        *this = transformer();
        const status loaded = read_all(wanted, formats, source, profile, observer);
        if (loaded != status::ok) *this = transformer();
        return loaded;
    }

    /// Whether there is anything to run.
    [[nodiscard]] bool is_empty() const noexcept { return blocks_ == nullptr; }

    [[nodiscard]] const model_config& config() const noexcept { return config_; }
    [[nodiscard]] const model_options& options() const noexcept { return options_; }
    [[nodiscard]] const block<Family>& block_at(std::size_t layer) const noexcept { return blocks_[layer]; }
    [[nodiscard]] const float* embedding(std::size_t token) const noexcept { return embedding_.data() + token * config_.dim; }
    /// The vector [dim] of a learned position.
    [[nodiscard]] const float* position(std::size_t p) const noexcept { return positions_.data() + p * config_.dim; }
    [[nodiscard]] const norm_weights& final_norm() const noexcept { return final_norm_; }
    [[nodiscard]] const linear& head() const noexcept { return head_; }

    /// What the blocks of layer `layer` need to know.
    [[nodiscard]] block_settings settings(std::size_t layer) const noexcept {
        block_settings s;
        s.config = config_;
        s.layer = layer;
        s.coding = options_.coding;
        s.rotates_keys = options_.rotates_keys;
        if constexpr (kind == position_kind::rotary) s.rope_table = {positions_.data(), config_.max_length, config_.head_dim()};
        if constexpr (kind == position_kind::alibi) s.slopes = positions_.data();
        for (std::size_t i = 0; i < site_count; ++i) s.sites[i] = formats_[layer * site_count + i];
        return s;
    }

    /// x [count,dim] = what enters the first layer for tokens that stand at past and behind it. bad_argument: a token beyond the vocabulary.
    [[nodiscard]] status embed(run_context& context, const std::uint32_t* tokens, [[maybe_unused]] std::size_t past,
                               matrix_view<float> x) const noexcept {
        for (std::size_t i = 0; i < x.rows; ++i) {
            if (tokens[i] >= config_.vocabulary) return status::bad_argument;
            float* const row = x.row(i);
            std::memcpy(row, embedding(tokens[i]), config_.dim * sizeof(float));
            if constexpr (kind == position_kind::learned) {
                const float* const learned = position(past + i);
                for (std::size_t channel = 0; channel < config_.dim; ++channel) row[channel] += learned[channel];
            }
        }
        if constexpr (!Family::has_embedding_norm) return status::ok;
        return write_rows(context, Family::normalized(settings(0), embedding_norm_, x), x);
    }

    /// Bytes of the weights of all blocks, and of everything.
    [[nodiscard]] std::size_t block_bytes() const noexcept {
        std::size_t sum = 0;
        for (std::size_t layer = 0; layer < config_.layers; ++layer) sum += blocks_[layer].bytes();
        return sum;
    }
    [[nodiscard]] std::size_t bytes() const noexcept {
        const std::size_t learned = kind == position_kind::learned ? positions_.size_bytes() : 0;
        return block_bytes() + embedding_.size_bytes() + learned + embedding_norm_.bytes() + final_norm_.bytes() + head_.bytes();
    }

private:
    static constexpr position_kind kind = Family::positions;

    [[nodiscard]] status read_all(const model_config& config, const model_options& options, const weight_source& source,
                                  const activation_profile* profile, load_observer observer) noexcept {
        AQ_TRY(validate(config));
        if (source.read == nullptr) return status::null_pointer;
        config_ = config;
        options_ = options;
        AQ_TRY(apply(profile));
        reader read{config, source, {}};
        AQ_TRY(read.matrix(weight_id::embedding, 0, embedding_));
        if constexpr (Family::has_embedding_norm) AQ_TRY(load_norm(read, weight_id::embedding_norm, 0, embedding_norm_));
        AQ_TRY(load_norm(read, weight_id::final_norm, 0, final_norm_));
        matrix_view<float> w;
        AQ_TRY(read(weight_id::head, 0, w));
        AQ_TRY(head_.assign(w));
        blocks_.reset(new (std::nothrow) block<Family>[config.layers]);
        if (blocks_ == nullptr) return status::out_of_memory;
        for (std::size_t layer = 0; layer < config.layers; ++layer) {
            AQ_TRY(load_block(read, layer, profile));
            if (observer.loaded != nullptr) observer.loaded(observer.self, layer + 1, config.layers);
        }
        return load_positions(read);
    }

    /// Reads weights into one buffer that is reused.
    struct reader {
        const model_config& config;
        const weight_source& source;
        aligned_buffer<float> buffer;

        [[nodiscard]] status operator()(weight_id id, std::size_t layer, matrix_view<float>& out) noexcept {
            const matrix_shape shape = shape_of(config, id);
            AQ_TRY(buffer.reserve(shape.rows * shape.cols));
            out = {buffer.data(), shape.rows, shape.cols};
            return source.read(source.self, id, layer, out);
        }
        /// What the source has packed, if anything.
        [[nodiscard]] status packed(weight_id id, std::size_t layer, packed_weights& out) noexcept {
            if (source.packed == nullptr) return status::ok;
            AQ_TRY(source.packed(source.self, id, layer, out));
            const bool fits = out.codes == nullptr || matrix_shape{out.n, out.layout.k} == shape_of(config, id);
            return fits ? status::ok : status::bad_shape;
        }
        /// Straight into its place, for what stays float.
        [[nodiscard]] status matrix(weight_id id, std::size_t layer, aligned_buffer<float>& out) noexcept {
            const matrix_shape shape = shape_of(config, id);
            AQ_TRY(out.reset(shape.rows * shape.cols));
            return source.read(source.self, id, layer, {out.data(), shape.rows, shape.cols});
        }
    };

    /// Reads or computes what positions need.
    [[nodiscard]] status load_positions(reader& read) noexcept {
        const model_config& c = config_;
        if constexpr (kind == position_kind::learned) return read.matrix(weight_id::positions, 0, positions_);
        AQ_TRY(positions_.reset(kind == position_kind::alibi ? c.heads : c.max_length * c.head_dim()));
        if constexpr (kind == position_kind::rotary)
            return make_rope_table(c.rope_theta, {positions_.data(), c.max_length, c.head_dim()});
        alibi_slopes(c.heads, positions_.data());
        return status::ok;
    }

    [[nodiscard]] static status load_norm(reader& read, weight_id id, std::size_t layer, norm_weights& out) noexcept {
        AQ_TRY(read.matrix(id, layer, out.gain));
        return Family::has_biases ? read.matrix(bias_of(id), layer, out.bias) : status::ok;
    }

    [[nodiscard]] status apply(const activation_profile* profile) noexcept {
        if (profile != nullptr && !profile->fits(config_)) return status::bad_shape;
        AQ_TRY(formats_.reset(config_.layers * site_count));
        for (std::size_t i = 0; i < formats_.size(); ++i) {
            const std::size_t layer = i / site_count, s = i % site_count;
            formats_[i] = profile == nullptr ? options_.sites[s] : profile->format(layer, static_cast<site>(s));
            if (formats_[i].is_float) continue;
            if (!is_valid(formats_[i].activations) || (formats_[i].activations.is_static && profile == nullptr))
                return status::bad_argument;
        }
        return status::ok;
    }

    [[nodiscard]] status load_linear(reader& read, weight_id id, std::size_t layer, site where, const activation_profile* profile,
                                     linear& out) noexcept {
        AQ_TRY(load_matrix(read, id, layer, where, profile, out));
        if constexpr (!Family::has_biases) return status::ok;
        matrix_view<float> bias;
        AQ_TRY(read(bias_of(id), layer, bias));
        return out.assign_bias(bias);
    }

    [[nodiscard]] status load_matrix(reader& read, weight_id id, std::size_t layer, site where, const activation_profile* profile,
                                     linear& out) noexcept {
        packed_weights packed;
        AQ_TRY(read.packed(id, layer, packed));
        if (packed.codes != nullptr) return out.assign(packed);
        matrix_view<float> w;
        AQ_TRY(read(id, layer, w));
        if (formats_[layer * site_count + static_cast<std::size_t>(where)].is_rotated) AQ_TRY(hadamard(w));
        if (options_.float_weights) return out.assign(w);
        return out.assign(w, options_.weights, profile == nullptr ? nullptr : profile->exponents(layer, where));
    }

    [[nodiscard]] status load_block(reader& read, std::size_t layer, const activation_profile* profile) noexcept {
        block<Family>& b = blocks_[layer];
        AQ_TRY(load_norm(read, weight_id::attention_norm, layer, b.attention.norm));
        AQ_TRY(load_linear(read, weight_id::q, layer, site::attention, profile, b.attention.q));
        AQ_TRY(load_linear(read, weight_id::k, layer, site::attention, profile, b.attention.k));
        AQ_TRY(load_linear(read, weight_id::v, layer, site::attention, profile, b.attention.v));
        AQ_TRY(load_linear(read, weight_id::o, layer, site::attention_output, profile, b.attention.o));
        AQ_TRY(load_norm(read, weight_id::mlp_norm, layer, b.mlp.norm));
        if constexpr (Family::mlp::is_gated) AQ_TRY(load_linear(read, weight_id::gate, layer, site::mlp, profile, b.mlp.gate));
        AQ_TRY(load_linear(read, weight_id::up, layer, site::mlp, profile, b.mlp.up));
        return load_linear(read, weight_id::down, layer, site::mlp_middle, profile, b.mlp.down);
    }

    model_config config_;
    model_options options_;
    std::unique_ptr<block<Family>[]> blocks_;
    aligned_buffer<float> embedding_;
    aligned_buffer<float> positions_;  // a table for RoPE, the learned vectors, or ALiBi's slopes
    norm_weights embedding_norm_, final_norm_;
    aligned_buffer<site_format> formats_;  // [layers,sites]
    linear head_;
};

}  // namespace aq
