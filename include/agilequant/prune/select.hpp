/// \file
/// Which tokens survive a pruning layer. Deterministic: the result depends on the scores alone, ties included.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agilequant/core/exact_float.hpp"
#include "agilequant/core/status.hpp"

namespace aq {

/// A share of tokens to drop: 0 <= ratio < 1. NaN is none.
[[nodiscard]] constexpr bool is_prune_ratio(double ratio) noexcept { return ratio >= 0.0 && ratio < 1.0; }

/// How many of `rows` tokens survive: rows - floor(rows * ratio); never fewer than one, and a single row is never pruned.
/// 2^-20 of a token is added before the floor, so that a fraction means itself although a double cannot hold it: .29 of 100
/// is 29, not 28. `ratio` as is_prune_ratio says; any other drops nothing.
[[nodiscard]] constexpr std::size_t kept_rows(std::size_t rows, double ratio) noexcept {
    if (rows <= 1 || !is_prune_ratio(ratio)) return rows;
    double share = static_cast<double>(rows) * ratio;
    if (!__builtin_is_constant_evaluated()) share = rounded(share);  // never fused with the addition
    const auto dropped = static_cast<std::size_t>(share + 0x1p-20);
    return dropped < rows ? rows - dropped : 1;
}

namespace detail {

/// Orders importances as integers: NaN lowest, then -infinity .. +infinity (both zeros equal), then token 0.
[[nodiscard]] inline std::uint32_t importance_key(const float* scores, std::size_t i) noexcept {
    if (i == 0) return 0xFFFFFFFFU;
    if (scores[i] != scores[i]) return 0;
    const std::uint32_t u = bits_of(scores[i] + 0.0F);
    return (u & 0x80000000U) != 0 ? ~u : u | 0x80000000U;
}

/// How many tokens have a key of at least `least`.
[[nodiscard]] inline std::size_t count_from(const float* scores, std::size_t rows, std::uint32_t least) noexcept {
    std::size_t count = 0;
    for (std::size_t i = 0; i < rows; ++i) count += importance_key(scores, i) >= least ? 1 : 0;
    return count;
}

}  // namespace detail

/// Chooses the `keep` most important of scores [rows] -> kept [keep], ascending. Token 0 always survives; of equal scores the
/// later token goes first; NaN is the lowest. A caller that needs another token as well, as generation needs the last one,
/// sets its score to infinity. 32 passes over the scores, no scratch; `kept` and `scores` do not overlap.
/// bad_argument: keep beyond rows, none kept of some, or rows beyond 2^32; null_pointer.
[[nodiscard]] inline status select_rows(const float* scores, std::size_t rows, std::size_t keep, std::uint32_t* kept) noexcept {
    if (keep > rows || (keep == 0 && rows != 0) || rows > 0xFFFFFFFFU) return status::bad_argument;
    if (rows == 0) return status::ok;
    if (scores == nullptr || kept == nullptr) return status::null_pointer;
    // The key of the last survivor, found bit by bit: the largest one that at least `keep` tokens reach.
    std::uint32_t threshold = 0;
    for (std::uint32_t bit = 0x80000000U; bit != 0; bit >>= 1) {
        if (detail::count_from(scores, rows, threshold | bit) >= keep) threshold |= bit;
    }
    std::size_t ties = keep - (threshold == 0xFFFFFFFFU ? 0 : detail::count_from(scores, rows, threshold + 1));
    std::size_t next = 0;
    for (std::size_t i = 0; i < rows; ++i) {
        const std::uint32_t key = detail::importance_key(scores, i);
        if (key < threshold || (key == threshold && ties == 0)) continue;
        if (key == threshold) --ties;
        kept[next++] = static_cast<std::uint32_t>(i);
    }
    return status::ok;
}

}  // namespace aq
