/// \file
/// What adapters share: copies of plain weights, and the product of libraries that take those as they are.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "peers/peer.hpp"

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

/// y [m,n] = x [m,k] w [n,k]^T in float.
using float_multiply = void (*)(const product_shape& shape, const float* x, const float* w, float* y);

class float_product final : public prepared_product {
public:
    float_product(const product_input& in, float_multiply multiply)
        : in_(in), multiply_(multiply), weights_(in.w, in.shape.n * in.shape.k, in.copies), y_(in.shape.m * in.shape.n) {}
    void run(std::size_t copy) override { multiply_(in_.shape, in_.x, weights_.at(copy), y_.data()); }
    [[nodiscard]] const float* y() const override { return y_.data(); }
    [[nodiscard]] double weight_bytes() const override { return weights_.bytes_of_one(); }

private:
    product_input in_;
    float_multiply multiply_;
    copies<float> weights_;
    std::vector<float> y_;
};

}  // namespace aq_bench
