#include "llama/embedded.hpp"

#include "models/hugging_face.hpp"

extern "C" {
extern const unsigned char austen_safetensors[], austen_safetensors_end[];
extern const unsigned char austen_config[], austen_config_end[];
extern const unsigned char austen_text[], austen_text_end[];
}

namespace aq::example {

namespace {
std::string_view bytes(const unsigned char* begin, const unsigned char* end) {
    return {reinterpret_cast<const char*>(begin), static_cast<std::size_t>(end - begin)};
}
}  // namespace

models::loaded_model embedded_model() {
    models::loaded_model model =
        models::load_hugging_face({"embedded config.json", bytes(austen_config, austen_config_end)},
                                  {"embedded model.safetensors", bytes(austen_safetensors, austen_safetensors_end)});
    model.name = "embedded (Austen, byte-level)";
    return model;
}

std::string_view evaluation_text() {
    const std::string_view all = bytes(austen_text, austen_text_end);
    return all.substr(0, all.size() / 4 * 3);
}

std::string_view calibration_text() {
    const std::string_view all = bytes(austen_text, austen_text_end);
    return all.substr(all.size() / 4 * 3);
}

}  // namespace aq::example
