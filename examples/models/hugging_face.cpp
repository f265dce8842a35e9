#include "models/hugging_face.hpp"

#include <set>

#include "models/hugging_face_config.hpp"

namespace aq::models {
namespace {

/// A weight, and what its tensor is called without ".weight" or, for its bias, ".bias".
struct named_weight {
    weight_id id;
    const char* name;
    std::size_t parts = 1, part = 0;  ///< of the tensor: BLOOM's has a head's queries, then its keys, then its values
};

struct family_names {
    const char* prefixes[2];  ///< of all but the head: of a model with a head, and of one without
    const char* layers;
    bool has_biases;
    std::vector<named_weight> of_model, of_layer;
};

/// Rows of OPT's positions before that of the first token.
constexpr std::size_t unused_positions = 2;
constexpr char head_name[] = "lm_head.weight";

family_names names_of_llama() {
    return {{"model.", ""},
            "layers.",
            false,
            {{weight_id::embedding, "embed_tokens"}, {weight_id::final_norm, "norm"}},
            {{weight_id::attention_norm, "input_layernorm"},
             {weight_id::q, "self_attn.q_proj"},
             {weight_id::k, "self_attn.k_proj"},
             {weight_id::v, "self_attn.v_proj"},
             {weight_id::o, "self_attn.o_proj"},
             {weight_id::mlp_norm, "post_attention_layernorm"},
             {weight_id::gate, "mlp.gate_proj"},
             {weight_id::up, "mlp.up_proj"},
             {weight_id::down, "mlp.down_proj"}}};
}

family_names names_of_opt() {
    return {{"model.decoder.", "decoder."},
            "layers.",
            true,
            {{weight_id::embedding, "embed_tokens"},
             {weight_id::positions, "embed_positions"},
             {weight_id::final_norm, "final_layer_norm"}},
            {{weight_id::attention_norm, "self_attn_layer_norm"},
             {weight_id::q, "self_attn.q_proj"},
             {weight_id::k, "self_attn.k_proj"},
             {weight_id::v, "self_attn.v_proj"},
             {weight_id::o, "self_attn.out_proj"},
             {weight_id::mlp_norm, "final_layer_norm"},
             {weight_id::up, "fc1"},
             {weight_id::down, "fc2"}}};
}

family_names names_of_bloom() {
    return {{"transformer.", ""},
            "h.",
            true,
            {{weight_id::embedding, "word_embeddings"},
             {weight_id::embedding_norm, "word_embeddings_layernorm"},
             {weight_id::final_norm, "ln_f"}},
            {{weight_id::attention_norm, "input_layernorm"},
             {weight_id::q, "self_attention.query_key_value", 3, 0},
             {weight_id::k, "self_attention.query_key_value", 3, 1},
             {weight_id::v, "self_attention.query_key_value", 3, 2},
             {weight_id::o, "self_attention.dense"},
             {weight_id::mlp_norm, "post_attention_layernorm"},
             {weight_id::up, "mlp.dense_h_to_4h"},
             {weight_id::down, "mlp.dense_4h_to_h"}}};
}

family_names names_of(family f) {
    switch (f) {
        case family::llama: return names_of_llama();
        case family::opt: return names_of_opt();
        default: return names_of_bloom();
    }
}

std::string text_of(const std::vector<std::uint64_t>& shape) {
    std::string text = "[";
    for (const std::uint64_t dimension : shape) text.append(text.size() > 1 ? "," : "").append(std::to_string(dimension));
    return text + "]";
}

/// Finds each tensor under its name, holds its shape against the configuration, and remembers which it has used.
class weight_finder {
public:
    weight_finder(const configuration& config, const tensor_set& tensors, const std::string& file)
        : config_(config), tensors_(tensors), file_(file), table_(std::make_unique<weight_table>(config.model)) {}

