#include "models/llama2c.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <string>

#include "models/files.hpp"

using namespace aq::models;
using aq_test::contains;
using aq_test::raw;
using aq_test::refusal;
using aq_test::weight_id;

namespace {

struct header {
    std::int32_t dim = 8, hidden = 12, layers = 2, heads = 2, kv_heads = 1, vocabulary = 261, length = 16;
    [[nodiscard]] std::string bytes() const {
        return raw(dim) + raw(hidden) + raw(layers) + raw(heads) + raw(kv_heads) + raw(vocabulary) + raw(length);
    }
};

std::string model_file(bool tied) {
    header h;
    aq::model_config c;
    c.vocabulary = 261, c.dim = 8, c.hidden = 12, c.layers = 2, c.heads = 2, c.kv_heads = 1, c.max_length = 16;
    if (!tied) h.vocabulary = -h.vocabulary;
    std::string file = h.bytes() + aq_test::weights(c, weight_id::embedding, 0);
    for (const weight_id id : {weight_id::attention_norm, weight_id::q, weight_id::k, weight_id::v, weight_id::o,
                               weight_id::mlp_norm, weight_id::gate, weight_id::down, weight_id::up}) {
        for (std::size_t layer = 0; layer < c.layers; ++layer) file += aq_test::weights(c, id, layer);
    }
    file += aq_test::weights(c, weight_id::final_norm, 0);
    file += std::string(16 * 4 * sizeof(float), 'f');  // cosines and sines: 16 positions, half a head of 4 each
    return tied ? file : file + aq_test::weights(c, weight_id::head, 0);
}

const std::string vocabulary = aq_test::llama2c_vocabulary({" a", "b"});

std::string refusal_of(const std::string& file) {
    return refusal([&] { return load_llama2c({"model.bin", file}, {"tokenizer.bin", vocabulary}); });
}

}  // namespace

TEST_CASE("llama2.c: a model comes back number by number, with its head or tied") {
    for (const bool tied : {true, false}) {
        const std::string file = model_file(tied);
        const loaded_model model = load_llama2c({"model.bin", file}, {"tokenizer.bin", vocabulary});
        CHECK(model.config.vocabulary == 261);
        CHECK(model.config.kv_heads == 1);
        CHECK(model.config.max_length == 16);
        CHECK(model.config.rope == aq::rope_pairing::interleaved);
        CHECK(model.config.rope_theta == 10000.0F);
        CHECK(model.config.norm_eps == 1e-5F);
        CHECK(model.weights->tied() == tied);
        CHECK(model.weights->stored_bytes() == file.size() - 28 - 256);
        CHECK(model.bos == 1);
        CHECK(model.ends_at(1));
        CHECK(model.ends_at(2));
        CHECK(aq_test::wrong_elements(model.source, model.config, tied) == 0);
    }
}

TEST_CASE("llama2.c: a file of any other size is refused") {
    const std::string file = model_file(true);
    for (std::size_t size = 0; size < file.size(); size += size < 64 ? 1 : 61) {
        CAPTURE(size);
        CHECK(contains(refusal_of(file.substr(0, size)), "model.bin: "));
    }
    CHECK(contains(refusal_of(file.substr(0, file.size() - 1)), "freq_cis takes 256 bytes"));
    CHECK(contains(refusal_of(file.substr(0, 10)), "n_layers takes 4 bytes at 8 but the file holds 10 bytes"));
    CHECK(contains(refusal_of(file + "x"), "the header's sizes ask for " + std::to_string(file.size()) +
                                               " bytes but the file holds " + std::to_string(file.size() + 1)));
    CHECK(contains(refusal_of(model_file(false).substr(0, file.size())), "wcls takes 8352 bytes"));
}

TEST_CASE("llama2.c: headers with impossible sizes are refused by their field") {
    constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max(), least = std::numeric_limits<std::int32_t>::min();
    const std::pair<const char*, std::int32_t header::*> fields[] = {
        {"dim", &header::dim},       {"hidden_dim", &header::hidden},   {"n_layers", &header::layers},
        {"n_heads", &header::heads}, {"n_kv_heads", &header::kv_heads}, {"vocab_size", &header::vocabulary},
        {"seq_len", &header::length}};
    const std::string rest = model_file(true).substr(28);
    for (const auto& [field_name, field] : fields) {
        const std::string name = field_name;
        for (const std::int32_t value : {0, -1, most, least, 1 << 24, 3, 4096}) {
            header h;
            h.*field = value;
            const std::string message = refusal_of(h.bytes() + rest);
            CAPTURE(name);
            CAPTURE(value);
            CHECK(contains(message, "model.bin: "));
            // -1 tokens are one, with a head of its own: refused for the size of the file. So are sizes that are merely large.
            const bool one_token = field == &header::vocabulary && value == -1;
            if (!one_token && (value <= 0 || value == most)) CHECK(contains(message, name + ": is "));
        }
    }
    header h;
    h.dim = 1 << 24, h.hidden = 1 << 24, h.layers = 4096, h.heads = 1 << 16, h.kv_heads = 1 << 16, h.vocabulary = 1 << 24,
    h.length = 1 << 22;
    CHECK(contains(refusal_of(h.bytes() + rest), "token_embedding_table takes 1125899906842624 bytes"));
    h.vocabulary = 1, h.dim = 2, h.heads = 1, h.kv_heads = 1;
    CHECK(contains(refusal_of(h.bytes() + rest), "rms_att_weight takes 32768 bytes"));
    h = header();
    h.heads = 3;
    CHECK(refusal_of(h.bytes() + rest) == "model.bin: n_heads: is 3 but does not divide dim, 8");
    h.heads = 8, h.kv_heads = 3;
    CHECK(refusal_of(h.bytes() + rest) == "model.bin: n_kv_heads: is 3 but does not divide n_heads, 8");
    h.kv_heads = 8;
    CHECK(refusal_of(h.bytes() + rest) == "model.bin: dim: is 8 but a head of it has an odd size, 1");
}
