/// \file
/// Tiny models of every family, packed, with formats of every kind, to write model files of.
#pragma once

#include <doctest/doctest.h>
#include <agilequant/pack/file_writer.hpp>

#include <string>
#include <vector>

#include "llama/settings.hpp"
#include "models/any_model.hpp"
#include "models/files.hpp"
#include "models/model_file.hpp"
#include "support/tiny_model.hpp"

namespace aq_test {

using aq::models::family;
inline constexpr family families[] = {family::llama, family::opt, family::bloom};

/// Which matrices stay float.
using is_float_matrix = bool (*)(weight_id id, std::size_t layer);

/// A model of random weights, and its matrices packed. Stays where it is.
struct model_file_case {
    tiny_weights weights{tiny_seed};
    aq::models::loaded_model model;
    aq::models::quantized_weights q;
    aq::models::precision made_for;
    bool tied = false;

    explicit model_file_case(family f, bool is_tied = false, is_float_matrix stays_float = nullptr, std::size_t vocabulary = 256)
        : tied(is_tied) {
        model.name = "tiny \xC3\xA9";
        model.family = f;
        model.config = tiny_config(vocabulary, 32, 44, 2, 4, f == family::llama ? 2 : 4, 24);
        model.config.rope_theta = 12345.678F;
        model.config.norm_eps = 3e-6F;
        model.config.rope = aq::rope_pairing::interleaved;
        model.source = {this, read};
        model.tokenizer = aq::models::make_byte_tokenizer();
        made_for.weight_bits = 4, made_for.activation_bits = 5, made_for.group = 16;
        REQUIRE(q.begin(model.config, model.source) == aq::status::ok);
        for (std::size_t layer = 0; layer < model.config.layers; ++layer) pack_layer(layer, stays_float);
    }
    model_file_case(const model_file_case&) = delete;
    model_file_case& operator=(const model_file_case&) = delete;

    [[nodiscard]] std::vector<float> values(const aq::weight_source& source, weight_id id, std::size_t layer) const {
        const aq::matrix_shape shape = aq::shape_of(model.config, id);
        std::vector<float> out(shape.rows * shape.cols);
        REQUIRE(source.read(source.self, id, layer, {out.data(), shape.rows, shape.cols}) == aq::status::ok);
        return out;
    }

private:
    static aq::status read(void* self, weight_id id, std::size_t layer, aq::matrix_view<float> out) {
        auto& c = *static_cast<model_file_case*>(self);
        const aq::weight_source source = c.weights.source();
        return source.read(source.self, id == weight_id::head && c.tied ? weight_id::embedding : id, layer, out);
    }

    /// Static, clipped, float and plain; two of them rotated. Exponents where the site is packed throughout: files have them in the matrices.
    void pack_layer(std::size_t layer, is_float_matrix stays_float) {
        using aq::site;
        aq::site_format* const format[] = {&q.profile.format(layer, site::attention),
                                           &q.profile.format(layer, site::attention_output), &q.profile.format(layer, site::mlp),
                                           &q.profile.format(layer, site::mlp_middle)};
        const float shift = static_cast<float>(layer) * 0.0625F;
        for (std::size_t i = 0; i < 4; ++i) format[(i + layer) % 4]->is_rotated = i == 2;
        for (const int i : {0, 1, 3}) format[i]->is_float = false;
        format[0]->activations = {4, true, true, {0.1F + shift, 7}, 1.0F};
        format[1]->activations = {5, false, false, {}, 0.8F + shift};
        format[3]->activations = {8, false, true, {0.3F + shift, 0}, 1.0F};
        const aq::weight_format packing = aq::example::options_of(made_for, model.config).weights;
        for (const auto& linears : aq::models::linears_of(model.family)) {
            std::uint8_t* const exponents = q.profile.exponents(layer, linears.where);
            for (std::size_t c = 0; stays_float == nullptr && c < q.profile.channels(linears.where); ++c)
                exponents[c] = c % 16 == 5 ? 3 : c % 7 == 0 ? 1 : 0;
            for (const weight_id id : linears.ids) {
                if (stays_float != nullptr && stays_float(id, layer)) continue;
                const std::vector<float> w = values(model.source, id, layer);
                aq::packed_storage<> packed;
                REQUIRE(aq::pack({w.data(), aq::shape_of(model.config, id).rows, aq::shape_of(model.config, id).cols}, packing,
                                 exponents, packed) == aq::status::ok);
                q.put(id, layer, std::move(packed));
            }
        }
        q.layers_done = layer + 1;
    }
};

inline aq::byte_sink sink_of(std::string& out) {
    return {&out, [](void* self, const void* data, std::size_t size) {
                static_cast<std::string*>(self)->append(static_cast<const char*>(data), size);
                return aq::status::ok;
            }};
}

/// All bytes of a packed matrix.
inline std::string image_of(const aq::packed_weights& w) {
    aq::pack_writer writer;
    std::string out;
    REQUIRE(writer.add("w", w) == aq::status::ok);
    REQUIRE(writer.write(sink_of(out)) == aq::status::ok);
    return out;
}

inline std::string read_bytes(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

/// Logits of all of a few tokens.
inline std::vector<float> logits_of_model(const aq::models::loaded_model& model, const aq::models::precision& p,
                                          const aq::activation_profile& profile) {
    aq::example::any_model built;
    REQUIRE(built.load(model, aq::example::options_of(p, model.config), &profile) == aq::status::ok);
    aq::example::any_session session;
    REQUIRE(session.reset(built, chosen_kernels(), aq::serial_executor()) == aq::status::ok);
    const token_list tokens = tiny_tokens(model.config, 20);
    aq::forward_result r;
    REQUIRE(session.forward(tokens.data(), tokens.size(), aq::logits_of::all, r) == aq::status::ok);
    return {r.logits.data, r.logits.data + r.logits.rows * r.logits.cols};
}

}  // namespace aq_test
