#include "models/safetensors.hpp"

#include <agilequant/core/half.hpp>
#include <algorithm>
#include <utility>

#include "models/json.hpp"

namespace aq::models {
namespace {

struct dtype_row {
    dtype type;
    const char* name;
    std::size_t bytes;
};

/// In the order of the enumeration.
constexpr dtype_row dtypes[] = {
    {dtype::boolean, "BOOL", 1},    {dtype::u8, "U8", 1},   {dtype::i8, "I8", 1},   {dtype::f8_e4m3, "F8_E4M3", 1},
    {dtype::f8_e5m2, "F8_E5M2", 1}, {dtype::u16, "U16", 2}, {dtype::i16, "I16", 2}, {dtype::f16, "F16", 2},
    {dtype::bf16, "BF16", 2},       {dtype::u32, "U32", 4}, {dtype::i32, "I32", 4}, {dtype::f32, "F32", 4},
    {dtype::u64, "U64", 8},         {dtype::i64, "I64", 8}, {dtype::f64, "F64", 8},
};

/// A tensor as its header entry has it: the range counts from the start of the data.
struct entry {
    std::string name, place;
    dtype type;
    std::vector<std::uint64_t> shape;
    std::uint64_t begin, end;
};

const json& member(const json& object, const char* name, const std::string& place) {
    const auto found = object.find(name);
    if (found == object.end()) fail(place, std::string(name) + " is missing");
    return *found;
}

dtype dtype_of(const json& value, const std::string& place) {
    const auto* text = value.get_ptr<const std::string*>();
    if (text == nullptr) fail(place, "dtype is not a string");
    for (const dtype_row& row : dtypes) {
        if (*text == row.name) return row.type;
    }
    fail(place, "dtype " + in_quotes(*text) + " is not known");
}

std::vector<std::uint64_t> shape_from(const json& value, const std::string& place) {
    if (!value.is_array()) fail(place, "shape is not a list");
    if (value.size() > tensor_set::max_rank) {
        fail(place, "shape has " + std::to_string(value.size()) + " dimensions, more than the limit of " +
                        std::to_string(tensor_set::max_rank));
    }
    std::vector<std::uint64_t> shape;
    for (const json& dimension : value) {
        const auto number = unsigned_below(dimension, tensor_set::max_dimension + 1);
        if (!number) fail(place, "shape has a dimension that is no integer from 0 to 2^48");
        shape.push_back(*number);
    }
    return shape;
}

/// Reads one entry and holds its range against its shape and the `available` bytes of data.
entry read_entry(const std::string& file, const std::string& name, const json& value, std::uint64_t available) {
    const std::string place = inside(file, "tensor " + in_quotes(name));
    if (!value.is_object()) fail(place, "the header's entry is not an object");
    const dtype type = dtype_of(member(value, "dtype", place), place);
    std::vector<std::uint64_t> shape = shape_from(member(value, "shape", place), place);

    const json& offsets = member(value, "data_offsets", place);
    const bool pair =
        offsets.is_array() && offsets.size() == 2 && offsets[0].is_number_unsigned() && offsets[1].is_number_unsigned();
    if (!pair) fail(place, "data_offsets are not two non-negative integers");
    const auto begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
    if (begin > end)
        fail(place, "data_offsets begin at " + std::to_string(begin) + ", after their end at " + std::to_string(end));
    if (end > available) {
        fail(place, "data_offsets end at " + std::to_string(end) + " but the file holds " + std::to_string(available) +
                        " bytes of data");
    }

    std::uint64_t size = bytes_of(type);
    for (const std::uint64_t dimension : shape) size = multiply(size, dimension, place, "the product of the shape");
    if (size != end - begin) {
        fail(place,
             "data_offsets span " + std::to_string(end - begin) + " bytes but shape and dtype ask for " + std::to_string(size));
    }
    return {name, place, type, std::move(shape), begin, end};
}

void check_metadata(const std::string& file, const json& value) {
    const bool strings =
        value.is_object() && std::all_of(value.begin(), value.end(), [](const json& item) { return item.is_string(); });
    if (!strings) fail(file, "__metadata__ is not an object of strings");
}

/// The format allows neither gaps nor overlaps: bytes that no tensor names, or that two do, are nobody's weights.
void check_ranges(const std::string& file, std::vector<entry>& entries, std::uint64_t available) {
    std::sort(entries.begin(), entries.end(),
              [](const entry& a, const entry& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
    std::uint64_t end = 0;
    for (const entry& e : entries) {
        if (e.begin != end) {
            fail(e.place, "data_offsets begin at " + std::to_string(e.begin) +
                              (e.begin < end ? ", inside" : ", not at the end of") + " the tensor before, which ends at " +
                              std::to_string(end));
        }
        end = e.end;
    }
    if (end != available)
        fail(file,
             "the tensors end at " + std::to_string(end) + " but the file holds " + std::to_string(available) + " bytes of data");
}

}  // namespace

const char* name_of(dtype type) noexcept { return dtypes[static_cast<std::size_t>(type)].name; }
std::size_t bytes_of(dtype type) noexcept { return dtypes[static_cast<std::size_t>(type)].bytes; }

void to_float(dtype type, std::string_view data, std::size_t first, std::size_t count, float* out) noexcept {
    if (count == 0) return;
    if (type == dtype::f32) {
        std::memcpy(out, data.data() + first * sizeof(float), count * sizeof(float));
        return;
    }
    const char* source = data.data() + first * sizeof(std::uint16_t);
    for (std::size_t i = 0; i < count; ++i, source += sizeof(std::uint16_t)) {
        std::uint16_t bits;
        std::memcpy(&bits, source, sizeof bits);
        out[i] = type == dtype::f16 ? half_to_float(bits) : bfloat16_to_float(bits);
    }
}

void tensor_set::add_safetensors(const named_bytes& file) {
    byte_reader reader(file);
    const auto header_bytes = reader.number<std::uint64_t>("the header length");
    if (header_bytes > max_header_bytes) {
        fail(file.name, "the header length is " + std::to_string(header_bytes) + " bytes, more than the limit of " +
                            std::to_string(max_header_bytes));
    }
    const std::string_view header = reader.take(header_bytes, "the header");
    const std::uint64_t available = reader.remaining();
    const std::string_view data = reader.take(available, "the data");

    std::vector<entry> entries;
    const json_limits limits{8, 10000, max_name_bytes};
    for_each_member({inside(file.name, "header"), header}, limits, [&](const std::string& name, const json& value) {
        if (name == "__metadata__") return check_metadata(file.name, value);
        if (entries.size() == max_tensors)
            fail(file.name, "the header names more than " + std::to_string(max_tensors) + " tensors");
        if (const tensor* there = find(name); there != nullptr) fail(there->place, "is also in " + file.name);
        entries.push_back(read_entry(file.name, name, value, available));
    });
    check_ranges(file.name, entries, available);

    for (entry& e : entries) {
        const std::string_view range = data.substr(static_cast<std::size_t>(e.begin), static_cast<std::size_t>(e.end - e.begin));
        tensors_.emplace(std::move(e.name), tensor{std::move(e.place), e.type, std::move(e.shape), range});
    }
}

const tensor* tensor_set::find(std::string_view name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
}

}  // namespace aq::models
