/// \file
/// Where keys and values stand in a cache: the layout, normative, and a borrowed view of it. Not the cache, which owns memory and
/// fills it (model/kv_cache.hpp).
///
/// Everything of one head follows each other, head by head. In 32 bits a token is a row of floats. In 8 and 4 bits codes lie in tiles
/// (pack/tile.hpp) as the products of attention read them, from the beginning to the end:
///
///     keys     panels of 16 tokens, the portable tile with tokens as rows and channels as depth    tile<16, 4>::at(token, channel)
///     values   one panel, with all channels as rows and tokens as depth                            tile<dim, 4>::at(channel, token)
///
///     bits   a code                                 beside each token of a head
///     32     float                                  nothing
///     8      0..255, x^ = s (code - 128), never 0   2 scales a group: the key's and the value's
///     4      0..15, x^ = s (code - z)               2 scales a group, and a byte of zero points: the key's in the low bits, the
///                                                   value's in the high bits
///
///     dim = head_dim padded to 16; a group is `group` channels, or the head; row_bytes = dim * bits / 8, P = 8 / bits
///     a head begins at             head * capacity * row_bytes
///     key: byte, shift             token / 16 * 16 * row_bytes + (channel / 4P * 16 + token % 16) * 4 + channel % 4, channel / 4 % P * bits
///     value: byte, shift           (token / 4P * dim + channel) * 4 + token % 4, token / 4 % P * bits
///     scale, zero points:          scales[(head * groups + channel / group) * capacity + token], zeros[the same]
///
/// Scales are bfloat16: no smaller range than float's, and read by a shift; 8 bits of them are enough, since codes are made with the
/// scale as stored. Padding channels are 0 in value.
///
/// Worked: 2 heads of 48 in groups of 32, capacity 64, 4 bits: a head has 2 groups, a row 24 bytes, head 1 begins at byte 1536. Channel 37
/// of token 21: as a key 16 * 24 + (4 * 16 + 5) * 4 + 1 = 661, so byte 2197, and 37 / 4 is odd: the high bits. As a value (2 * 48 + 37) *
/// 4 + 1 = 533, so byte 2069, and 21 / 4 is odd: the high bits. The scale is number (1 * 2 + 1) * 64 + 21 = 213.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/core/half.hpp"
#include "agilequant/pack/tile.hpp"
#include "agilequant/quant/uniform.hpp"

namespace aq {

inline constexpr std::size_t kv_step =
    16;  ///< tokens of a panel; channels are padded to it, and the capacity is a multiple of it
inline constexpr std::size_t max_head_dim = 256;
inline constexpr std::size_t max_kv_heads = std::size_t{1} << 16;
inline constexpr std::size_t max_kv_length = std::size_t{1} << 22;  ///< positions and sums stay exact far beyond any model's
static_assert(kv_step == portable_tile::nr && kv_step == k_step,
              "aq: a panel of keys has as many tokens as a step of the depth of values.");

enum class kv_side { key, value };

struct kv_view {
    std::size_t kv_heads = 0, head_dim = 0;
    std::size_t length = 0;      ///< tokens
    std::size_t capacity = 0;    ///< tokens that there is memory for: a multiple of kv_step, all readable
    int bits = 32;               ///< 32: float; 8; 4
    std::size_t group = 0;       ///< channels that share a scale, a multiple of kv_step; 0: all of a head
    const void* keys = nullptr;  ///< as above
    const void* values = nullptr;
    const std::uint16_t* key_scales = nullptr;  ///< 8 and 4 bits
    const std::uint16_t* value_scales = nullptr;
    const std::uint8_t* zeros = nullptr;  ///< 4 bits

