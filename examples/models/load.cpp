#include "models/load.hpp"

#include "models/hugging_face.hpp"
#include "models/llama2c.hpp"
#include "models/model_file.hpp"

namespace aq::models {
namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& path) {
    std::error_code ignored;
    return fs::exists(path, ignored);
}

/// The tokenizer file of a model: the one given, or else one of the usual names beside the model; empty where there is none.
fs::path find_tokenizer(const fs::path& given, const fs::path& folder, const std::string& second_name) {
    if (!given.empty()) return given;
    for (const fs::path& candidate : {folder / "tokenizer.bin", folder / second_name}) {
        if (is_there(candidate)) return candidate;
    }
    return {};
}

std::string name_of_folder(const fs::path& folder) {
    const fs::path clean = fs::absolute(folder).lexically_normal();
    return (clean.has_filename() ? clean : clean.parent_path()).filename().string();
}

loaded_model load_folder(const fs::path& folder, const fs::path& tensors_path, const fs::path& tokenizer_path) {
    if (!is_there(tensors_path) && is_there(folder / "model.safetensors.index.json")) {
        fail(folder.string(), "the model is split over several files, and only a single model.safetensors is read");
    }
    const mapped_file config(folder / "config.json");
    mapped_file tensors(tensors_path);
    std::optional<mapped_file> tokenizer;
    std::optional<named_bytes> tokenizer_bytes;
    if (const fs::path found = find_tokenizer(tokenizer_path, folder, "tokenizer.bin"); !found.empty()) {
        tokenizer_bytes = tokenizer.emplace(found).named();
    }
    loaded_model model = load_hugging_face(config.named(), tensors.named(), tokenizer_bytes);
    model.files.push_back(std::move(tensors));
    model.name = name_of_folder(folder);
    return model;
}

loaded_model load_bin(const fs::path& path, const fs::path& tokenizer_path) {
    mapped_file file(path);
    const std::string second_name = "tok" + std::to_string(llama2c_vocabulary(file.named())) + ".bin";
    const fs::path found = find_tokenizer(tokenizer_path, path.parent_path(), second_name);
    if (found.empty()) fail(path.string(), "there is no tokenizer.bin or " + second_name + " beside it, and none was given");
    loaded_model model = load_llama2c(file.named(), mapped_file(found).named());
    model.files.push_back(std::move(file));
    model.name = path.stem().string();
    return model;
}

}  // namespace

loaded_model load(const fs::path& path, const fs::path& tokenizer) {
    std::error_code error;
    const fs::file_status kind = fs::status(path, error);
    if (!fs::exists(kind)) fail(path.string(), "there is no such file or folder");
    if (fs::is_directory(kind)) return load_folder(path, path / "model.safetensors", tokenizer);
    if (mapped_file file(path); is_model_file(file.bytes())) {
        if (!tokenizer.empty()) fail(path.string(), "has its tokenizer in it, so none can be given");
        return load_model_file(std::move(file));
    }
    if (path.extension() == ".safetensors") return load_folder(path.parent_path(), path, tokenizer);
    if (path.extension() == ".bin") return load_bin(path, tokenizer);
    fail(path.string(),
         "is neither a folder with config.json, nor a .safetensors file, nor a llama2.c .bin, nor a file that calibrating wrote");
}

}  // namespace aq::models
