#include "models/hugging_face.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <map>
#include <string>

#include "models/files.hpp"

using namespace aq::models;
using aq_test::contains;
using aq_test::refusal;
using aq_test::weight_id;

namespace {

aq::model_config tiny() {
    aq::model_config c;
    c.vocabulary = 256;
    c.dim = 8;
    c.hidden = 12;
    c.layers = 2;
    c.heads = 2;
    c.kv_heads = 1;
    c.max_length = 16;
    return c;
}

/// Members of config.json, as JSON text, to be changed by a test; an empty one is left out.
using members = std::map<std::string, std::string>;

members config() {
    return {{"model_type", "\"llama\""},  {"hidden_act", "\"silu\""},   {"vocab_size", "256"},
            {"hidden_size", "8"},         {"intermediate_size", "12"},  {"num_hidden_layers", "2"},
            {"num_attention_heads", "2"}, {"num_key_value_heads", "1"}, {"max_position_embeddings", "16"},
            {"rms_norm_eps", "1e-6"},     {"rope_theta", "5000.0"},     {"bos_token_id", "0"},
            {"eos_token_id", "null"},     {"rope_scaling", "null"},     {"tie_word_embeddings", "false"}};
}

std::string text_of(const members& fields) {
    std::string text;
    for (const auto& [name, value] : fields) {
        if (!value.empty()) text += (text.empty() ? "{\"" : ",\"") + name + "\":" + value;
    }
    return text + "}";
}

const std::pair<weight_id, const char*> names[] = {
    {weight_id::q, "self_attn.q_proj"},
    {weight_id::k, "self_attn.k_proj"},
    {weight_id::v, "self_attn.v_proj"},
    {weight_id::o, "self_attn.o_proj"},
    {weight_id::gate, "mlp.gate_proj"},
    {weight_id::up, "mlp.up_proj"},
    {weight_id::down, "mlp.down_proj"},
    {weight_id::attention_norm, "input_layernorm"},
    {weight_id::mlp_norm, "post_attention_layernorm"},
};

using edit = std::function<void(std::string& name, std::string& dtype, std::string& shape, std::string& bytes)>;

/// The file of the tiny model in a dtype; `change` may alter each tensor on its way, an empty name leaves it out.
std::string tensors(const std::string& dtype, const edit& change = {}) {
    aq_test::safetensors_writer writer;
    const auto add = [&](std::string name, weight_id id, std::size_t layer) {
        const aq::matrix_shape shape = aq::shape_of(tiny(), id);
        std::string text = shape.rows == 1 ? "[" + std::to_string(shape.cols) + "]"
                                           : "[" + std::to_string(shape.rows) + "," + std::to_string(shape.cols) + "]";
        std::string bytes = aq_test::weights(tiny(), id, layer, dtype), type = dtype;
        if (change) change(name, type, text, bytes);
        if (!name.empty()) writer.add(name, type, text, bytes);
    };
    add("lm_head.weight", weight_id::head, 0);  // not in the model's order
    for (std::size_t layer = 0; layer < 2; ++layer) {
        for (const auto& [id, name] : names) add("model.layers." + std::to_string(layer) + "." + name + ".weight", id, layer);
    }
    add("model.norm.weight", weight_id::final_norm, 0);
    add("model.embed_tokens.weight", weight_id::embedding, 0);
    return writer.file();
}

edit without(const std::string& unwanted) {
    return [=](std::string& name, std::string&, std::string&, std::string&) {
        if (name == unwanted) name.clear();
    };
}

loaded_model read(const members& fields, const std::string& file) {
    return load_hugging_face({"config.json", text_of(fields)}, {"model.safetensors", file});
}

std::string refusal_with(const std::string& name, const std::string& value) {
    members fields = config();
    fields[name] = value;
    const std::string file = tensors("F16");
    return refusal([&] { return read(fields, file); });
}

}  // namespace

