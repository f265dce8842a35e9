/// \file
/// A rotation of the residual stream that both kinds of norm let through: it keeps the mean of a vector as well as its length, so that LayerNorm and RMSNorm
/// of the rotated vector are the rotated norms. It spreads what is large in one channel over the others. Ours; docs/rotation.md.
#pragma once

#include <cstddef>

#include "agilequant/core/matrix_view.hpp"

namespace aq::example {

/// x [rows,width] = H x / sqrt b in blocks of b = hadamard_block(rows) rows, in place: aq::hadamard() of every column, in double.
void hadamard_columns(double* x, std::size_t rows, std::size_t width) noexcept;

/// Q [channels,channels], symmetric and orthogonal, so Q Q = 1, with Q (1,1,..) = (1,1,..). With b = hadamard_block(channels) and `channels` = b times odd primes p,
/// it is the Kronecker product of
///   H S H of order b: H the orthonormal Hadamard matrix, S the signs of a bent sequence (Rothaus 1976): (-1)^(x . y) with x and y the halves of an index's bits.
///     Entries are all +-1/sqrt b where b is a power of 4. Else the highest bit is left out, and half of them are +-sqrt(2/b), the rest 0: such a b is no square, and
///     no sequence is flatter for b up to 128.
///   2/p J - 1 of order p for each p, with J all ones: the reflection at (1,1,..), entries 2/p and 2/p - 1.
/// So no entry is larger than sqrt(1/b) or sqrt(2/b) times the product of 2/3 for p = 3 and 1 - 2/p for larger ones.
class mean_rotation {
public:
    explicit mean_rotation(std::size_t channels) noexcept : channels_(channels) {}
    [[nodiscard]] std::size_t channels() const noexcept { return channels_; }

    /// x [channels,width] = Q x in place, in double. Every sum in a fixed order: the same bits everywhere.
    void apply(double* x, std::size_t width) const noexcept;

private:
    std::size_t channels_;
};

}  // namespace aq::example
