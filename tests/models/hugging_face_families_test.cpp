// OPT and BLOOM as Hugging Face stores them: every number comes back, and what is broken or not computed is refused by name.
#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "models/files.hpp"
#include "models/hugging_face.hpp"

using namespace aq::models;
using aq_test::contains;
using aq_test::refusal;
using aq_test::weight_id;

namespace {

using members = std::map<std::string, std::string>;

aq::model_config tiny() {
    aq::model_config c;
    c.vocabulary = 256;
    c.dim = 8;
    c.hidden = 32;
    c.layers = 2;
    c.heads = c.kv_heads = 2;
    c.max_length = 16;
    return c;
}

struct entry {
    std::string name, shape, bytes;
};
using entries = std::vector<entry>;

std::string text_of(const members& fields) {
    std::string text;
    for (const auto& [name, value] : fields) {
        if (!value.empty()) text += (text.empty() ? "{\"" : ",\"") + name + "\":" + value;
    }
    return text + "}";
}

std::string file_of(const entries& tensors, const std::string& dtype) {
    aq_test::safetensors_writer writer;
    for (const entry& e : tensors) writer.add(e.name, dtype, e.shape, e.bytes);
    return writer.file();
}

std::string shape_text(std::size_t rows, std::size_t cols) {
    return "[" + std::to_string(rows) + "," + std::to_string(cols) + "]";
}

/// Appends a weight and its bias as they are.
void add(entries& out, const std::string& name, weight_id id, std::size_t layer, const std::string& dtype) {
    const aq::matrix_shape shape = aq::shape_of(tiny(), id);
    const std::string vector = "[" + std::to_string(shape.cols) + "]";
    out.push_back({name + ".weight", shape.rows == 1 ? vector : shape_text(shape.rows, shape.cols),
                   aq_test::weights(tiny(), id, layer, dtype)});
    const weight_id bias = aq::bias_of(id);
    if (bias == id) return;
    out.push_back({name + ".bias", "[" + std::to_string(aq::shape_of(tiny(), bias).cols) + "]",
                   aq_test::weights(tiny(), bias, layer, dtype)});
}

/// Queries, keys and values of each head, one after another; `cols` is 1 for biases.
std::string fused(const weight_id (&ids)[3], std::size_t layer, std::size_t cols, const std::string& dtype) {
    const aq::model_config c = tiny();
    std::string bytes;
    for (std::size_t head = 0; head < c.heads; ++head)
        for (const weight_id id : ids)
            for (std::size_t i = 0; i < c.head_dim() * cols; ++i)
                bytes += aq_test::element(aq_test::value_at(id, layer, head * c.head_dim() * cols + i), dtype);
    return bytes;
}

struct opt_files {
    static constexpr family kind = family::opt;
    static constexpr const char* prefixes[] = {"model.decoder.", "decoder."};
    static constexpr weight_id others[] = {weight_id::embedding, weight_id::positions, weight_id::final_norm};
    static constexpr float eps = 1e-5F;

    static members config() {
        return {{"model_type", "\"opt\""},
                {"activation_function", "\"relu\""},
                {"vocab_size", "256"},
                {"hidden_size", "8"},
                {"ffn_dim", "32"},
                {"num_hidden_layers", "2"},
                {"num_attention_heads", "2"},
                {"max_position_embeddings", "16"},
                {"word_embed_proj_dim", "8"},
                {"bos_token_id", "2"},
                {"do_layer_norm_before", "true"}};
    }
    static entries tensors(const std::string& dtype, const std::string& prefix = prefixes[0]) {
        entries out;
        add(out, prefix + "embed_tokens", weight_id::embedding, 0, dtype);
        const std::string unused(2 * 8 * (dtype == "F32" ? 4 : 2), '\x7F');
        out.push_back(
            {prefix + "embed_positions.weight", "[18,8]", unused + aq_test::weights(tiny(), weight_id::positions, 0, dtype)});
        add(out, prefix + "final_layer_norm", weight_id::final_norm, 0, dtype);
        const std::pair<weight_id, const char*> names[] = {
            {weight_id::attention_norm, "self_attn_layer_norm"},
            {weight_id::q, "self_attn.q_proj"},
            {weight_id::k, "self_attn.k_proj"},
            {weight_id::v, "self_attn.v_proj"},
            {weight_id::o, "self_attn.out_proj"},
            {weight_id::mlp_norm, "final_layer_norm"},
            {weight_id::up, "fc1"},
            {weight_id::down, "fc2"},
        };
        for (std::size_t layer = 0; layer < 2; ++layer) {
            for (const auto& [id, name] : names)
                add(out, prefix + "layers." + std::to_string(layer) + "." + name, id, layer, dtype);
        }
        return out;
    }
};

struct bloom_files {
    static constexpr family kind = family::bloom;
    static constexpr const char* prefixes[] = {"transformer.", ""};
    static constexpr weight_id others[] = {weight_id::embedding, weight_id::embedding_norm, weight_id::embedding_norm_bias,
                                           weight_id::final_norm};
    static constexpr float eps = 1e-6F;

