/// \file
/// What adapters share: copies of plain weights.
#pragma once

#include <cstddef>
#include <vector>

namespace aq_bench {

/// `count` copies of `size` elements.
template <class T>
class copies {
public:
    copies(const T* data, std::size_t size, std::size_t count) : all_(count, std::vector<T>(data, data + size)) {}
    [[nodiscard]] const T* at(std::size_t copy) const { return all_[copy].data(); }
    [[nodiscard]] double bytes_of_one() const { return static_cast<double>(all_[0].size() * sizeof(T)); }

private:
    std::vector<std::vector<T>> all_;
};

}  // namespace aq_bench
