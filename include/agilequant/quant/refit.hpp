/// \file
/// Weights for the activations that they will meet: where x becomes x^ on its way into a layer, other weights than w may make the
/// output w x out of it. The least squares solution, before any weight is rounded:
///
///     minimize sum |w x - w' x^|^2 + damping |w' - w|^2   =>   w' = w + w D H'^-1,   D = sum (x - x^) x^^T,   H' = sum x^ x^^T + damping I
///
/// What GPTQ (quant/gptq.hpp) then rounds, with the H of x^, is w', and since |w x - q x^|^2 = |w' x^ - q x^|^2 + what nobody can change (but for the damping),
/// it rounds for the output that is wanted. Rounding noise of activations shrinks what they have to say, and its mean is not zero where values are clipped: both are made up
/// for. After GPTAQ (Li et al. 2025), which mends each column as GPTQ reaches it; in one step, before, it is ours.
#pragma once

#include "agilequant/quant/gptq.hpp"

namespace aq {

/// D = sum of (x - x^) x^^T, streamed.
class coding_loss {
public:
    /// Forgets everything and prepares for rows of `channels`. Memory: channels^2 doubles. out_of_memory leaves it without channels.
    [[nodiscard]] status reset(std::size_t channels) noexcept {
        channels_ = 0;
        if (channels > std::size_t{0xFFFFFFFFU}) return status::out_of_memory;
        AQ_TRY(sums_.reset(channels * channels));
        channels_ = channels;
        return status::ok;
    }

    /// Takes in x and what its codes stand for, both [tokens,channels], row by row: any cut into calls gives the same bits. NaN counts as 0,
    /// magnitudes above 2^126 as 2^126. bad_shape, bad_stride, null_pointer.
    [[nodiscard]] status add(matrix_view<const float> x, matrix_view<const float> coded) noexcept {
        AQ_TRY(check(x));
        AQ_TRY(check(coded));
        if (x.cols != channels_ || coded.shape() != x.shape()) return status::bad_shape;
        for (std::size_t r = 0; r < x.rows; ++r) {
            for (std::size_t i = 0; i < channels_; ++i) {
                const double loss = static_cast<double>(made_finite(x.row(r)[i])) - static_cast<double>(made_finite(coded.row(r)[i]));
                double* const sums = sums_.data() + i * channels_;
                for (std::size_t j = 0; loss != 0.0 && j < channels_; ++j)
                    sums[j] += rounded(loss * static_cast<double>(made_finite(coded.row(r)[j])));
            }
        }
        return status::ok;
    }

    [[nodiscard]] std::size_t channels() const noexcept { return channels_; }
    /// Row i of D [channels].
    [[nodiscard]] const double* row(std::size_t i) const noexcept { return sums_.data() + i * channels_; }

private:
    std::size_t channels_ = 0;
    aligned_buffer<double> sums_;
};

/// w [n,k] -> w' in place, columns in the order of channels. `plan`: of the coded activations, of which `loss` is; H' is the plan's, with its damping. All in
/// double until the end. bad_shape: sizes that differ; bad_stride, null_pointer, out_of_memory.
[[nodiscard]] inline status refit_weights(const coding_loss& loss, const gptq_plan& plan, matrix_view<float> w) noexcept {
    AQ_TRY(check(w));
    const std::size_t k = plan.channels();
    if (w.cols != k || loss.channels() != k) return status::bad_shape;
    aligned_buffer<double> lost, half;  // w D by turn; times U^T
    AQ_TRY(lost.reset(k));
    AQ_TRY(half.reset(k));
    const auto channel_at = [&](std::size_t turn) { return plan.channel(plan.position(turn)); };
    for (std::size_t r = 0; r < w.rows; ++r) {
        float* const row = w.row(r);
        std::fill(half.begin(), half.end(), 0.0);
        for (std::size_t i = 0; i < k; ++i) {
            const double v = static_cast<double>(made_finite(row[i]));
            for (std::size_t j = 0; j < k; ++j) half[j] += rounded(v * loss.row(i)[j]);
        }
        for (std::size_t t = 0; t < k; ++t) lost[t] = plan.is_dead(t) ? 0.0 : half[channel_at(t)];
        for (std::size_t t = 0; t < k; ++t) {
            double sum = 0.0;
            for (std::size_t j = t; j < k; ++j) sum += rounded(plan.factor(t)[j] * lost[j]);
            half[t] = sum;
        }
        std::fill(lost.begin(), lost.end(), 0.0);
        for (std::size_t t = 0; t < k; ++t) {
            for (std::size_t j = t; j < k; ++j) lost[j] += rounded(half[t] * plan.factor(t)[j]);
        }
        for (std::size_t t = 0; t < k; ++t) {
            float& v = row[channel_at(t)];
            if (!plan.is_dead(t)) v = made_finite(static_cast<float>(static_cast<double>(made_finite(v)) + lost[t]));
        }
    }
    return status::ok;
}

}  // namespace aq