    static members config() {
        return {{"model_type", "\"bloom\""},
                {"vocab_size", "256"},
                {"hidden_size", "8"},
                {"n_layer", "2"},
                {"n_head", "2"},
                {"seq_length", "16"},
                {"layer_norm_epsilon", "1e-6"},
                {"bos_token_id", "2"},
                {"apply_residual_connection_post_layernorm", "false"}};
    }
    static entries tensors(const std::string& dtype, const std::string& prefix = prefixes[0]) {
        entries out;
        add(out, prefix + "word_embeddings", weight_id::embedding, 0, dtype);
        add(out, prefix + "word_embeddings_layernorm", weight_id::embedding_norm, 0, dtype);
        for (std::size_t layer = 0; layer < 2; ++layer) {
            const std::string of_layer = prefix + "h." + std::to_string(layer) + ".";
            add(out, of_layer + "input_layernorm", weight_id::attention_norm, layer, dtype);
            out.push_back({of_layer + "self_attention.query_key_value.weight", "[24,8]",
                           fused({weight_id::q, weight_id::k, weight_id::v}, layer, 8, dtype)});
            out.push_back({of_layer + "self_attention.query_key_value.bias", "[24]",
                           fused({weight_id::q_bias, weight_id::k_bias, weight_id::v_bias}, layer, 1, dtype)});
            add(out, of_layer + "self_attention.dense", weight_id::o, layer, dtype);
            add(out, of_layer + "post_attention_layernorm", weight_id::mlp_norm, layer, dtype);
            add(out, of_layer + "mlp.dense_h_to_4h", weight_id::up, layer, dtype);
            add(out, of_layer + "mlp.dense_4h_to_h", weight_id::down, layer, dtype);
        }
        add(out, prefix + "ln_f", weight_id::final_norm, 0, dtype);
        return out;
    }
};

loaded_model read(const members& fields, const std::string& file) {
    return load_hugging_face({"config.json", text_of(fields)}, {"model.safetensors", file});
}

/// How many numbers of a model differ from what its file was made of.
template <class F>
std::size_t wrong_elements(const loaded_model& model, bool tied) {
    const auto wrong = [&](weight_id id, std::size_t layer, weight_id stored_as) {
        return aq_test::wrong_elements(model.source, model.config, id, layer, stored_as);
    };
    std::size_t sum = wrong(weight_id::head, 0, tied ? weight_id::embedding : weight_id::head) +
                      wrong(weight_id::final_norm_bias, 0, weight_id::final_norm_bias);
    for (const weight_id id : F::others) sum += wrong(id, 0, id);
    for (std::size_t i = 0; i < aq::weight_count; ++i) {
        const auto id = static_cast<weight_id>(i);
        for (std::size_t layer = 0; layer < 2 && aq::is_of_layer(id) && id != weight_id::gate; ++layer)
            sum += wrong(id, layer, id);
    }
    return sum;
}

template <class F>
std::string refusal_with(const std::string& name, const std::string& value) {
    members fields = F::config();
    fields[name] = value;
    const std::string file = file_of(F::tensors("F16"), "F16");
    return refusal([&] { return read(fields, file); });
}

template <class F>
std::string refusal_of(const std::function<void(entry&)>& change) {
    entries kept;
    for (entry& e : F::tensors("F16")) {
        change(e);
        if (!e.name.empty()) kept.push_back(e);
    }
    const std::string file = file_of(kept, "F16");
    return refusal([&] { return read(F::config(), file); });
}

struct refused {
    const char *field, *value, *message;
};

}  // namespace

