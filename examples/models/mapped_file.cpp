#include "models/mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace aq::models {
namespace {

/// Closes a file descriptor at the end of its scope; a mapping outlives it.
struct descriptor {
    int value;
    ~descriptor() {
        if (value >= 0) ::close(value);
    }
};

std::string reason() { return std::generic_category().message(errno); }

}  // namespace

mapped_file::mapped_file(const std::filesystem::path& path) : name_(path.string()) {
    // O_NONBLOCK: opening a named pipe that nobody writes to would wait for ever.
    const descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.value < 0) fail(name_, "cannot be opened (" + reason() + ")");
    struct stat info {};
    if (::fstat(file.value, &info) != 0) fail(name_, "cannot be examined (" + reason() + ")");
    if (!S_ISREG(info.st_mode)) fail(name_, "is not a regular file");
    if (info.st_size <= 0) fail(name_, "is empty");
    const auto size = static_cast<std::size_t>(info.st_size);
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.value, 0);
    if (data == MAP_FAILED) fail(name_, "cannot be mapped into memory (" + reason() + ")");
    bytes_ = {static_cast<const char*>(data), size};
}

mapped_file::mapped_file(mapped_file&& other) noexcept : name_(std::move(other.name_)), bytes_(std::exchange(other.bytes_, {})) {}

mapped_file& mapped_file::operator=(mapped_file&& other) noexcept {
    std::swap(name_, other.name_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

mapped_file::~mapped_file() {
    if (!bytes_.empty()) ::munmap(const_cast<char*>(bytes_.data()), bytes_.size());
}

}  // namespace aq::models
