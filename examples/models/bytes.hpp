/// \file
/// Bytes of a file, wherever they are, and arithmetic on the sizes found in them. A size from a file is 64 bits and unsigned,
/// every sum and product of sizes is checked, and nothing is read or allocated before its length is held against the bytes
/// that are there.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "models/load_error.hpp"

namespace aq::models {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "aq: the files are little-endian, and so must be the machine.");

/// A file's contents, borrowed, and what messages call it.
struct named_bytes {
    std::string name;
    std::string_view bytes;
};

/// a * b, or a load_error: "<place>: <what> is beyond 64 bits".
[[nodiscard]] inline std::uint64_t multiply(std::uint64_t a, std::uint64_t b, std::string_view place, std::string_view what) {
    std::uint64_t product = 0;
    if (__builtin_mul_overflow(a, b, &product)) fail(place, std::string(what) + " is beyond 64 bits");
    return product;
}

/// a + b, or a load_error as above.
[[nodiscard]] inline std::uint64_t add(std::uint64_t a, std::uint64_t b, std::string_view place, std::string_view what) {
    std::uint64_t sum = 0;
    if (__builtin_add_overflow(a, b, &sum)) fail(place, std::string(what) + " is beyond 64 bits");
    return sum;
}

/// Takes numbers and bytes from the front of a file, one after the other.
class byte_reader {
public:
    explicit byte_reader(named_bytes file) : file_(std::move(file)) {}

    [[nodiscard]] std::uint64_t position() const noexcept { return position_; }
    [[nodiscard]] std::uint64_t remaining() const noexcept { return file_.bytes.size() - position_; }

    /// The next `count` bytes; `what` names them where the file ends before.
    [[nodiscard]] std::string_view take(std::uint64_t count, std::string_view what) {
        if (count > remaining()) {
            fail(file_.name, std::string(what) + " takes " + std::to_string(count) + " bytes at " + std::to_string(position_) +
                                 " but the file holds " + std::to_string(file_.bytes.size()) + " bytes");
        }
        const std::string_view result = file_.bytes.substr(position_, static_cast<std::size_t>(count));
        position_ += result.size();
        return result;
    }

    template <class T>
    [[nodiscard]] T number(std::string_view what) {
        static_assert(std::is_arithmetic_v<T>, "aq: a file's number is an integer or a float.");
        T value;
        std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
        return value;
    }

private:
    named_bytes file_;
    std::size_t position_ = 0;
};

}  // namespace aq::models
