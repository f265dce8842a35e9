/// \file
/// What follows a product while its results are still in cache: plain stages, folded into one epilogue.
///
///     const auto stages = epilogue(add_bias{bias}, add_residual{x});
///     gemm(kernels, {w, a, y, stages.ref()});
///
/// A stage is a struct with `void operator()(const output_block&) const noexcept` that changes the block in place.
#pragma once

#include <tuple>
#include <utility>

#include "agilequant/core/matrix_view.hpp"
#include "agilequant/elementwise/activation.hpp"
#include "agilequant/kernels/jobs.hpp"

namespace aq {

/// y += bias; bias [n].
struct add_bias {
    const float* bias;
    void operator()(const output_block& b) const noexcept {
        for (std::size_t r = 0; r < b.rows; ++r) {
            for (std::size_t c = 0; c < b.cols; ++c) b.values[r * b.stride + c] += bias[b.col + c];
        }
    }
};

/// y += x; x [m,n], which may be y itself.
struct add_residual {
    matrix_view<const float> x;
    void operator()(const output_block& b) const noexcept {
        for (std::size_t r = 0; r < b.rows; ++r) {
            for (std::size_t c = 0; c < b.cols; ++c) b.values[r * b.stride + c] += x.row(b.row + r)[b.col + c];
        }
    }
};

/// y = silu(gate) * y; gate [m,n], which may be y itself.
struct mul_silu_gate {
    matrix_view<const float> gate;
    void operator()(const output_block& b) const noexcept {
        for (std::size_t r = 0; r < b.rows; ++r) {
            float* const values = b.values + r * b.stride;
            silu_gate(gate.row(b.row + r) + b.col, values, b.cols, values);
        }
    }
};

/// Stages that run one after another. Keep it alive as long as the products that use its ref().
template <class... Stages>
class epilogue {
public:
    explicit epilogue(Stages... stages) noexcept : stages_(stages...) {}
    [[nodiscard]] epilogue_ref ref() const noexcept { return {apply, this}; }

private:
    static void apply(const void* self, const output_block& block) {
        std::apply([&block](const Stages&... stage) { (stage(block), ...); }, static_cast<const epilogue*>(self)->stages_);
    }
    std::tuple<Stages...> stages_;
};

}  // namespace aq
