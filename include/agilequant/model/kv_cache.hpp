/// \file
/// Keys and values of one layer, in float, 8 or 4 bits: owns the memory, quantizes what is appended, in place. The layout is
/// kernels/kv_view.hpp's; reading is attention's. Not a model's cache: a model has one of these a layer, each with a
/// length of its own, since pruning drops tokens from a layer on.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/core/half.hpp"
#include "agilequant/kernels/kv_view.hpp"
#include "agilequant/quant/uniform.hpp"

namespace aq {

/// Of a cache: what its tokens take, and what is allocated.
struct kv_bytes {
    std::size_t used = 0, reserved = 0;
};

class kv_cache {
public:
    /// Empty, with room for `capacity` tokens. bits: 32 (float), 8 or 4. bad_shape, unsupported_format: see check(kv_view);
    /// out_of_memory leaves a cache without room.
    [[nodiscard]] status reset(std::size_t kv_heads, std::size_t head_dim, std::size_t capacity, int bits) noexcept {
        shape_ = {};
        capacity_ = 0;
        if (capacity > max_kv_length) return status::bad_shape;
        kv_view v;
        v.kv_heads = kv_heads;
        v.head_dim = head_dim;
        v.bits = bits;
        v.capacity = round_up(capacity, kv_step);
        AQ_TRY(check(v));
        const std::size_t rows = kv_heads * v.planes() * v.capacity;  // of keys; as many of values
        AQ_TRY(rows_.reset(2 * rows * v.row_bytes()));
        AQ_TRY(scales_.reset(bits == 32 ? 0 : 2 * rows));
        AQ_TRY(zeros_.reset(bits == 4 ? rows : 0));
        v.keys = rows_.data();
        v.values = rows_.data() + rows * v.row_bytes();
        v.key_scales = scales_.data();
        v.value_scales = scales_.data() == nullptr ? nullptr : scales_.data() + rows;
        v.zeros = zeros_.data();
        shape_ = v;
        capacity_ = capacity;
        return status::ok;
    }

    /// Adds tokens. k, v: [tokens, kv_heads * head_dim], keys with their positions applied. Errors of a number are at most half a
    /// step of its scale; NaN counts as 0 in 8 and 4 bits. One by one or all at once makes no difference. cache_full, bad_shape,
    /// bad_stride, null_pointer: nothing is added.
    [[nodiscard]] status append(matrix_view<const float> k, matrix_view<const float> v) noexcept {
        AQ_TRY(check(k));
        AQ_TRY(check(v));
        if (k.shape() != v.shape() || k.cols != shape_.kv_heads * shape_.head_dim) return status::bad_shape;
        if (k.rows > capacity_ - shape_.length) return status::cache_full;
        for (std::size_t t = 0; t < k.rows; ++t, ++shape_.length) {
            for (std::size_t plane = 0; plane < shape_.kv_heads * shape_.planes(); ++plane) {
                store(kv_side::key, plane, k.row(t));
                store(kv_side::value, plane, v.row(t));
            }
        }
        return status::ok;
    }

    [[nodiscard]] std::size_t length() const noexcept { return shape_.length; }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] int bits() const noexcept { return shape_.bits; }
    void clear() noexcept { shape_.length = 0; }
    /// Forgets all but the first tokens.
    void truncate(std::size_t tokens) noexcept { shape_.length = tokens < shape_.length ? tokens : shape_.length; }
    /// Valid until the next reset or the end of the cache; appending does not change what an older view sees.
    [[nodiscard]] kv_view view() const noexcept { return shape_; }
    [[nodiscard]] kv_bytes bytes() const noexcept {
        return {shape_.length * shape_.token_bytes(), rows_.size_bytes() + scales_.size_bytes() + zeros_.size_bytes()};
    }

private:
    /// One token of one plane; `x` is a row of all heads.
    void store(kv_side side, std::size_t plane, const float* x) noexcept {
        const std::size_t first = plane % shape_.planes() * shape_.plane_channels(), rest = shape_.head_dim - first;
        const std::size_t count = rest < shape_.plane_channels() ? rest : shape_.plane_channels();
        const std::size_t place = plane * shape_.capacity + shape_.length;
        const bool is_value = side == kv_side::value;
        std::uint8_t* const row = rows_.data() + (is_value ? rows_.size() / 2 : 0) + place * shape_.row_bytes();
        x += plane / shape_.planes() * shape_.head_dim + first;
        if (shape_.bits == 32) {
            std::memcpy(row, x, count * sizeof(float));
            return;
        }
        std::uint16_t* const scale = scales_.data() + (is_value ? scales_.size() / 2 : 0) + place;
        const value_range range = range_of(x, count);
        const code_range codes = shape_.bits == 8 ? signed_codes(8) : unsigned_codes(4);
        // Attention codes a probability times this scale: zeros, whose scale is free, must not look larger than their neighbours.
        const bool is_zero = range.high - range.low < smallest_scale;
        *scale = is_zero && shape_.length > 0 ? scale[-1] : bfloat16_not_below(fitted_scale(range, codes));
        write_codes(side, x, count, range, codes, bfloat16_to_float(*scale), row, place);
    }

    [[nodiscard]] static float fitted_scale(value_range range, code_range codes) noexcept {
        return (codes.low < 0 ? fit_symmetric(range, codes) : fit_asymmetric(range, codes)).scale;
    }

    /// The smallest bfloat16 that is not below x > 0: so that no code has to be clipped.
    [[nodiscard]] static std::uint16_t bfloat16_not_below(float x) noexcept {
        return static_cast<std::uint16_t>((bits_of(x) + 0xFFFFU) >> 16);
    }

    void write_codes(kv_side side, const float* x, std::size_t count, value_range range, code_range codes, float scale,
                     std::uint8_t* row, std::size_t place) noexcept {
        const float inverse = 1.0F / scale;
        const int zero = shape_.bits == 8 ? 0 : clip(-nearest_step(range.low, inverse), codes);
        const auto code = [&](std::size_t c) { return encode(c < count ? x[c] : 0.0F, inverse, zero, codes); };
        if (shape_.bits == 8) {
            for (std::size_t c = 0; c < shape_.plane_channels(); ++c) row[c] = static_cast<std::uint8_t>(code(c));
            return;
        }
        for (std::size_t c = 0; c < kv_step; ++c) row[c] = static_cast<std::uint8_t>(code(c) | code(kv_step + c) << 4);
        const int shift = side == kv_side::key ? 0 : 4;
        zeros_[place] = static_cast<std::uint8_t>((zeros_[place] & 0xF0 >> shift) | zero << shift);
    }

    kv_view shape_;                              // with the length
    std::size_t capacity_ = 0;                   // as asked for: shape_.capacity is rounded up
    aligned_buffer<std::uint8_t> rows_, zeros_;  // keys, then values
    aligned_buffer<std::uint16_t> scales_;       // keys', then values'
};

}  // namespace aq
