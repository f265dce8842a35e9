/// \file
/// Packed weights of one format, and as many copies of them as one wants.
#pragma once

#include <memory>
#include <vector>

#include "agilequant/pack/packed_matrix.hpp"
#include "peers/peer.hpp"

namespace aq_bench {

class cold_weights {
public:
    /// Quantizes and packs w [n,k].
    cold_weights(const float* w, std::size_t n, std::size_t k, const aq::weight_format& format);
    /// Makes copies until there are `count`; number 0 is the original.
    void grow(std::size_t count);
    [[nodiscard]] const aq::packed_weights& at(std::size_t copy) const { return views_[copy]; }

private:
    aq::packed_storage<> original_;
    std::vector<aq::packed_weights> views_;
    std::vector<aq::aligned_buffer<std::uint8_t>> memory_;
};

/// The weights that `input` asks for, with its number of copies. Packed once for all instruction sets and row counts, and kept
/// until another matrix is asked for.
[[nodiscard]] std::shared_ptr<const cold_weights> weights_of(const product_input& input, const aq::weight_format& format);

}  // namespace aq_bench
