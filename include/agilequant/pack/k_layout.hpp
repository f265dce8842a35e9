/// \file
/// Where each input channel stands along the depth of a packed matrix, and in which runs the depth is walked. Weights and
/// the activations that meet them share one layout, so a kernel knows neither permutations, nor tails, nor TRIP: it walks runs.
///
/// The depth is cut into groups (one weight scale each) and, where TRIP is used, groups into runs of one exponent. A run is
/// padded to a multiple of k_step; padding has activation code 0, so it adds nothing. TRIP orders channels by falling
/// exponent, and a group's sum is made in Horner form, (..(S_3 << 1) + S_2 << 1 ..) + S_0: after each run the sum is shifted by the
/// difference to the next run's exponent, after the last one by its own exponent. A plain matrix has one run a group and no shift.
///
/// Example: k = 40 in groups of 32, no TRIP, k_step = 16:  runs [0,32) ends group 0, [32,48) ends group 1, 40..47 is padding.
/// With exponents 1 on channels 3 and 7 only:  order 3,7,pad*14 | 0,1,2,4,.. ; runs [0,16) shift 1, [16,48) ends group 0, ...
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/core/bits.hpp"
#include "agilequant/quant/granularity.hpp"

namespace aq {

/// Every run begins and ends at a multiple of this: two steps of four codes for 4-bit weights, four for 2-bit ones.
inline constexpr std::size_t k_step = 16;

/// TRIP's exponents lie in 0..max_exponent.
inline constexpr int max_exponent = 7;

/// A position that no channel stands at.
inline constexpr std::uint32_t padding = 0xFFFFFFFFU;

/// Packed positions begin .. end, all of one group and one exponent.
struct k_run {
    std::uint32_t begin = 0, end = 0;
    std::uint8_t exponent = 0;  ///< of its channels: x = 2^exponent * scale * (code - zero)
    std::uint8_t shift = 0;     ///< of the group's sum, after this run
    bool ends_group = false;
};

/// A borrowed layout; see the file's head.
struct k_layout_view {
    std::size_t k = 0;       ///< channels
    std::size_t packed = 0;  ///< positions, padding included
    std::size_t group = 0;   ///< channels that share a weight scale
    std::size_t groups = 0;
    const std::uint32_t* order = nullptr;  ///< [packed] the channel at a position, or `padding`; null: position = channel
    const k_run* runs = nullptr;
    std::size_t run_count = 0;
    std::uint64_t depth = 0;        ///< the largest sum of 2^exponent over a group: held against max_k
    std::uint64_t total_depth = 0;  ///< the sum of 2^exponent over all positions: held against max_two_level_k
    std::uint64_t id = 0;           ///< equal layouts have equal ids