TEST_CASE("hugging face: a model comes back number by number, in every dtype") {
    for (const char* dtype : {"F32", "F16", "BF16"}) {
        const std::string file = tensors(dtype);
        const loaded_model model = read(config(), file);
        CHECK(model.config.vocabulary == 256);
        CHECK(model.config.dim == 8);
        CHECK(model.config.hidden == 12);
        CHECK(model.config.layers == 2);
        CHECK(model.config.heads == 2);
        CHECK(model.config.kv_heads == 1);
        CHECK(model.config.max_length == 16);
        CHECK(model.config.rope_theta == 5000.0F);
        CHECK(model.config.norm_eps == 1e-6F);
        CHECK(model.config.rope == aq::rope_pairing::halves);
        CHECK(model.bos == 0);
        CHECK(model.eos.empty());
        CHECK_FALSE(model.weights->tied());
        CHECK(aq_test::wrong_elements(model.source, model.config, false) == 0);
    }
}

TEST_CASE("hugging face: a model without a head has names without a prefix") {
    const std::string file = tensors("F16", [](std::string& name, std::string&, std::string&, std::string&) {
        if (name == "lm_head.weight") name.clear();
        else name.erase(0, std::string("model.").size());
    });
    members fields = config();
    fields["tie_word_embeddings"] = "";
    const loaded_model model = read(fields, file);
    CHECK(model.family == aq::models::family::llama);
    CHECK(aq_test::wrong_elements(model.source, model.config, true) == 0);
}

TEST_CASE("hugging face: moving a model keeps its source") {
    const std::string file = tensors("F16");
    loaded_model first = read(config(), file);
    const loaded_model second = std::move(first);
    CHECK(aq_test::wrong_elements(second.source, second.config, false) == 0);
}

TEST_CASE("hugging face: a source refuses other shapes and other layers") {
    const std::string file = tensors("F16");
    const loaded_model model = read(config(), file);
    float out[96];
    const auto delivered = [&](weight_id id, std::size_t layer, aq::matrix_view<float> view) {
        return model.source.read(model.source.self, id, layer, view);
    };
    CHECK(delivered(weight_id::gate, 1, {out, 12, 8}) == aq::status::ok);
    CHECK(delivered(weight_id::gate, 2, {out, 12, 8}) == aq::status::source_failed);
    CHECK(delivered(weight_id::gate, 1, {out, 8, 12}) == aq::status::bad_shape);
    CHECK(delivered(weight_id::gate, 1, {out, 12, 8, 7}) == aq::status::bad_stride);
    CHECK(delivered(weight_id::gate, 1, {nullptr, 12, 8}) == aq::status::null_pointer);
    CHECK(delivered(weight_id::final_norm, 7, {out, 1, 8}) == aq::status::ok);  // layer counts for weights of a layer only
}

TEST_CASE("hugging face: the head is tied as the configuration has it") {
    const std::string whole = tensors("F16"), headless = tensors("F16", without("lm_head.weight"));
    members fields = config();
    for (const auto& [flag, file, tied] :
         {std::tuple("true", &whole, true), {"true", &headless, true}, {"", &headless, true}, {"", &whole, false}}) {
        fields["tie_word_embeddings"] = flag;
        const loaded_model model = read(fields, *file);
        CHECK(model.weights->tied() == tied);
        CHECK(aq_test::wrong_elements(model.source, model.config, tied) == 0);
    }
    CHECK(refusal([&] { return read(config(), headless); }) == "model.safetensors: tensor 'lm_head.weight' is missing");
}

TEST_CASE("hugging face: defaults and the several spellings of a field") {
    const std::string file = tensors("F16");
    members fields = config();
    fields["rope_theta"] = fields["hidden_act"] = fields["bos_token_id"] = "";
    fields["eos_token_id"] = "[3,255]";
    fields["head_dim"] = "4";
    fields["attention_bias"] = "false";
    const loaded_model model = read(fields, file);
    CHECK(model.config.rope_theta == 10000.0F);
    CHECK_FALSE(model.bos.has_value());
    CHECK(model.eos == std::vector<int>{3, 255});
    CHECK(model.ends_at(255));
    CHECK_FALSE(model.ends_at(4));
    CHECK(model.encode("Az") == std::vector<int>{'A', 'z'});
    fields["eos_token_id"] = "7";
    fields["bos_token_id"] = "9";
    fields["head_dim"] = "null";
    fields["rope_parameters"] = R"({"rope_type":"default","rope_theta":777})";
    const loaded_model other = read(fields, file);
    CHECK(other.eos == std::vector<int>{7});
    CHECK(other.config.rope_theta == 777.0F);
    CHECK(other.encode("\xFF") == std::vector<int>{9, 255});

    // Without the field there are as many key-value heads as heads.
    fields["num_key_value_heads"] = "";
    CHECK(contains(refusal([&] { return read(fields, file); }),
                   "tensor 'model.layers.0.self_attn.k_proj.weight': shape is [4,8] but the configuration asks for [8,8]"));
}

