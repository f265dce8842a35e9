/// \file
/// What writers of files put bytes into: a sink of the caller's, and on the way to it the checksum.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/core/crc32c.hpp"
#include "agilequant/core/status.hpp"
#include "agilequant/pack/file_format.hpp"

namespace aq {

/// Where bytes go, in order; anything but ok ends the writing with that status.
struct byte_sink {
    void* self = nullptr;
    status (*write)(void* self, const void* data, std::size_t size) = nullptr;
};

namespace detail {

/// A list that doubles its room.
template <class T>
class growing_list {
public:
    /// out_of_memory leaves the list as it was.
    [[nodiscard]] status append(const T* from, std::size_t count) noexcept {
        if (count > items_.size() - size_) {
            aligned_buffer<T> larger;
            AQ_TRY(larger.reset(std::max(size_ + count, 2 * size_)));
            if (size_ != 0) std::memcpy(larger.data(), items_.data(), size_ * sizeof(T));
            items_ = std::move(larger);
        }
        if (count != 0) std::memcpy(items_.data() + size_, from, count * sizeof(T));
        size_ += count;
        return status::ok;
    }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] T* data() noexcept { return items_.data(); }
    [[nodiscard]] const T* data() const noexcept { return items_.data(); }
    [[nodiscard]] T& operator[](std::size_t i) noexcept { return items_[i]; }
    [[nodiscard]] const T& operator[](std::size_t i) const noexcept { return items_[i]; }

private:
    aligned_buffer<T> items_;
    std::size_t size_ = 0;
};

/// Passes bytes on, and keeps their checksum since it was last asked for.
class summing_sink {
public:
    explicit summing_sink(byte_sink to) noexcept : to_(to) {}
    [[nodiscard]] status put(const void* data, std::size_t size) noexcept {
        if (size == 0) return status::ok;
        crc_ = crc32c(crc_, data, size);
        at_ += size;
        return to_.write(to_.self, data, size);
    }
    /// Zeros to the next line.
    [[nodiscard]] status put_padding() noexcept {
        static constexpr unsigned char zeros[pack_file_line] = {};
        return put(zeros, static_cast<std::size_t>((pack_file_line - at_ % pack_file_line) % pack_file_line));
    }
    [[nodiscard]] std::uint32_t take_checksum() noexcept { return std::exchange(crc_, 0); }

private:
    byte_sink to_;
    std::uint64_t at_ = 0;
    std::uint32_t crc_ = 0;
};

}  // namespace detail

}  // namespace aq
