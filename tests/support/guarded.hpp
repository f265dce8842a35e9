/// \file
/// A buffer with an unreadable page before its first and after its last byte: whoever leaves it stops the program.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>

namespace aq_test {

/// Where the buffer touches a guard page: a page is larger than most buffers, so one test needs both.
enum class guard { before, after };

template <class T>
class guarded {
    static_assert(std::is_trivially_copyable_v<T>);

public:
    guarded(std::size_t count, guard side) : count_(count) {
        const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        const std::size_t bytes = count * sizeof(T), inner = (bytes + page - 1) / page * page;
        mapped_ = inner + 2 * page;
        void* const base = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED) throw std::bad_alloc();
        base_ = static_cast<std::byte*>(base);
        if (inner != 0 && mprotect(base_ + page, inner, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
        data_ = reinterpret_cast<T*>(base_ + page + (side == guard::after ? inner - bytes : 0));
        if (inner != 0) std::memset(base_ + page, 0xFF, inner);  // NaN as floats, -1 as integers
    }
    guarded(const T* from, std::size_t count, guard side) : guarded(count, side) {
        if (count != 0) std::memcpy(data_, from, count * sizeof(T));
    }
    guarded(const guarded&) = delete;
    guarded& operator=(const guarded&) = delete;
    ~guarded() { munmap(base_, mapped_); }

    T* data() { return data_; }
    const T* data() const { return data_; }
    std::size_t size() const { return count_; }
    T& operator[](std::size_t i) { return data_[i]; }

private:
    std::size_t count_ = 0, mapped_ = 0;
    std::byte* base_ = nullptr;
    T* data_ = nullptr;
};

/// Whether the byte at p can be read; asks the kernel, which answers instead of stopping the program.
inline bool is_readable(const void* p) {
    int ends[2];
    if (pipe(ends) != 0) return false;
    const bool good = write(ends[1], p, 1) == 1;
    close(ends[0]);
    close(ends[1]);
    return good;
}

}  // namespace aq_test
