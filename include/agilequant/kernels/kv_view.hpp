/// \file
/// Where keys and values stand in a cache: the layout, normative, and a borrowed view of it. Not the cache, which owns memory and
/// fills it (model/kv_cache.hpp).
///
/// A cache is a list of *planes*. A plane holds some channels of one head, for every token; within it a token is a row of codes,
/// with one scale for the key's row and one for the value's. Planes of a head follow each other:
///
///     bits   a plane is                    a row is                                 beside each token of a plane
///     32     a head, padded to 16          floats                                   nothing
///     8      a head, padded to 16          int8, -127..127; x^ = s q                2 scales
///     4      32 channels of a head,        16 bytes: channel c in the low bits of   2 scales, a byte of zero points: the
///            padded                        byte c, 16 + c in the high bits;         key's in the low bits, the value's
///                                          0..15; x^ = s (q - z)                    in the high bits
///
///     row of token j in plane p:  codes  + (p * capacity + j) * row_bytes
///     scale, zero points:         scales[p * capacity + j], zeros[p * capacity + j]
///
/// Scales are bfloat16: no smaller range than float's, and read by a shift; 8 bits of them are enough, since codes are made with the
/// scale as stored. Padding channels are 0 in value. So attention reads each plane from its beginning to its end.
///
/// Worked: 2 heads of 48, capacity 64, 4 bits: 2 planes a head. Channel 37 of token 5 of head 1 is channel 5 of plane 3: low bits of
/// byte (3 * 64 + 5) * 16 + 5 = 3157, scale 197.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/core/half.hpp"

namespace aq {

inline constexpr std::size_t kv_step = 16;  ///< channels of a plane and tokens of the capacity are multiples of it
inline constexpr std::size_t max_head_dim = 256;
inline constexpr std::size_t max_kv_heads = std::size_t{1} << 16;
inline constexpr std::size_t max_kv_length = std::size_t{1} << 22;  ///< positions and sums stay exact far beyond any model's

struct kv_view {
    std::size_t kv_heads = 0, head_dim = 0;
    std::size_t length = 0;      ///< tokens
    std::size_t capacity = 0;    ///< tokens that there is memory for: a multiple of kv_step, all readable
    int bits = 32;               ///< 32: float; 8; 4
    const void* keys = nullptr;  ///< rows, as above
    const void* values = nullptr;
    const std::uint16_t* key_scales = nullptr;  ///< 8 and 4 bits
    const std::uint16_t* value_scales = nullptr;
    const std::uint8_t* zeros = nullptr;  ///< 4 bits

    /// Channels of a plane, and planes of a head.
    [[nodiscard]] constexpr std::size_t plane_channels() const noexcept {
        return bits == 4 ? 2 * kv_step : round_up(head_dim, kv_step);
    }
    [[nodiscard]] constexpr std::size_t planes() const noexcept {
        return bits == 4 ? round_up(head_dim, plane_channels()) / plane_channels() : 1;
    }
    [[nodiscard]] constexpr std::size_t padded_dim() const noexcept { return plane_channels() * planes(); }
    [[nodiscard]] constexpr std::size_t row_bytes() const noexcept {
        return bits == 32 ? plane_channels() * sizeof(float) : plane_channels() * static_cast<std::size_t>(bits) / 8;
    }
    /// Of keys and values together, all that a token needs.
    [[nodiscard]] constexpr std::size_t token_bytes() const noexcept {
        const std::size_t scales = bits == 32 ? 0 : 2 * sizeof(std::uint16_t), zero_points = bits == 4 ? 1 : 0;
        return kv_heads * planes() * (2 * row_bytes() + scales + zero_points);
    }
    /// The first tokens alone.
    [[nodiscard]] constexpr kv_view first(std::size_t tokens) const noexcept {
        kv_view v = *this;
        v.length = tokens;
        return v;
    }
};

/// unsupported_format: bits are not 32, 8, 4; bad_shape: no head or too many, a head_dim outside 1..256, a length
/// beyond the capacity, or a capacity that is no multiple of 16 or too large; null_pointer.
[[nodiscard]] constexpr status check(const kv_view& v) noexcept {
    if (v.bits != 32 && v.bits != 8 && v.bits != 4) return status::unsupported_format;
    if (v.kv_heads == 0 || v.kv_heads > max_kv_heads || v.head_dim == 0 || v.head_dim > max_head_dim) return status::bad_shape;
    if (v.length > v.capacity || v.capacity % kv_step != 0 || v.capacity > max_kv_length) return status::bad_shape;
    const bool missing = v.keys == nullptr || v.values == nullptr ||
                         (v.bits != 32 && (v.key_scales == nullptr || v.value_scales == nullptr)) ||
                         (v.bits == 4 && v.zeros == nullptr);
    return missing && v.length != 0 ? status::null_pointer : status::ok;
}

enum class kv_side { key, value };

/// One number of the cache as a float: the definition of the layout, for tests and tools. head < kv_heads, token < length, channel < head_dim.
[[nodiscard]] inline float kv_element(const kv_view& v, kv_side side, std::size_t head, std::size_t token,
                                      std::size_t channel) noexcept {
    const std::size_t in_plane = channel % v.plane_channels();
    const std::size_t place = (head * v.planes() + channel / v.plane_channels()) * v.capacity + token;
    const auto* const row = static_cast<const std::uint8_t*>(side == kv_side::key ? v.keys : v.values) + place * v.row_bytes();
    if (v.bits == 32) {
        float x;
        std::memcpy(&x, row + in_plane * sizeof x, sizeof x);
        return x;
    }
    const float scale = bfloat16_to_float((side == kv_side::key ? v.key_scales : v.value_scales)[place]);
    if (v.bits == 8) return scale * static_cast<float>(static_cast<std::int8_t>(row[in_plane]));
    const int code = row[in_plane % kv_step] >> (in_plane < kv_step ? 0 : 4) & 15;
    const int zero = v.zeros[place] >> (side == kv_side::key ? 0 : 4) & 15;
    return scale * static_cast<float>(code - zero);
}

}  // namespace aq
