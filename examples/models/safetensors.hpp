/// \file
/// Named tensors in safetensors files: eight bytes of header length, a JSON header, the data. Nothing is copied: a tensor
/// points into the bytes it was read from. Several files (the shards of a large model) may be added to one set.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "models/bytes.hpp"

namespace aq::models {

/// How an element is stored. Only f32, f16 and bf16 can be read as float.
enum class dtype { boolean, u8, i8, f8_e4m3, f8_e5m2, u16, i16, f16, bf16, u32, i32, f32, u64, i64, f64 };

/// As safetensors spells it.
[[nodiscard]] const char* name_of(dtype type) noexcept;
[[nodiscard]] std::size_t bytes_of(dtype type) noexcept;
[[nodiscard]] constexpr bool reads_as_float(dtype type) noexcept {
    return type == dtype::f32 || type == dtype::f16 || type == dtype::bf16;
}

/// Elements first .. first + count of `data`, which needs no alignment, as float: exact. `type` must read as float and the
/// range must lie in the data.
void to_float(dtype type, std::string_view data, std::size_t first, std::size_t count, float* out) noexcept;

struct tensor {
    std::string place;  ///< file and tensor, for messages
    dtype type = dtype::f32;
    std::vector<std::uint64_t> shape;
    std::string_view data;  ///< exactly the product of the shape elements
};

class tensor_set {
public:
    static constexpr std::uint64_t max_header_bytes = 100'000'000;
    static constexpr std::size_t max_tensors = 100'000, max_name_bytes = 1024, max_rank = 8;
    static constexpr std::uint64_t max_dimension = std::uint64_t{1} << 48;

    /// Adds the tensors of one file. Throws load_error unless the header is well formed and within the limits above, every
    /// tensor's range has the length its shape and dtype ask for, the ranges fill the data without gap or overlap, and no
    /// name is there already. After an error the set is as before.
    void add_safetensors(const named_bytes& file);

    /// Null where there is no tensor of this name.
    [[nodiscard]] const tensor* find(std::string_view name) const;
    [[nodiscard]] const std::map<std::string, tensor, std::less<>>& all() const noexcept { return tensors_; }

private:
    std::map<std::string, tensor, std::less<>> tensors_;
};

}  // namespace aq::models