TEST_CASE("hugging face: what the library does not compute is refused by its field") {
    struct row {
        const char *field, *value, *message;
    };
    const row rows[] = {
        {"model_type", "\"mistral\"", "is 'mistral' but only 'llama', 'opt' and 'bloom' are read"},
        {"model_type", "", "is '' but only 'llama', 'opt' and 'bloom' are read"},
        {"model_type", "5", "is 5 but must be a string"},
        {"hidden_act", "\"gelu\"", "is 'gelu' but only 'silu' is read"},
        {"attention_bias", "true", "is true but biases are not read"},
        {"mlp_bias", "true", "is true but biases are not read"},
        {"mlp_bias", "\"no\"", "must be true or false"},
        {"rope_scaling", "{\"type\":\"linear\"}", "is set but only null is read"},
        {"rope_parameters", "{\"rope_type\":\"llama3\"}", "rope_type: is 'llama3' but only 'default' is read"},
        {"rope_parameters", "3", "the JSON is not an object"},
        {"quantization_config", "{}", "is set but only null is read"},
        {"head_dim", "8", "is 8 but only hidden_size / num_attention_heads, 4, is read"},
        {"vocab_size", "", "is missing"},
        {"vocab_size", "null", "is missing"},
        {"vocab_size", "-256", "is -256 but must be an integer from 1 to 16777216"},
        {"vocab_size", "0", "is 0 but must be an integer from 1"},
        {"vocab_size", "256.0", "is 256.0 but must be an integer"},
        {"vocab_size", "\"256\"", "must be an integer"},
        {"vocab_size", "16777217", "is 16777217 but must be an integer"},
        {"vocab_size", "18446744073709551616", "must be an integer"},
        {"vocab_size", "512", "shape is [256,8] but the configuration asks for [512,8]"},
        {"hidden_size", "6", "a head of it has an odd size, 3"},
        {"hidden_size", "16", "shape is [256,8] but the configuration asks for [256,16]"},
        {"intermediate_size", "13", "gate_proj.weight': shape is [12,8] but the configuration asks for [13,8]"},
        {"num_hidden_layers", "3", "tensor 'model.layers.2.input_layernorm.weight' is missing"},
        {"num_hidden_layers", "1", "is not a part of the model"},
        {"num_hidden_layers", "4097", "is 4097 but must be an integer from 1 to 4096"},
        {"num_attention_heads", "3", "is 3 but does not divide hidden_size, 8"},
        {"num_key_value_heads", "3", "is 3 but does not divide num_attention_heads, 2"},
        {"max_position_embeddings", "{}", "must be an integer"},
        {"rms_norm_eps", "-1", "is -1 but must be above 0 and at most 1"},
        {"rms_norm_eps", "true", "is true but must be a number"},
        {"rms_norm_eps", "", "is missing"},
        {"rope_theta", "0", "must be above 0"},
        {"rope_theta", "1e300", "must be above 0"},
        {"bos_token_id", "256", "is not a token from 0 to 255"},
        {"bos_token_id", "-1", "is not a token from 0 to 255"},
        {"eos_token_id", "[0,300]", "is not a token from 0 to 255"},
        {"eos_token_id", "\"a\"", "is not a token"},
        {"tie_word_embeddings", "1", "must be true or false"},
    };
    for (const row& r : rows) {
        const std::string message = refusal_with(r.field, r.value);
        CAPTURE(std::string(r.field));
        CAPTURE(std::string(r.value));
        CHECK(contains(message, r.message));
        CHECK((contains(message, "config.json: " + std::string(r.field)) || contains(message, "model.safetensors: tensor '")));
    }
}

