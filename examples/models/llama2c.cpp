#include "models/llama2c.hpp"

namespace aq::models {
namespace {

struct section {
    weight_id id;
    const char* name;
    bool per_layer;
};

/// In the file's order. The tables of the rotation follow, and then the head unless it is tied.
constexpr section sections[] = {
    {weight_id::embedding, "token_embedding_table", false},
    {weight_id::attention_norm, "rms_att_weight", true},
    {weight_id::q, "wq", true},
    {weight_id::k, "wk", true},
    {weight_id::v, "wv", true},
    {weight_id::o, "wo", true},
    {weight_id::mlp_norm, "rms_ffn_weight", true},
    {weight_id::gate, "w1", true},
    {weight_id::down, "w2", true},
    {weight_id::up, "w3", true},
    {weight_id::final_norm, "rms_final_weight", false},
};
constexpr section head{weight_id::head, "wcls", false};

std::size_t positive(std::int64_t value, std::uint64_t limit, const char* field, const std::string& file) {
    if (value <= 0 || static_cast<std::uint64_t>(value) > limit) {
        fail(inside(file, field), "is " + std::to_string(value) + " but must be from 1 to " + std::to_string(limit));
    }
    return static_cast<std::size_t>(value);
}

/// The seven integers; a negative vocab_size says that the head is not the embedding.
model_config read_header(byte_reader& reader, const std::string& file, bool& tied) {
    const auto next = [&](const char* field, std::uint64_t limit) {
        return positive(reader.number<std::int32_t>(field), limit, field, file);
    };
    model_config c;
    c.dim = next("dim", max_size);
    c.hidden = next("hidden_dim", max_size);
    c.layers = next("n_layers", max_layers);
    c.heads = next("n_heads", max_size);
    c.kv_heads = next("n_kv_heads", max_size);
    const std::int64_t vocabulary = reader.number<std::int32_t>("vocab_size");
    tied = vocabulary > 0;
    c.vocabulary = positive(tied ? vocabulary : -vocabulary, max_size, "vocab_size", file);
    c.max_length = next("seq_len", max_kv_length);
    c.rope = rope_pairing::interleaved;
    check_heads(c, file, {"dim", "n_heads", "n_kv_heads"});
    return c;
}

}  // namespace

std::size_t llama2c_vocabulary(const named_bytes& model) {
    byte_reader reader(model);
    bool tied = false;
    return read_header(reader, model.name, tied).vocabulary;
}

loaded_model load_llama2c(const named_bytes& file, const named_bytes& tokenizer) {
    byte_reader reader(file);
    bool tied = false;
    loaded_model model;
    model.config = read_header(reader, file.name, tied);
    const model_config& c = model.config;
    model.weights = std::make_unique<weight_table>(c);

    const auto read_section = [&](const section& s) {
        const matrix_shape shape = shape_of(c, s.id);
        const std::size_t layers = s.per_layer ? c.layers : 1;
        const std::uint64_t size =
            multiply(multiply(shape.rows, shape.cols, file.name, s.name), sizeof(float), file.name, s.name);
        const std::string_view data = reader.take(multiply(size, layers, file.name, s.name), s.name);
        for (std::size_t layer = 0; layer < layers; ++layer) {
            const auto bytes = static_cast<std::size_t>(size);  // the whole section is there, so this fits
            model.weights->add(s.id, dtype::f32, data.substr(layer * bytes, bytes));
        }
    };
    for (const section& s : sections) read_section(s);
    // Cosines and sines of all positions, half a head each: they follow from rope_theta.
    const std::uint64_t table =
        multiply(multiply(c.max_length, c.head_dim(), file.name, "freq_cis"), sizeof(float), file.name, "freq_cis");
    static_cast<void>(reader.take(table, "freq_cis"));
    if (tied) {
        model.weights->tie_head();
    } else {
        read_section(head);
    }
    if (reader.remaining() > 0) {
        fail(file.name, "the header's sizes ask for " + std::to_string(reader.position()) + " bytes but the file holds " +
                            std::to_string(file.bytes.size()));
    }

    model.source = model.weights->source();
    model.name = file.name;
    model.tokenizer = make_llama2c_tokenizer(tokenizer, c.vocabulary);
    model.tokenizer_file = tokenizer.bytes;
    model.bos = 1;
    model.eos = {1, 2};  // its training data has only 1, between texts
    return model;
}

}  // namespace aq::models
