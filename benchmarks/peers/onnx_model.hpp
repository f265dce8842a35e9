/// \file
/// A model file of ONNX with one node, written without a library: ONNX Runtime takes weights in models only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace aq_bench::onnx {

/// A message of Protocol Buffers. Field numbers are those of onnx.proto.
class message {
public:
    message& add(unsigned field, std::uint64_t value) {
        append_number(field << 3U);
        append_number(value);
        return *this;
    }
    message& add(unsigned field, const std::string& bytes) {
        append_number(field << 3U | 2U);
        append_number(bytes.size());
        bytes_ += bytes;
        return *this;
    }
    message& add(unsigned field, const message& inner) { return add(field, inner.bytes_); }

    [[nodiscard]] const std::string& bytes() const { return bytes_; }

private:
    void append_number(std::uint64_t value) {
        for (; value >= 0x80; value >>= 7U) bytes_ += static_cast<char>((value & 0x7FU) | 0x80U);
        bytes_ += static_cast<char>(value);
    }

    std::string bytes_;
};

enum class element : unsigned { float32 = 1, uint8 = 2, int8 = 3 };

using dimensions = std::vector<std::size_t>;

/// A constant: `data` are the bytes of its elements in row-major order.
[[nodiscard]] inline message constant(const std::string& name, element type, const dimensions& shape, const std::string& data) {
    message tensor;
    for (const std::size_t d : shape) tensor.add(1, d);
    return tensor.add(2, static_cast<std::uint64_t>(type)).add(8, name).add(9, data);
}

/// The declaration of a float input or output.
[[nodiscard]] inline message variable(const std::string& name, const dimensions& shape) {
    message dims, tensor, type, value;
    for (const std::size_t d : shape) dims.add(1, message().add(1, d));
    tensor.add(1, static_cast<std::uint64_t>(element::float32)).add(2, dims);
    return value.add(1, name).add(2, type.add(1, tensor));
}

[[nodiscard]] inline message integer_attribute(const std::string& name, std::size_t value) {
    constexpr std::uint64_t type_int = 2;
    return message().add(1, name).add(3, value).add(20, type_int);
}

/// What the one node computes from "x" and its constants.
struct node {
    std::string operation, domain;
    std::vector<std::string> constant_names;
    std::vector<message> constants, attributes;
};

/// "y": [m,n] from "x": [m,k].
[[nodiscard]] inline std::string model(const node& from, const dimensions& x, const dimensions& y) {
    message operation, graph, standard, contributed;
    operation.add(1, std::string("x"));
    for (const std::string& name : from.constant_names) operation.add(1, name);
    operation.add(2, std::string("y")).add(4, from.operation);
    for (const message& attribute : from.attributes) operation.add(5, attribute);
    operation.add(7, from.domain);
    graph.add(1, operation).add(2, std::string("product"));
    for (const message& c : from.constants) graph.add(5, c);
    graph.add(11, variable("x", x)).add(12, variable("y", y));
    standard.add(1, std::string()).add(2, 17);
    contributed.add(1, std::string("com.microsoft")).add(2, 1);
    return message().add(1, 8).add(8, standard).add(8, contributed).add(7, graph).bytes();
}

}  // namespace aq_bench::onnx
