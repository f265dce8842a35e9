/// \file
/// Little model files made in the test, whole and broken. Weights are a function of their place, so that a reader that takes
/// the wrong bytes is found out; all are exact in every float format.
#pragma once

#include <agilequant/core/half.hpp>
#include <agilequant/model/config.hpp>

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "models/load_error.hpp"

namespace aq_test {

using aq::weight_id;

/// The message of the load_error that `read` throws; empty where it throws none. Any other exception fails the test.
template <class Read>
std::string refusal(const Read& read) {
    try {
        static_cast<void>(read());
    } catch (const aq::models::load_error& error) {
        return error.what();
    }
    return "";
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

template <class T>
std::string raw(T value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
}

/// A multiple of 1/64 between -2 and 2.
inline float value_at(weight_id id, std::size_t layer, std::size_t index) {
    const std::size_t mixed = (static_cast<std::size_t>(id) * 31 + layer * 17 + index) * 2654435761U >> 7;
    return (static_cast<float>(mixed % 256) - 128.0F) / 64.0F;
}

inline std::string element(float x, const std::string& dtype) {
    if (dtype == "F16") return raw(aq::float_to_half(x));
    if (dtype == "BF16") return raw(aq::float_to_bfloat16(x));
    return raw(x);
}

inline std::string weights(const aq::model_config& c, weight_id id, std::size_t layer, const std::string& dtype = "F32") {
    const aq::matrix_shape shape = aq::shape_of(c, id);
    std::string bytes;
    for (std::size_t i = 0; i < shape.rows * shape.cols; ++i) bytes += element(value_at(id, layer, i), dtype);
    return bytes;
}

/// How many elements of what `source` delivers, under a stride wider than the row, differ from value_at() of `stored_as`.
inline std::size_t wrong_elements(const aq::weight_source& source, const aq::model_config& c, weight_id id, std::size_t layer,
                                  weight_id stored_as) {
    const aq::matrix_shape shape = aq::shape_of(c, id);
    const std::size_t stride = shape.cols + 3;
    std::vector<float> out(shape.rows * stride, 99.0F);
    if (source.read(source.self, id, layer, {out.data(), shape.rows, shape.cols, stride}) != aq::status::ok) return out.size();
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
        const std::size_t row = i / stride, col = i % stride;
        wrong += out[i] == (col < shape.cols ? value_at(stored_as, layer, row * shape.cols + col) : 99.0F) ? 0 : 1;
    }
    return wrong;
}

constexpr weight_id layer_ids[] = {weight_id::attention_norm, weight_id::q,    weight_id::k,  weight_id::v,   weight_id::o,
                                   weight_id::mlp_norm,       weight_id::gate, weight_id::up, weight_id::down};

inline std::size_t wrong_elements(const aq::weight_source& source, const aq::model_config& c, bool tied) {
    std::size_t wrong = wrong_elements(source, c, weight_id::embedding, 0, weight_id::embedding) +
                        wrong_elements(source, c, weight_id::final_norm, 0, weight_id::final_norm) +
                        wrong_elements(source, c, weight_id::head, 0, tied ? weight_id::embedding : weight_id::head);
    for (std::size_t layer = 0; layer < c.layers; ++layer) {
        for (const weight_id id : layer_ids) wrong += wrong_elements(source, c, id, layer, id);
    }
    return wrong;
}

inline std::string safetensors(const std::string& header, const std::string& data) {
    return raw(static_cast<std::uint64_t>(header.size())) + header + data;
}

/// The entries and the data of a safetensors file, appended one by one.
struct safetensors_writer {
    std::string header, data;

    void add(const std::string& name, const std::string& dtype, const std::string& shape, const std::string& bytes) {
        header += (header.empty() ? "" : ",") +
                  ("\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":[" +
                   std::to_string(data.size()) + "," + std::to_string(data.size() + bytes.size()) + "]}");
        data += bytes;
    }
    [[nodiscard]] std::string file() const { return safetensors("{" + header + "}", data); }
};

/// A folder of its own under the system's for temporary files, gone at the end of its scope.
class temporary_folder {
public:
    temporary_folder() : path_(std::filesystem::temp_directory_path() / ("aq-models-" + std::to_string(::getpid()))) {
        std::filesystem::remove_all(path_);
        std::filesystem::create_directories(path_);
    }
    temporary_folder(const temporary_folder&) = delete;
    temporary_folder& operator=(const temporary_folder&) = delete;
    ~temporary_folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }
    std::filesystem::path write(const std::string& name, const std::string& bytes) const {
        std::filesystem::create_directories((path_ / name).parent_path());
        std::ofstream(path_ / name, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        return path_ / name;
    }

private:
    std::filesystem::path path_;
};

/// A vocabulary file as llama2.c has it: three marks, the 256 bytes, then `pieces` with scores 0, -1, -2 and so on.
inline std::string llama2c_vocabulary(const std::vector<std::string>& pieces, std::int32_t longest = 16) {
    std::string file = raw(longest);
    const auto add = [&](const std::string& text, float score) {
        file += raw(score) + raw(static_cast<std::int32_t>(text.size())) + text;
    };
    for (const char* mark : {"<unk>", "\n<s>\n", "\n</s>\n"}) add(mark, 0.0F);
    const char digits[] = "0123456789ABCDEF";
    for (int byte = 0; byte < 256; ++byte) add(std::string("<0x") + digits[byte / 16] + digits[byte % 16] + ">", 0.0F);
    float score = 0.0F;
    for (const std::string& piece : pieces) add(piece, score--);
    return file;
}

}  // namespace aq_test