    /// The channel at position p, or `padding`.
    [[nodiscard]] std::uint32_t channel(std::size_t p) const noexcept {
        return order != nullptr ? order[p] : static_cast<std::uint32_t>(p);
    }
    [[nodiscard]] bool has_exponents() const noexcept { return depth > group; }
};

/// The channels in the order in which they stand along the depth, without the padding: columns [k], as quantizers of weights take it.
inline void depth_order(const k_layout_view& layout, std::uint32_t* columns) noexcept {
    for (std::size_t p = 0; p < layout.packed; ++p) {
        if (layout.channel(p) != padding) *columns++ = layout.channel(p);
    }
}

/// What `id` of a layout is: in the upper 36 bits FNV-1a over everything that the meaning of a position depends on, in the lower 28 the
/// number of groups, of which there are fewer since each takes k_step of at most 2^32 positions. Whoever makes two layouts with one id on purpose
/// still cannot make a kernel read sums of groups that the activations lack.
[[nodiscard]] inline std::uint64_t fingerprint(const k_layout_view& layout) noexcept {
    constexpr std::uint64_t low = (std::uint64_t{1} << 28) - 1;
    std::uint64_t hash = 0xCBF29CE484222325U;
    const auto mix = [&hash](std::uint64_t v) { hash = (hash ^ v) * 0x100000001B3U; };
    mix(layout.k);
    mix(layout.group);
    for (std::size_t r = 0; r < layout.run_count; ++r) mix(layout.runs[r].end * std::uint64_t{8} + layout.runs[r].exponent);
    for (std::size_t p = 0; layout.order != nullptr && p < layout.packed; ++p) mix(layout.order[p]);
    return (hash & ~low) | layout.groups;
}

/// Owns a layout.
class k_layout {
public:
    /// Lays out k channels in groups of `group` (0: one group). `exponents` is TRIP's [k] or null.
    /// bad_argument: k or group beyond 2^31, more than 2^32 positions, or an exponent beyond max_exponent. Empty after a failure.
    [[nodiscard]] status make(std::size_t k, std::size_t group = 0, const std::uint8_t* exponents = nullptr) noexcept {
        *this = k_layout();
        if (k > 0x7FFFFFFFU || group > 0x7FFFFFFFU) return status::bad_argument;
        // at most one run for each group and one for each change of exponent
        const std::size_t most_runs = group_count(k, group) + static_cast<std::size_t>(max_exponent);
        if (k + most_runs * k_step > 0xFFFFFFFFU) return status::bad_argument;
        aligned_buffer<std::uint32_t> sorted;
        AQ_TRY(sort(k, exponents, sorted));
        const auto exponent = [&](std::size_t i) { return exponents == nullptr ? std::uint8_t{0} : exponents[sorted[i]]; };
        AQ_TRY(runs_.reset(most_runs));
        AQ_TRY(order_.reset(k + most_runs * k_step));
        k_ = k;
        group_ = group == 0 || group > k ? k : group;
        bool is_plain = true;
        for (std::size_t first = 0; first < k; first += group_) {
            const std::size_t last = std::min(first + group_, k);
            std::uint64_t depth = 0;
            for (std::size_t i = first; i < last;) {
                k_run& run = runs_[run_count_++];
                run.exponent = exponent(i);
                is_plain = is_plain && run.exponent == 0;
                run.begin = static_cast<std::uint32_t>(packed_);
                for (; i < last && exponent(i) == run.exponent; ++i) order_[packed_++] = sorted[i];
                depth += (packed_ - run.begin) << run.exponent;
                while (packed_ % k_step != 0) order_[packed_++] = padding;
                run.end = static_cast<std::uint32_t>(packed_);
                run.ends_group = i == last;
                run.shift = static_cast<std::uint8_t>(run.exponent - (run.ends_group ? 0 : exponent(i)));
            }
            depth_ = std::max(depth_, depth);
            total_depth_ += depth;
        }
        identity_ = is_plain && packed_ == k;
        id_ = fingerprint(view());
        return status::ok;
    }

    [[nodiscard]] k_layout_view view() const noexcept {
        k_layout_view v;
        v.k = k_;
        v.packed = packed_;
        v.group = group_;
        v.groups = k_ == 0 ? 0 : group_count(k_, group_);
        v.order = identity_ ? nullptr : order_.data();
        v.runs = runs_.data();
        v.run_count = run_count_;
        v.depth = depth_;
        v.total_depth = total_depth_;
        v.id = id_;
        return v;
    }

private:
    /// Channels by falling exponent, in their own order where exponents are equal: a counting sort.
    [[nodiscard]] static status sort(std::size_t k, const std::uint8_t* exponents,
                                     aligned_buffer<std::uint32_t>& sorted) noexcept {
        AQ_TRY(sorted.reset(k));
        std::size_t next = 0;
        for (int e = max_exponent; e >= 0; --e) {
            for (std::size_t c = 0; c < k; ++c) {
                if ((exponents == nullptr ? 0 : exponents[c]) == e) sorted[next++] = static_cast<std::uint32_t>(c);
            }
        }
        return next == k ? status::ok : status::bad_argument;
    }

    std::size_t k_ = 0, group_ = 0, packed_ = 0, run_count_ = 0;
    std::uint64_t depth_ = 0, total_depth_ = 0, id_ = 0;
    bool identity_ = true;
    aligned_buffer<std::uint32_t> order_;
    aligned_buffer<k_run> runs_;
};

}  // namespace aq