TEST_CASE_TEMPLATE("hugging face families: a model comes back number by number, in every dtype and under either prefix", F,
                   opt_files, bloom_files) {
    for (const char* dtype : {"F32", "F16", "BF16"})
        for (const char* prefix : F::prefixes) {
            const std::string file = file_of(F::tensors(dtype, prefix), dtype);
            const loaded_model model = read(F::config(), file);
            CHECK(model.family == F::kind);
            CHECK(model.config.vocabulary == 256);
            CHECK(model.config.dim == 8);
            CHECK(model.config.hidden == 32);
            CHECK(model.config.layers == 2);
            CHECK(model.config.heads == 2);
            CHECK(model.config.kv_heads == 2);
            CHECK(model.config.max_length == 16);
            CHECK(model.config.norm_eps == F::eps);
            CHECK(model.bos == 2);
            CHECK(model.weights->tied());
            CHECK(wrong_elements<F>(model, true) == 0);
            const std::size_t unused = F::kind == family::opt ? 2 * 8 * (std::string(dtype) == "F32" ? 4 : 2) : 0;
            std::size_t bytes = 0;
            for (const entry& e : F::tensors(dtype)) bytes += e.bytes.size();
            CHECK(model.weights->stored_bytes() == bytes - unused);
        }
}

TEST_CASE_TEMPLATE("hugging face families: the head is the embedding unless the configuration says otherwise", F, opt_files,
                   bloom_files) {
    entries with_head = F::tensors("F16");
    add(with_head, "lm_head", weight_id::head, 0, "F16");
    const std::string whole = file_of(with_head, "F16"), headless = file_of(F::tensors("F16"), "F16");
    members fields = F::config();
    for (const char* flag : {"", "true"})
        for (const std::string* file : {&whole, &headless}) {
            fields["tie_word_embeddings"] = flag;
            const loaded_model model = read(fields, *file);
            CHECK(model.weights->tied());
            CHECK(wrong_elements<F>(model, true) == 0);
        }
    fields["tie_word_embeddings"] = "false";
    const loaded_model model = read(fields, whole);
    CHECK_FALSE(model.weights->tied());
    CHECK(wrong_elements<F>(model, false) == 0);
    CHECK(refusal([&] { return read(fields, headless); }) == "model.safetensors: tensor 'lm_head.weight' is missing");
}

TEST_CASE("hugging face families: a shorter context takes the first of OPT's positions") {
    const std::string file = file_of(opt_files::tensors("F16"), "F16");
    const loaded_model model = read(opt_files::config(), file);
    std::vector<float> out(17 * 8);
    const auto answer = [&](std::size_t rows, std::size_t cols) {
        return model.source.read(model.source.self, weight_id::positions, 0, {out.data(), rows, cols});
    };
    CHECK(answer(5, 8) == aq::status::ok);
    for (std::size_t i = 0; i < 5 * 8; ++i) CHECK(out[i] == aq_test::value_at(weight_id::positions, 0, i));
    CHECK(answer(17, 8) == aq::status::bad_shape);
    CHECK(answer(5, 7) == aq::status::bad_shape);
}

TEST_CASE("hugging face families: BLOOM's older spellings, and what may be missing") {
    const std::string file = file_of(bloom_files::tensors("F16"), "F16");
    members fields = bloom_files::config();
    fields["n_embed"] = fields["hidden_size"];
    fields["num_hidden_layers"] = fields["n_layer"];
    fields["num_attention_heads"] = fields["n_head"];
    fields["hidden_size"] = fields["n_layer"] = fields["n_head"] = fields["seq_length"] = fields["layer_norm_epsilon"] = "";
    fields["n_inner"] = "null";
    const loaded_model model = read(fields, file);
    CHECK(model.config.max_length == 2048);
    CHECK(model.config.norm_eps == 1e-5F);
    CHECK(wrong_elements<bloom_files>(model, true) == 0);
}

