// The engine's matrix product with 4-bit weights and 8-bit activations: what embedding agilequant adds to a project.
#pragma once

#include <agilequant/agilequant.hpp>

#include "engine.hpp"

class quantized_layer {
public:
    // Quantizes and packs the weights, once. Throws what agilequant, which does not throw, reports as a status.
    explicit quantized_layer(const engine::matrix& weights);

    // y[m,n] = x[m,k] w[n,k]^T, in place of engine::multiply
    engine::matrix multiply(const engine::matrix& x) const;

    const char* isa() const { return kernels_->isa; }
    std::size_t bytes() const { return weights_.view().weights.bytes(); }

private:
    // The format is a type: four bits with a zero point, 64 neighbouring inputs share a scale.
    using format = aq::uniform<4, aq::asymmetric, aq::group<64>>;

    aq::packed_matrix<format> weights_;
    const aq::kernel_table* kernels_ = nullptr;
};