    std::unique_ptr<weight_table> find_all() {
        const family_names names = names_of(config_.family);
        const auto is_there = [&](const std::string& prefix) {
            return tensors_.find(prefix + names.of_model.front().name + ".weight") != nullptr;
        };
        const std::string prefix =
            !is_there(names.prefixes[0]) && is_there(names.prefixes[1]) ? names.prefixes[1] : names.prefixes[0];
        for (const named_weight& w : names.of_model) add(w, prefix, names.has_biases);
        for (std::size_t layer = 0; layer < config_.model.layers; ++layer) {
            const std::string of_layer = prefix + names.layers + std::to_string(layer) + ".";
            for (const named_weight& w : names.of_layer) add(w, of_layer, names.has_biases);
        }
        add_head();
        refuse_unused();
        return std::move(table_);
    }

private:
    /// Hugging Face's default: LLaMA's head is its own, those of the others are the embedding.
    void add_head() {
        const bool there = tensors_.find(head_name) != nullptr;
        if (config_.tied.value_or(config_.family != family::llama || !there)) {
            table_->tie_head();
            used_.insert(head_name);  // where it is stored as well, it is the embedding's copy
        } else {
            add(weight_id::head, {weight_id::head, ""}, head_name);
        }
    }

    void add(const named_weight& w, const std::string& prefix, bool has_biases) {
        add(w.id, w, prefix + w.name + ".weight");
        if (has_biases && bias_of(w.id) != w.id) add(bias_of(w.id), w, prefix + w.name + ".bias");
    }

    void add(weight_id id, const named_weight& w, const std::string& name) {
        const tensor* found = tensors_.find(name);
        if (found == nullptr) fail(file_, "tensor " + in_quotes(name) + " is missing");
        const matrix_shape shape = shape_of(config_.model, id);
        const std::size_t skipped = id == weight_id::positions ? unused_positions : 0;
        std::vector<std::uint64_t> expected{shape.rows * w.parts + skipped, shape.cols};
        if (is_vector(id)) expected = {shape.cols * w.parts};
        if (found->shape != expected)
            fail(found->place, "shape is " + text_of(found->shape) + " but the configuration asks for " + text_of(expected));
        if (!reads_as_float(found->type))
            fail(found->place, std::string("dtype is ") + name_of(found->type) + " but only F32, F16 and BF16 are read");
        const std::size_t run = config_.model.head_dim() * (is_vector(id) ? 1 : shape.cols);
        table_->add(id, found->type, found->data.substr(skipped * shape.cols * bytes_of(found->type)), {w.parts, w.part, run});
        used_.insert(name);
    }

    static bool is_vector(weight_id id) {
        return id == weight_id::final_norm || id == weight_id::attention_norm || id == weight_id::mlp_norm ||
               id >= weight_id::embedding_norm;
    }

    /// A tensor that would be left out (a bias of LLaMA, an adapter) means that the output would be wrong. Old files store the
    /// frequencies of the rotation, which follow from rope_theta.
    void refuse_unused() const {
        constexpr std::string_view frequencies = ".rotary_emb.inv_freq";
        for (const auto& [name, found] : tensors_.all()) {
            const bool derived = name.size() > frequencies.size() &&
                                 name.compare(name.size() - frequencies.size(), std::string::npos, frequencies) == 0;
            if (!derived && used_.count(name) == 0)
                fail(found.place, "is not a part of the model that the configuration describes");
        }
    }

    const configuration& config_;
    const tensor_set& tensors_;
    const std::string& file_;
    std::unique_ptr<weight_table> table_;
    std::set<std::string, std::less<>> used_;
};

}  // namespace

loaded_model load_hugging_face(const named_bytes& config, const named_bytes& tensors,
                               const std::optional<named_bytes>& tokenizer) {
    configuration read = read_configuration(config);
    tensor_set set;
    set.add_safetensors(tensors);
    loaded_model model;
    model.weights = weight_finder(read, set, tensors.name).find_all();
    model.source = model.weights->source();
    model.name = tensors.name;
    model.family = read.family;
    model.config = read.model;
    model.bos = read.bos;
    model.eos = std::move(read.eos);
    if (tokenizer) {
        model.tokenizer = make_llama2c_tokenizer(*tokenizer, model.config.vocabulary);
        model.tokenizer_file = tokenizer->bytes;
    } else {
        model.tokenizer = make_byte_tokenizer();
        if (model.config.vocabulary != model.tokenizer->vocabulary()) {
            fail(inside(config.name, "vocab_size"),
                 "is " + std::to_string(model.config.vocabulary) +
                     ": without a tokenizer.bin of llama2.c's kind only 256, a token per byte, is read");
        }
    }
    return model;
}

}  // namespace aq::models
