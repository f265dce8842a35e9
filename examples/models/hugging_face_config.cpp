#include "models/hugging_face_config.hpp"

#include "models/json.hpp"

namespace aq::models {
namespace {

void require_text(const json_fields& fields, const char* name, const char* supported) {
    if (const std::string found = fields.text(name, supported); found != supported)
        fail(inside(fields.file(), name), "is " + in_quotes(found) + " but only " + in_quotes(supported) + " is read");
}

void require_flag(const json_fields& fields, const char* name, bool supported) {
    if (fields.flag(name).value_or(supported) != supported)
        fail(inside(fields.file(), name), supported ? "is false but only true is read" : "is true but only false is read");
}

void require_null(const json_fields& fields, const char* name) {
    if (fields.find(name) != nullptr) fail(inside(fields.file(), name), "is set but only null is read");
}

/// A size that is there for its own sake, but has to be what others say.
void require_size(const json_fields& fields, const char* name, std::size_t supported, const std::string& rule) {
    if (const std::size_t found = fields.count(name, max_size, supported); found != supported) {
        fail(inside(fields.file(), name),
             "is " + std::to_string(found) + " but only " + rule + ", " + std::to_string(supported) + ", is read");
    }
}

/// The name that a file uses for a field, of those it may have; the first where there is none.
const char* spelling(const json_fields& fields, std::initializer_list<const char*> names) {
    for (const char* name : names) {
        if (fields.find(name) != nullptr) return name;
    }
    return *names.begin();
}

/// Newer files have rope_theta inside rope_parameters, beside the kind of scaling.
float rope_theta(const json_fields& fields) {
    constexpr double largest = 1e12;
    const float theta = fields.number("rope_theta", 0.0, largest, 10000.0F);
    const json* parameters = fields.find("rope_parameters");
    if (parameters == nullptr) return theta;
    const std::string text = parameters->dump();
    const json_fields inner({inside(fields.file(), "rope_parameters"), text});
    require_text(inner, "rope_type", "default");
    return inner.number("rope_theta", 0.0, largest, theta);
}

void read_llama(const json_fields& fields, model_config& c) {
    require_text(fields, "hidden_act", "silu");
    for (const char* name : {"attention_bias", "mlp_bias"}) {
        if (fields.flag(name).value_or(false)) fail(inside(fields.file(), name), "is true but biases are not read");
    }
    require_null(fields, "rope_scaling");
    c.dim = fields.count("hidden_size", max_size);
    c.hidden = fields.count("intermediate_size", max_size);
    c.layers = fields.count("num_hidden_layers", max_layers);
    c.heads = fields.count("num_attention_heads", max_size);
    c.kv_heads = fields.count("num_key_value_heads", max_size, c.heads);
    c.max_length = fields.count("max_position_embeddings", max_kv_length);
    c.norm_eps = fields.number("rms_norm_eps", 0.0, 1.0);
    c.rope_theta = rope_theta(fields);
    c.rope = rope_pairing::halves;
    check_heads(c, fields.file(), {"hidden_size", "num_attention_heads", "num_key_value_heads"});
    require_size(fields, "head_dim", c.head_dim(), "hidden_size / num_attention_heads");
}

void read_opt(const json_fields& fields, model_config& c) {
    require_text(fields, "activation_function", "relu");
    for (const char* name : {"do_layer_norm_before", "enable_bias", "layer_norm_elementwise_affine"})
        require_flag(fields, name, true);
    require_flag(fields, "_remove_final_layer_norm", false);
    c.dim = fields.count("hidden_size", max_size);
    c.hidden = fields.count("ffn_dim", max_size);
    c.layers = fields.count("num_hidden_layers", max_layers);
    c.heads = c.kv_heads = fields.count("num_attention_heads", max_size);
    c.max_length = fields.count("max_position_embeddings", max_kv_length);
    c.norm_eps = 1e-5F;  // no field says it
    check_heads(c, fields.file(), {"hidden_size", "num_attention_heads", "num_attention_heads"});
    require_size(fields, "word_embed_proj_dim", c.dim, "hidden_size");
}

/// Older files say n_embed, n_layer and n_head or a mixture. There are no vectors of positions, so no field says how many there are:
/// seq_length is that of the training.
void read_bloom(const json_fields& fields, model_config& c) {
    constexpr std::size_t usual_length = 2048;
    require_flag(fields, "apply_residual_connection_post_layernorm", false);
    const char* const dim = spelling(fields, {"hidden_size", "n_embed"});
    const char* const heads = spelling(fields, {"n_head", "num_attention_heads"});
    c.dim = fields.count(dim, max_size);
    c.layers = fields.count(spelling(fields, {"n_layer", "num_hidden_layers"}), max_layers);
    c.heads = c.kv_heads = fields.count(heads, max_size);
    c.hidden = 4 * c.dim;
    c.max_length = fields.count("seq_length", max_kv_length, usual_length);
    c.norm_eps = fields.number("layer_norm_epsilon", 0.0, 1.0, 1e-5F);
    check_heads(c, fields.file(), {dim, heads, heads});
    require_size(fields, "n_inner", c.hidden, std::string("4 ") + dim);
}

int token_from(const json_fields& fields, const char* name, const json& value, std::size_t vocabulary) {
    const auto token = unsigned_below(value, vocabulary);
    if (!token) fail(inside(fields.file(), name), "is not a token from 0 to " + std::to_string(vocabulary - 1));
    return static_cast<int>(*token);
}

void read_marks(const json_fields& fields, configuration& out) {
    const std::size_t vocabulary = out.model.vocabulary;
    if (const json* bos = fields.find("bos_token_id")) out.bos = token_from(fields, "bos_token_id", *bos, vocabulary);
    if (const json* eos = fields.find("eos_token_id")) {
        for (const json& token : eos->is_array() ? *eos : json::array({*eos}))
            out.eos.push_back(token_from(fields, "eos_token_id", token, vocabulary));
    }
}

struct reader {
    models::family family;
    void (*read)(const json_fields&, model_config&);
};
constexpr reader readers[] = {{family::llama, read_llama}, {family::opt, read_opt}, {family::bloom, read_bloom}};

const reader& reader_for(const json_fields& fields) {
    const std::string type = fields.text("model_type", "");
    for (const reader& r : readers) {
        if (type == name_of(r.family)) return r;
    }
    fail(inside(fields.file(), "model_type"), "is " + in_quotes(type) + " but only 'llama', 'opt' and 'bloom' are read");
}

}  // namespace

configuration read_configuration(const named_bytes& file) {
    const json_fields fields(file);
    const reader& r = reader_for(fields);
    require_null(fields, "quantization_config");
    configuration result;
    result.family = r.family;
    result.model.vocabulary = fields.count("vocab_size", max_size);
    r.read(fields, result.model);
    result.tied = fields.flag("tie_word_embeddings");
    read_marks(fields, result);
    return result;
}

}  // namespace aq::models
