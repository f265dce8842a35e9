/// \file
/// What a packed matrix from a file has to fulfil before kernels may see it: that its layout is one that k_layout::make makes, and that its
/// codes, zero points and multipliers keep to their limits. Allocates nothing.
///
/// Kernels take places from the layout alone, so a checked layout is what their memory safety rests on; that no sum of theirs overflows rests on
/// the codes as well.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/core/bits.hpp"
#include "agilequant/core/exact_float.hpp"
#include "agilequant/pack/k_layout.hpp"
#include "agilequant/pack/packed_matrix.hpp"
#include "agilequant/pack/tile.hpp"

namespace aq {

namespace detail {

/// Channels of a run, which stand before its padding.
[[nodiscard]] inline std::size_t channels_of(const k_layout_view& l, const k_run& run) noexcept {
    std::size_t end = run.end;
    while (l.order != nullptr && end > run.begin && l.order[end - 1] == padding) --end;
    return end - run.begin;
}

/// Whether run i follows what came before it: begins where `begin` says, has room for no more than the `left` channels of its group and padding
/// to the next step only, and an exponent of at most `highest`. `channels` becomes the number of its channels.
[[nodiscard]] inline bool is_next_run(const k_layout_view& l, std::size_t i, std::size_t begin, std::size_t left, int highest,
                                      std::size_t& channels) noexcept {
    if (i >= l.run_count) return false;
    const k_run& run = l.runs[i];
    if (run.begin != begin || run.end <= run.begin || run.end > l.packed || run.end % k_step != 0 || run.exponent > highest)
        return false;
    channels = channels_of(l, run);
    return channels != 0 && channels <= left && round_up(channels, k_step) == run.end - run.begin;
}

/// Whether the runs are those of groups of l.group channels, each with falling exponents, and end at l.packed; sums up the depths.
[[nodiscard]] inline bool are_runs_sound(k_layout_view& l) noexcept {
    std::size_t i = 0, begin = 0;
    int highest = max_exponent;
    for (std::size_t first = 0; first < l.k; first += l.group) {
        std::size_t left = std::min(l.group, l.k - first), channels = 0;
        std::uint64_t depth = 0;
        for (; left != 0; ++i) {
            if (!is_next_run(l, i, begin, left, highest, channels)) return false;
            const k_run& run = l.runs[i];
            left -= channels;
            begin = run.end;
            depth += std::uint64_t{channels} << run.exponent;
            highest =
                left == 0 ? run.exponent : run.exponent - 1;  // within a group exponents fall, from group to group they may stay
            const bool has_next = left != 0 && i + 1 < l.run_count;
            const int next = has_next ? l.runs[i + 1].exponent : 0;
            if (run.ends_group != (left == 0) || run.shift != run.exponent - next) return false;
        }
        l.depth = std::max(l.depth, depth);
        l.total_depth += depth;
    }
    return i == l.run_count && begin == l.packed;
}

/// Whether the order of a layout with sound runs names every channel once, those of one exponent rising: eight rising sequences are merged, and
/// 0, 1, 2 .. k - 1 must come out.
[[nodiscard]] inline bool is_order_sound(const k_layout_view& l) noexcept {
    std::size_t at[max_exponent + 1] = {}, end[max_exponent + 1] = {};
    for (std::size_t i = l.run_count; i-- != 0;) {
        const k_run& run = l.runs[i];
        at[run.exponent] = run.begin;
        if (end[run.exponent] == 0) end[run.exponent] = run.end;
    }
    for (std::size_t c = 0; c < l.k; ++c) {
        bool is_found = false;
        for (int e = 0; e <= max_exponent && !is_found; ++e) {
            while (at[e] != end[e] && l.order[at[e]] == padding) ++at[e];
            is_found = at[e] != end[e] && l.order[at[e]] == c;
            if (is_found) ++at[e];
        }
        if (!is_found) return false;
    }
    return true;
}

/// The least and the greatest code of a group in each byte of a step: 16 rows by 4 positions.
struct step_codes {
    static constexpr std::size_t bytes = portable_tile::nr * portable_tile::kr;
    std::uint8_t least[bytes], greatest[bytes];
    std::uint8_t in_padding = 0;  ///< all codes that stand where no channel does, or-ed

