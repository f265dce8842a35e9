/// \file
/// The one owner of memory in the library: aligned to a cache line (from 4 MiB on to a large page), zeroed, move-only, without exceptions.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "agilequant/core/matrix_view.hpp"
#include "agilequant/core/status.hpp"
#include "agilequant/core/system.hpp"

namespace aq {

inline constexpr std::size_t cache_line_bytes = 64;

/// `count` rounded up to a multiple of `step`.
[[nodiscard]] constexpr std::size_t round_up(std::size_t count, std::size_t step) noexcept {
    return (count + step - 1) / step * step;
}

template <class T>
class aligned_buffer {
    static_assert(std::is_trivially_copyable_v<T>, "aq: an aligned_buffer holds plain data only.");

public:
    aligned_buffer() noexcept = default;
    aligned_buffer(aligned_buffer&& o) noexcept : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
    aligned_buffer& operator=(aligned_buffer&& o) noexcept {
        std::swap(data_, o.data_);
        std::swap(size_, o.size_);
        return *this;
    }
    aligned_buffer(const aligned_buffer&) = delete;
    aligned_buffer& operator=(const aligned_buffer&) = delete;
    ~aligned_buffer() { std::free(data_); }

    /// Makes room for `count` elements, all zero; what was there is lost. From 4 MiB on the size is rounded up to large pages. out_of_memory leaves the buffer empty.
    [[nodiscard]] status reset(std::size_t count) noexcept {
        std::free(std::exchange(data_, nullptr));
        size_ = 0;
        if (count == 0) return status::ok;
        if (count > (std::numeric_limits<std::size_t>::max() - huge_page_bytes) / sizeof(T)) return status::out_of_memory;
        const bool is_large = count * sizeof(T) >= 2 * huge_page_bytes;
        const std::size_t alignment = is_large ? huge_page_bytes : cache_line_bytes;
        const std::size_t bytes = round_up(count * sizeof(T), alignment);
        data_ = static_cast<T*>(std::aligned_alloc(alignment, bytes));
        if (data_ == nullptr) return status::out_of_memory;
        if (is_large) ask_for_huge_pages(data_, bytes);
        std::memset(static_cast<void*>(data_), 0, count * sizeof(T));
        size_ = count;
        return status::ok;
    }

    /// Like reset, but keeps the memory, and what is in it, where it is large enough already.
    [[nodiscard]] status reserve(std::size_t count) noexcept { return count <= size_ ? status::ok : reset(count); }

    [[nodiscard]] T* data() noexcept { return data_; }
    [[nodiscard]] const T* data() const noexcept { return data_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::size_t size_bytes() const noexcept { return size_ * sizeof(T); }
    [[nodiscard]] T& operator[](std::size_t i) noexcept { return data_[i]; }
    [[nodiscard]] const T& operator[](std::size_t i) const noexcept { return data_[i]; }
    [[nodiscard]] T* begin() noexcept { return data_; }
    [[nodiscard]] T* end() noexcept { return data_ + size_; }
    [[nodiscard]] const T* begin() const noexcept { return data_; }
    [[nodiscard]] const T* end() const noexcept { return data_ + size_; }

private:
    T* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace aq
