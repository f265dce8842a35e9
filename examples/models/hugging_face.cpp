#include "models/hugging_face.hpp"

#include <set>

#include "models/json.hpp"

namespace aq::models {
namespace {

struct configuration {
    model_config model;
    std::optional<bool> tied;
    std::optional<int> bos;
    std::vector<int> eos;
};

void refuse_what_is_not_computed(const json_fields& fields) {
    const auto only = [&](const char* name, const std::string& found, const char* supported) {
        if (found != supported)
            fail(inside(fields.file(), name), "is " + in_quotes(found) + " but only " + in_quotes(supported) + " is read");
    };
    only("model_type", fields.text("model_type", ""), "llama");
    only("hidden_act", fields.text("hidden_act", "silu"), "silu");
    for (const char* name : {"attention_bias", "mlp_bias"}) {
        if (fields.flag(name).value_or(false)) fail(inside(fields.file(), name), "is true but biases are not read");
    }
    for (const char* name : {"rope_scaling", "quantization_config"}) {
        if (fields.find(name) != nullptr) fail(inside(fields.file(), name), "is set but only null is read");
    }
}

/// Newer files have rope_theta inside rope_parameters, beside the kind of scaling.
float rope_theta(const json_fields& fields) {
    constexpr double largest = 1e12;
    const float theta = fields.number("rope_theta", 0.0, largest, 10000.0F);
    const json* parameters = fields.find("rope_parameters");
    if (parameters == nullptr) return theta;
    const std::string text = parameters->dump();
    const json_fields inner({inside(fields.file(), "rope_parameters"), text});
    if (const std::string type = inner.text("rope_type", "default"); type != "default") {
        fail(inside(inner.file(), "rope_type"), "is " + in_quotes(type) + " but only 'default' is read");
    }
    return inner.number("rope_theta", 0.0, largest, theta);
}

int token_from(const json_fields& fields, const char* name, const json& value, std::size_t vocabulary) {
    const auto token = unsigned_below(value, vocabulary);
    if (!token) fail(inside(fields.file(), name), "is not a token from 0 to " + std::to_string(vocabulary - 1));
    return static_cast<int>(*token);
}

configuration read_configuration(const named_bytes& file) {
    const json_fields fields(file);
    refuse_what_is_not_computed(fields);
    configuration result;
    model_config& c = result.model;
    c.vocabulary = fields.count("vocab_size", max_size);
    c.dim = fields.count("hidden_size", max_size);
    c.hidden = fields.count("intermediate_size", max_size);
    c.layers = fields.count("num_hidden_layers", max_layers);
    c.heads = fields.count("num_attention_heads", max_size);
    c.kv_heads = fields.count("num_key_value_heads", max_size, c.heads);
    c.max_length = fields.count("max_position_embeddings", max_kv_length);
    c.norm_eps = fields.number("rms_norm_eps", 0.0, 1.0);
    c.rope_theta = rope_theta(fields);
    c.rope = rope_pairing::halves;
    check_heads(c, file.name, {"hidden_size", "num_attention_heads", "num_key_value_heads"});
    if (const std::size_t head_dim = fields.count("head_dim", max_size, c.head_dim()); head_dim != c.head_dim()) {
        fail(inside(file.name, "head_dim"), "is " + std::to_string(head_dim) + " but only hidden_size / num_attention_heads, " +
                                                std::to_string(c.head_dim()) + ", is read");
    }
    result.tied = fields.flag("tie_word_embeddings");
    if (const json* bos = fields.find("bos_token_id")) result.bos = token_from(fields, "bos_token_id", *bos, c.vocabulary);
    if (const json* eos = fields.find("eos_token_id")) {
        for (const json& token : eos->is_array() ? *eos : json::array({*eos}))
            result.eos.push_back(token_from(fields, "eos_token_id", token, c.vocabulary));
    }
    return result;
}

struct named_weight {
    weight_id id;
    const char* name;
};

constexpr named_weight layer_weights[] = {
    {weight_id::attention_norm, "input_layernorm"},
    {weight_id::q, "self_attn.q_proj"},
    {weight_id::k, "self_attn.k_proj"},
    {weight_id::v, "self_attn.v_proj"},
    {weight_id::o, "self_attn.o_proj"},
    {weight_id::mlp_norm, "post_attention_layernorm"},
    {weight_id::gate, "mlp.gate_proj"},
    {weight_id::up, "mlp.up_proj"},
    {weight_id::down, "mlp.down_proj"},
};
constexpr char embedding_name[] = "model.embed_tokens.weight", final_norm_name[] = "model.norm.weight",
               head_name[] = "lm_head.weight";

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
        add(weight_id::embedding, embedding_name);
        for (std::size_t layer = 0; layer < config_.model.layers; ++layer) {
            const std::string prefix = "model.layers." + std::to_string(layer) + ".";
            for (const named_weight& w : layer_weights) add(w.id, prefix + w.name + ".weight");
        }
        add(weight_id::final_norm, final_norm_name);
        const bool there = tensors_.find(head_name) != nullptr;
        if (config_.tied.value_or(!there)) {
            table_->tie_head();
            used_.insert(head_name);  // where it is stored as well, it is the embedding's copy
        } else {
            add(weight_id::head, head_name);
        }
        refuse_unused();
        return std::move(table_);
    }

private:
    void add(weight_id id, const std::string& name) {
        const tensor* found = tensors_.find(name);
        if (found == nullptr) fail(file_, "tensor " + in_quotes(name) + " is missing");
        const matrix_shape shape = shape_of(config_.model, id);
        std::vector<std::uint64_t> expected{shape.cols};
        if (!is_vector(id)) expected.insert(expected.begin(), shape.rows);
        if (found->shape != expected)
            fail(found->place, "shape is " + text_of(found->shape) + " but the configuration asks for " + text_of(expected));
        if (!reads_as_float(found->type))
            fail(found->place, std::string("dtype is ") + name_of(found->type) + " but only F32, F16 and BF16 are read");
        table_->add(id, found->type, found->data);
        used_.insert(name);
    }

    static bool is_vector(weight_id id) {
        return id == weight_id::final_norm || id == weight_id::attention_norm || id == weight_id::mlp_norm;
    }

    /// A tensor that would be left out (a bias, an adapter) means that the output would be wrong. Old files store the
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
    model.config = read.model;
    model.bos = read.bos;
    model.eos = std::move(read.eos);
    if (tokenizer) {
        model.tokenizer = make_llama2c_tokenizer(*tokenizer, model.config.vocabulary);
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