    [[nodiscard]] constexpr std::size_t padded_dim() const noexcept { return round_up(head_dim, kv_step); }
    /// Channels of a group, but perhaps the last, and groups of a head.
    [[nodiscard]] constexpr std::size_t group_channels() const noexcept {
        return group == 0 || group > padded_dim() ? padded_dim() : group;
    }
    [[nodiscard]] constexpr std::size_t groups() const noexcept {
        return (padded_dim() + group_channels() - 1) / group_channels();
    }
    /// Bytes of a token of a head: of its keys, or of its values.
    [[nodiscard]] constexpr std::size_t row_bytes() const noexcept { return padded_dim() * static_cast<std::size_t>(bits) / 8; }
    /// Of keys and values together, all that a token needs.
    [[nodiscard]] constexpr std::size_t token_bytes() const noexcept {
        const std::size_t scales = bits == 32 ? 0 : 2 * sizeof(std::uint16_t), zero_points = bits == 4 ? 1 : 0;
        return kv_heads * (2 * row_bytes() + groups() * (scales + zero_points));
    }
    /// The first tokens alone.
    [[nodiscard]] constexpr kv_view first(std::size_t tokens) const noexcept {
        kv_view v = *this;
        v.length = tokens;
        return v;
    }
    /// The place of a token's scale among all scales.
    [[nodiscard]] constexpr std::size_t scale_at(std::size_t head, std::size_t channel, std::size_t token) const noexcept {
        return (head * groups() + channel / group_channels()) * capacity + token;
    }
    /// The place of a code of 8 or 4 bits among all codes of its side.
    [[nodiscard]] constexpr code_place code_at(kv_side side, std::size_t head, std::size_t token,
                                               std::size_t channel) const noexcept {
        code_place at = portable_tile::at(token, channel, padded_dim(), bits);
        if (side == kv_side::value) {
            const std::size_t planes = static_cast<std::size_t>(8 / bits);
            at.byte = (token / (4 * planes) * padded_dim() + channel) * 4 + token % 4;
            at.shift = static_cast<int>(token / 4 % planes) * bits;
        }
        at.byte += head * capacity * row_bytes();
        return at;
    }
};

/// The scale that codes of a slice are made with, as stored: the smallest bfloat16 that clips none of them. Attention codes a probability
/// times this scale: zeros, whose scale is free, take that of the token before, so that they do not look larger than their neighbours.
[[nodiscard]] inline std::uint16_t kv_scale(value_range range, code_range codes, const std::uint16_t* before) noexcept {
    if (range.high - range.low < smallest_scale && before != nullptr) return *before;
    const float scale = (codes.low < 0 ? fit_symmetric(range, codes) : fit_asymmetric(range, codes)).scale;
    return static_cast<std::uint16_t>((bits_of(scale) + 0xFFFFU) >> 16);
}

/// Worked above.
static_assert([] {
    kv_view v;
    v.kv_heads = 2, v.head_dim = 48, v.capacity = 64, v.bits = 4, v.group = 32;
    return v.code_at(kv_side::key, 1, 21, 37).byte == 2197 && v.code_at(kv_side::key, 1, 21, 37).shift == 4 &&
           v.code_at(kv_side::value, 1, 21, 37).byte == 2069 && v.code_at(kv_side::value, 1, 21, 37).shift == 4 &&
           v.scale_at(1, 37, 21) == 213;
}());

/// unsupported_format: bits are not 32, 8, 4, or the group is no multiple of 16; bad_shape: no head or too many, a head_dim outside
/// 1..256, a length beyond the capacity, or a capacity that is no multiple of 16 or too large; null_pointer.
[[nodiscard]] constexpr status check(const kv_view& v) noexcept {
    if ((v.bits != 32 && v.bits != 8 && v.bits != 4) || v.group % kv_step != 0) return status::unsupported_format;
    if (v.kv_heads == 0 || v.kv_heads > max_kv_heads || v.head_dim == 0 || v.head_dim > max_head_dim) return status::bad_shape;
    if (v.length > v.capacity || v.capacity % kv_step != 0 || v.capacity > max_kv_length) return status::bad_shape;
    const bool missing = v.keys == nullptr || v.values == nullptr ||
                         (v.bits != 32 && (v.key_scales == nullptr || v.value_scales == nullptr)) ||
                         (v.bits == 4 && v.zeros == nullptr);
    return missing && v.length != 0 ? status::null_pointer : status::ok;
}

/// One number of the cache as a float: the definition of the layout, for tests and tools. head < kv_heads, token < length, channel < head_dim.
[[nodiscard]] inline float kv_element(const kv_view& v, kv_side side, std::size_t head, std::size_t token,
                                      std::size_t channel) noexcept {
    const auto* const codes = static_cast<const std::uint8_t*>(side == kv_side::key ? v.keys : v.values);
    if (v.bits == 32) {
        float x;
        std::memcpy(&x, codes + (head * v.capacity + token) * v.row_bytes() + channel * sizeof x, sizeof x);
        return x;
    }
    const std::size_t at = v.scale_at(head, channel, token);
    const float scale = bfloat16_to_float((side == kv_side::key ? v.key_scales : v.value_scales)[at]);
    const int zero = v.bits == 8 ? 128 : v.zeros[at] >> (side == kv_side::key ? 0 : 4) & 15;
    return scale * static_cast<float>(unpack_code(codes, v.code_at(side, head, token, channel), v.bits) - zero);
}

}  // namespace aq