    void clear() noexcept {
        std::fill(least, least + bytes, std::uint8_t{0xFF});
        std::fill(greatest, greatest + bytes, std::uint8_t{0});
    }
    /// A step of which `count` positions are channels.
    void add(const std::uint8_t* from, int shift, int mask, std::size_t count) noexcept {
        if (count == portable_tile::kr) {
            for (std::size_t b = 0; b < bytes; ++b) add(b, from[b] >> shift & mask);
            return;
        }
        for (std::size_t b = 0; b < bytes; ++b) {
            const int code = from[b] >> shift & mask;
            if (b % portable_tile::kr < count) add(b, code);
            else in_padding = static_cast<std::uint8_t>(in_padding | code);
        }
    }
    void add(std::size_t byte, int code) noexcept {
        const auto c = static_cast<std::uint8_t>(code);
        least[byte] = std::min(least[byte], c);
        greatest[byte] = std::max(greatest[byte], c);
    }
    [[nodiscard]] code_range of_lane(std::size_t lane) const noexcept {
        const std::size_t b = lane * portable_tile::kr;
        return {*std::min_element(least + b, least + b + portable_tile::kr),
                *std::max_element(greatest + b, greatest + b + portable_tile::kr)};
    }
};

/// Takes in the codes of one run of one panel.
inline void add_run(const packed_weights& w, std::size_t panel, const k_run& run, step_codes& codes) noexcept {
    const std::size_t end = run.begin + channels_of(w.layout, run);
    const int mask = (1 << storage_bits(w.bits)) - 1;
    for (std::size_t p = run.begin; p < run.end; p += portable_tile::kr) {
        const code_place place = portable_tile::at(panel * portable_tile::nr, p, w.layout.packed, w.bits);
        const std::size_t count = p < end ? std::min<std::size_t>(end - p, portable_tile::kr) : 0;
        codes.add(w.codes + place.byte, place.shift, mask, count);
    }
}

/// Whether a group of a row keeps to what packed_storage::assign accepts; a row beyond the last has zeros throughout.
[[nodiscard]] inline bool is_group_sound(const packed_weights& w, std::size_t row, std::size_t group, code_range codes) noexcept {
    const std::size_t at = (row / portable_tile::nr * w.layout.groups + group) * portable_tile::nr + row % portable_tile::nr;
    const int zero = w.zeros != nullptr ? w.zeros[at] : row < w.n ? w.symmetric_zero() : 0;
    const int multiplier = w.multipliers != nullptr ? w.multipliers[at] : 0;
    if (row >= w.n)
        return codes.high == 0 && zero == 0 && multiplier == 0 && (w.multipliers != nullptr || bits_of(w.scales[at]) == 0);
    const int largest = weight_codes(w.bits).high;
    if (codes.high > largest || zero > largest) return false;
    if (w.multipliers == nullptr) return std::isfinite(w.scales[at]);
    return multiplier != 0 && multiplier <= largest_scaled_code &&
           multiplier * largest_distance(codes, zero) <= largest_scaled_code;
}

}  // namespace detail

/// Whether a layout is exactly what k_layout::make makes of its channels, groups and exponents, given l.k, group, groups and packed in their limits
/// (packed a multiple of k_step, group in 1..k) and tables that are there. Then l has its depths and its id. O(packed). bad_file.
[[nodiscard]] inline status check_layout(k_layout_view& l) noexcept {
    l.depth = l.total_depth = 0;
    if (!detail::are_runs_sound(l)) return status::bad_file;
    const bool is_plain = l.run_count == 0 || l.runs[0].exponent == 0;  // the first run has the highest
    if ((l.order == nullptr) != (is_plain && l.packed == l.k)) return status::bad_file;
    if (l.order != nullptr && !detail::is_order_sound(l)) return status::bad_file;
    l.id = fingerprint(l);
    return status::ok;
}

/// Whether the depths of a layout are within what 32-bit sums hold, as packed_storage::assign has it. depth_over_limit.
[[nodiscard]] inline status check_depth(const packed_weights& w) noexcept {
    if (static_cast<std::int64_t>(w.layout.depth) > max_k(w.bits, 8)) return status::depth_over_limit;
    const bool is_two_level = w.multipliers != nullptr;
    if (is_two_level && static_cast<std::int64_t>(w.layout.total_depth) > max_two_level_k(8)) return status::depth_over_limit;
    return status::ok;
}

/// Whether codes, zero points and multipliers of a matrix with a checked layout are ones that packed_storage::assign accepts, scales and offsets are
/// finite, and everything where no row or no channel stands is zero. Reads all codes. bad_file.
[[nodiscard]] inline status check_codes(const packed_weights& w) noexcept {
    const k_layout_view& l = w.layout;
    detail::step_codes codes;
    for (std::size_t panel = 0; panel < w.panels() && l.k != 0; ++panel) {
        codes.clear();
        for (std::size_t i = 0, group = 0; i < l.run_count; ++i) {
            detail::add_run(w, panel, l.runs[i], codes);
            if (!l.runs[i].ends_group) continue;
            for (std::size_t lane = 0; lane < portable_tile::nr; ++lane) {
                if (!detail::is_group_sound(w, panel * portable_tile::nr + lane, group, codes.of_lane(lane)))
                    return status::bad_file;
            }
            codes.clear();
            ++group;
        }
    }
    if (codes.in_padding != 0) return status::bad_file;
    for (std::size_t row = 0; row < w.panels() * portable_tile::nr; ++row) {
        const auto is_sound = [&](float v) { return row < w.n ? std::isfinite(v) : bits_of(v) == 0; };
        if (!is_sound(w.offsets[row])) return status::bad_file;
        if (w.multipliers != nullptr && !is_sound(w.scales[row])) return status::bad_file;
    }
    return status::ok;
}

}  // namespace aq