TEST_CASE("hugging face: broken tensors are refused by name") {
    const auto message_of = [](const edit& change) {
        const std::string file = tensors("F16", change);
        return refusal([&] { return read(config(), file); });
    };
    for (const char* name : {"model.embed_tokens.weight", "model.norm.weight", "model.layers.1.mlp.down_proj.weight",
                             "model.layers.0.post_attention_layernorm.weight"}) {
        CHECK(message_of(without(name)) == "model.safetensors: tensor '" + std::string(name) + "' is missing");
    }
    const auto when = [](const std::string& wanted, const auto& act) {
        return [=](std::string& name, std::string& dtype, std::string& shape, std::string& bytes) {
            if (name == wanted) act(name, dtype, shape, bytes);
        };
    };
    const auto transposed = when("model.layers.1.mlp.up_proj.weight", [](auto&, auto&, auto& shape, auto&) { shape = "[8,12]"; });
    CHECK(message_of(transposed) ==
          "model.safetensors: tensor 'model.layers.1.mlp.up_proj.weight': shape is [8,12] but the configuration asks for [12,8]");
    const auto row_vector = when("model.norm.weight", [](auto&, auto&, auto& shape, auto&) { shape = "[1,8]"; });
    CHECK(contains(message_of(row_vector), "tensor 'model.norm.weight': shape is [1,8] but the configuration asks for [8]"));
    const auto integers = when("model.norm.weight", [](auto&, auto& dtype, auto&, auto&) { dtype = "I16"; });
    CHECK(contains(message_of(integers), "tensor 'model.norm.weight': dtype is I16 but only F32, F16 and BF16 are read"));
}

TEST_CASE("hugging face: a tensor that the model would leave out is refused, but for derived ones") {
    const auto with_extra = [](const std::string& extra) {
        aq_test::safetensors_writer other;
        other.add(extra, "F32", "[1]", "abcd");
        const std::string file = tensors("F16");
        // Join the two files: the extra tensor's range comes after the model's.
        const std::string header = file.substr(8, file.find("}}") + 1 - 8), data = file.substr(file.find("}}") + 2);
        const std::string range = "[" + std::to_string(data.size()) + "," + std::to_string(data.size() + 4) + "]";
        const std::string joined =
            aq_test::safetensors(header + "," + other.header.substr(0, other.header.find("[0,4]")) + range + "}}", data + "abcd");
        return refusal([&] { return read(config(), joined); });
    };
    CHECK(with_extra("model.layers.0.self_attn.rotary_emb.inv_freq") == "");
    CHECK(with_extra("model.layers.0.self_attn.q_proj.bias") ==
          "model.safetensors: tensor 'model.layers.0.self_attn.q_proj.bias': is not a part of the model that the configuration "
          "describes");
}

TEST_CASE("hugging face: broken configurations are refused") {
    const std::string file = tensors("F16"), whole = text_of(config());
    const auto message_of = [&](const std::string& text) {
        return refusal([&] { return load_hugging_face({"config.json", text}, {"model.safetensors", file}); });
    };
    for (std::size_t size = 0; size < whole.size(); ++size) CHECK(contains(message_of(whole.substr(0, size)), "config.json: "));
    CHECK(message_of(std::string(100000, '[')) == "config.json: the JSON is not an object");
    CHECK(message_of("{\"a\":" + std::string(100000, '[')) == "config.json: the JSON is nested deeper than 16 levels");
    CHECK(message_of("{\"vocab_size\":1,\"vocab_size\":2}") == "config.json: the name 'vocab_size' occurs twice");
    CHECK(contains(message_of(std::string((1 << 20) + 1, ' ')), "more than the limit of 1048576"));
}

TEST_CASE("hugging face: a vocabulary other than the bytes needs a tokenizer") {
    const aq::model_config c = tiny();
    const edit bigger = [&](std::string& name, std::string& dtype, std::string& shape, std::string& bytes) {
        if (name != "lm_head.weight" && name != "model.embed_tokens.weight") return;
        shape = "[260,8]";
        bytes += std::string(4 * c.dim * (dtype == "F16" ? 2 : 4), '\0');
    };
    members fields = config();
    fields["vocab_size"] = "260";
    const std::string file = tensors("F16", bigger), vocabulary = aq_test::llama2c_vocabulary({" a"});
    CHECK(contains(refusal([&] { return read(fields, file); }),
                   "config.json: vocab_size: is 260: without a tokenizer.bin of llama2.c's kind only 256"));
    const loaded_model model = load_hugging_face({"config.json", text_of(fields)}, {"model.safetensors", file},
                                                 named_bytes{"tokenizer.bin", vocabulary});
    CHECK(model.tokenizer->vocabulary() == 260);
}