TEST_CASE("hugging face families: what the library does not compute is refused by its field") {
    for (const refused& r : {refused{"activation_function", "\"gelu\"", "is 'gelu' but only 'relu' is read"},
                             {"do_layer_norm_before", "false", "is false but only true is read"},
                             {"enable_bias", "false", "is false but only true is read"},
                             {"layer_norm_elementwise_affine", "false", "is false but only true is read"},
                             {"_remove_final_layer_norm", "true", "is true but only false is read"},
                             {"word_embed_proj_dim", "4", "is 4 but only hidden_size, 8, is read"},
                             {"quantization_config", "{}", "is set but only null is read"},
                             {"ffn_dim", "", "is missing"},
                             {"ffn_dim", "33", "shape is [32,8] but the configuration asks for [33,8]"},
                             {"num_attention_heads", "3", "is 3 but does not divide hidden_size, 8"},
                             {"num_hidden_layers", "3", "tensor 'model.decoder.layers.2.self_attn_layer_norm.weight' is missing"},
                             {"num_hidden_layers", "1", "is not a part of the model"},
                             {"max_position_embeddings", "18", "shape is [18,8] but the configuration asks for [20,8]"},
                             {"bos_token_id", "256", "is not a token from 0 to 255"}}) {
        CAPTURE(std::string(r.field));
        const std::string message = refusal_with<opt_files>(r.field, r.value);
        CAPTURE(message);
        CHECK(contains(message, r.message));
        CHECK((contains(message, "config.json: " + std::string(r.field)) || contains(message, "model.safetensors: tensor '")));
    }
    for (const refused& r : {refused{"apply_residual_connection_post_layernorm", "true", "is true but only false is read"},
                             {"n_inner", "16", "is 16 but only 4 hidden_size, 32, is read"},
                             {"quantization_config", "{}", "is set but only null is read"},
                             {"hidden_size", "", "is missing"},
                             {"n_layer", "", "is missing"},
                             {"n_head", "3", "is 3 but does not divide hidden_size, 8"},
                             {"n_head", "8", "a head of it has an odd size, 1"},
                             {"layer_norm_epsilon", "0", "must be above 0"},
                             {"seq_length", "0", "must be an integer from 1"},
                             {"n_layer", "3", "tensor 'transformer.h.2.input_layernorm.weight' is missing"},
                             {"hidden_size", "16", "shape is [256,8] but the configuration asks for [256,16]"}}) {
        CAPTURE(std::string(r.field));
        const std::string message = refusal_with<bloom_files>(r.field, r.value);
        CAPTURE(message);
        CHECK(contains(message, r.message));
    }
}

TEST_CASE_TEMPLATE("hugging face families: every tensor is needed, and no other has a place", F, opt_files, bloom_files) {
    const entries whole = F::tensors("F16");
    for (const entry& wanted : whole) {
        CAPTURE(wanted.name);
        const bool is_embedding = wanted.name == whole.front().name;  // by which the prefix is told
        const std::string message = refusal_of<F>([&](entry& e) {
            if (e.name == wanted.name) e.name.clear();
        });
        CHECK(contains(message, "is missing"));
        if (!is_embedding) CHECK(message == "model.safetensors: tensor '" + wanted.name + "' is missing");
        const std::string wrong_shape = refusal_of<F>([&](entry& e) {
            if (e.name == wanted.name) e.shape = "[1," + wanted.shape.substr(1);
        });
        CHECK(contains(wrong_shape, "tensor '" + wanted.name + "': shape is [1,"));
        CHECK(contains(wrong_shape, "but the configuration asks for " + wanted.shape));
    }
    entries more = whole;
    more.push_back({std::string(F::prefixes[0]) + "project_in.weight", "[1]", "ab"});
    const std::string file = file_of(more, "F16");
    CHECK(refusal([&] { return read(F::config(), file); }) ==
          "model.safetensors: tensor '" + more.back().name + "': is not a part of the model that the configuration describes");
}
