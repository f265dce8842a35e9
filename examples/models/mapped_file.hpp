/// \file
/// A file in memory, read-only. The pages come from the file as they are touched, so a large model costs no memory of its own.
/// Not for files that somebody shortens while they are mapped: that ends the program, as with any mapping.
#pragma once

#include <filesystem>
#include <string_view>

#include "models/bytes.hpp"

namespace aq::models {

/// Owns the mapping; move-only. Moving leaves the bytes where they are.
class mapped_file {
public:
    /// Throws load_error where the path cannot be opened, is no regular file, or is empty.
    explicit mapped_file(const std::filesystem::path& path);
    mapped_file(mapped_file&& other) noexcept;
    mapped_file& operator=(mapped_file&& other) noexcept;
    ~mapped_file();

    [[nodiscard]] std::string_view bytes() const noexcept { return bytes_; }
    /// The bytes under the path that was given.
    [[nodiscard]] named_bytes named() const { return {name_, bytes_}; }

private:
    std::string name_;
    std::string_view bytes_;
};

}  // namespace aq::models
