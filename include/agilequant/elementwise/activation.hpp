/// \file
/// ReLU, SiLU, GELU and LLaMA's gate. All: [count] in, [count] out, the output may be an input, NaN gives NaN.
#pragma once

#include <cstddef>

#include "agilequant/core/exact_float.hpp"
#include "agilequant/elementwise/exp.hpp"
#include "agilequant/elementwise/loops.hpp"

namespace aq {

namespace lanes {
/// x * sigmoid(t) = x / (1 + e^-t), and 0 where e^-t overflows, even for x = -infinity. Nothing cancels: the relative error is
/// at most 4 * 2^-24, plus that of t times |t|.
template <class Lane>
[[nodiscard]] AQ_INLINE Lane times_sigmoid(Lane x, Lane t) noexcept {
    const Lane e = lanes::exp(Lane(0.0F) - t);
    return lanes::select(e == Lane(float_of(0x7F800000U)), Lane(0.0F), lanes::divide(x, Lane(1.0F) + e));
}

template <class Lane>
[[nodiscard]] AQ_INLINE Lane silu(Lane x) noexcept {
    return times_sigmoid(x, x);
}

/// 0.5 (1 + tanh u) is sigmoid(2 u), which needs no tanh and keeps its digits where tanh is near -1.
template <class Lane>
[[nodiscard]] AQ_INLINE Lane gelu(Lane x) noexcept {
    using c = gelu_constants;
    return times_sigmoid(x, x * (lanes::rounded(x * x * Lane(c::cubic)) + Lane(c::linear)));
}
}  // namespace lanes

/// y[i] = max(x[i], 0). relu(-0) = -0.
template <class Lane = lanes::native>
void relu(const float* x, std::size_t count, float* y) noexcept {
    const auto f = [](auto v) { return lanes::select(v < decltype(v)(0.0F), decltype(v)(0.0F), v); };
    lanes::map<Lane>(count, y, f, x);
}

/// y[i] = x[i] / (1 + e^-x[i])  (Elfwing et al. 2018). 0 below -88.73, -infinity included.
template <class Lane = lanes::native>
void silu(const float* x, std::size_t count, float* y) noexcept {
    const auto f = [](auto v) { return lanes::silu(v); };
    lanes::map<Lane>(count, y, f, x);
}

/// y[i] = 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), the form of BLOOM and GPT-2  (Hendrycks and Gimpel 2016, section 2).
/// 0 towards -infinity.
template <class Lane = lanes::native>
void gelu(const float* x, std::size_t count, float* y) noexcept {
    const auto f = [](auto v) { return lanes::gelu(v); };
    lanes::map<Lane>(count, y, f, x);
}

/// y[i] = silu(gate[i]) * up[i]: the middle of LLaMA's MLP  (Shazeer 2020, eq. 6).
template <class Lane = lanes::native>
void silu_gate(const float* gate, const float* up, std::size_t count, float* y) noexcept {
    const auto f = [](auto g, auto u) { return lanes::silu(g) * u; };
    lanes::map<Lane>(count, y, f, gate, up);
}

}  // namespace aq
