#include "models/load.hpp"

#include <doctest/doctest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "models/files.hpp"
#include "support/skip.hpp"

using namespace aq::models;
using aq_test::contains;
using aq_test::refusal;
using aq_test::temporary_folder;

namespace {

/// A llama2.c model of one layer with head size 2, all zero.
std::string llama2c_file(std::int32_t vocabulary = 259) {
    std::string file;
    for (const std::int32_t field : {2, 2, 1, 1, 1, vocabulary, 1}) file += aq_test::raw(field);
    const auto floats = static_cast<std::size_t>(vocabulary) * 2 + 2 + 4 * 4 + 2 + 3 * 4 + 2 + 2;
    return file + std::string(floats * sizeof(float), '\0');
}

const char* const config =
    R"({"model_type":"llama","vocab_size":256,"hidden_size":2,"intermediate_size":1,"num_hidden_layers":1,"num_attention_heads":1,
    "max_position_embeddings":4,"rms_norm_eps":1e-5,"bos_token_id":0})";

std::string safetensors_file() {
    aq_test::safetensors_writer writer;
    writer.add("model.embed_tokens.weight", "F16", "[256,2]", std::string(1024, '\0'));
    for (const char* norm :
         {"model.norm.weight", "model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight"}) {
        writer.add(norm, "F16", "[2]", "abcd");
    }
    for (const char* name : {"q", "k", "v", "o"})
        writer.add(std::string("model.layers.0.self_attn.") + name + "_proj.weight", "F16", "[2,2]", "abcdefgh");
    for (const char* name : {"gate", "up"})
        writer.add(std::string("model.layers.0.mlp.") + name + "_proj.weight", "F16", "[1,2]", "abcd");
    writer.add("model.layers.0.mlp.down_proj.weight", "F16", "[2,1]", "abcd");
    return writer.file();
}

}  // namespace

TEST_CASE("mapped_file: holds the bytes, moves them, and refuses what is no file with bytes") {
    const temporary_folder folder;
    mapped_file file(folder.write("a.bin", "hello"));
    const char* address = file.bytes().data();
    CHECK(file.bytes() == "hello");
    mapped_file moved(std::move(file));
    CHECK(moved.bytes().data() == address);
    CHECK(file.bytes().empty());  // NOLINT: a moved-from file is empty
    mapped_file other(folder.write("b.bin", "other"));
    other = std::move(moved);
    CHECK(other.bytes() == "hello");
    CHECK(other.named().name == (folder.path() / "a.bin").string());

    const auto message_of = [](const std::filesystem::path& path) { return refusal([&] { mapped_file opened(path); }); };
    CHECK(contains(message_of(folder.path() / "none"), "none: cannot be opened (No such file or directory)"));
    CHECK(contains(message_of(folder.write("empty", "")), "empty: is empty"));
    CHECK(contains(message_of(folder.path()), "is not a regular file"));
    CHECK(contains(message_of("/dev/null"), "/dev/null: is not a regular file"));
    const std::filesystem::path pipe = folder.path() / "pipe";
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    CHECK(contains(message_of(pipe), "pipe: is not a regular file"));  // and does not wait for a writer
}

TEST_CASE("load: a folder and a .safetensors file beside its configuration are Hugging Face's") {
    const temporary_folder folder;
    folder.write("small/config.json", config);
    const std::filesystem::path file = folder.write("small/model.safetensors", safetensors_file());
    for (const std::filesystem::path& path : {folder.path() / "small", folder.path() / "small" / "", file}) {
        loaded_model model = load(path);
        CHECK(model.name == "small");
        CHECK(model.files.size() == 1);
        CHECK(model.config.rope == aq::rope_pairing::halves);
        CHECK(model.encode("a") == std::vector<int>{0, 'a'});
        const loaded_model moved = std::move(model);
        float norm[2] = {};
        CHECK(moved.source.read(moved.source.self, aq::weight_id::final_norm, 0, {norm, 1, 2}) == aq::status::ok);
        CHECK(norm[0] == aq::half_to_float(0x6261));
    }
}

TEST_CASE("load: a .bin is llama2.c's, with its tokenizer given or beside it") {
    const temporary_folder folder;
    const std::string vocabulary = aq_test::llama2c_vocabulary({});
    const std::filesystem::path file = folder.write("m/small.bin", llama2c_file());
    CHECK(contains(refusal([&] { return load(file); }),
                   "small.bin: there is no tokenizer.bin or tok259.bin beside it, and none was given"));
    CHECK(load(file, folder.write("elsewhere.bin", vocabulary)).name == "small");
    folder.write("m/tok259.bin", vocabulary);
    const loaded_model model = load(file);
    CHECK(model.encode("a") == std::vector<int>{1, 3 + ' ', 3 + 'a'});
    float norm[2] = {1.0F, 1.0F};  // read from the mapping, which the model must keep
    CHECK(model.source.read(model.source.self, aq::weight_id::final_norm, 0, {norm, 1, 2}) == aq::status::ok);
    CHECK(norm[1] == 0.0F);
    folder.write("m/tokenizer.bin", "?");
    CHECK(contains(refusal([&] { return load(file); }), "tokenizer.bin: max_token_length takes 4 bytes"));
}

TEST_CASE("load: what is not there or not known is refused by its path") {
    const temporary_folder folder;
    CHECK(contains(refusal([&] { return load(folder.path() / "none"); }), "none: there is no such file or folder"));
    CHECK(contains(refusal([&] { return load(folder.write("model.gguf", "GGUF")); }),
                   "model.gguf: is neither a folder with config.json, nor"));
    CHECK(contains(refusal([&] { return load(folder.path()); }), "config.json: cannot be opened"));
    folder.write("model.safetensors.index.json", "{}");
    CHECK(contains(refusal([&] { return load(folder.path()); }), "the model is split over several files"));
    CHECK(contains(refusal([&] { return load(folder.write("model.safetensors", safetensors_file())); }),
                   "config.json: cannot be opened"));
}

TEST_CASE("load: reading changes no file") {
    const temporary_folder folder;
    const std::filesystem::path file = folder.write("config.json", config),
                                weights = folder.write("model.safetensors", safetensors_file());
    REQUIRE(::chmod(file.c_str(), 0400) == 0);
    REQUIRE(::chmod(weights.c_str(), 0400) == 0);
    const auto before = std::filesystem::last_write_time(weights);
    CHECK(load(folder.path()).config.dim == 2);
    CHECK(std::filesystem::last_write_time(weights) == before);
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path())) ++count;
    CHECK(count == 2);
}

TEST_CASE("load: the shared llama2.c models are read") {
    const std::filesystem::path shared = std::filesystem::path(AQ_SHARED_DATA) / "llama";
    for (const char* name : {"stories260K", "stories260K-outlier-tinyllama"}) {
        const std::filesystem::path path = shared / (std::string(name) + ".bin");
        if (!aq_test::have(path)) continue;
        const loaded_model model = load(path);
        CHECK(model.name == name);
        CHECK(model.config.dim == 64);
        CHECK(model.config.hidden == 172);
        CHECK(model.config.layers == 5);
        CHECK(model.config.heads == 8);
        CHECK(model.config.kv_heads == 4);
        CHECK(model.config.vocabulary == 512);
        CHECK(model.config.max_length == 512);
        CHECK(model.weights->tied());
        CHECK(model.encode("Once upon a time") == std::vector<int>{1, 403, 407, 261, 378});
    }
}
