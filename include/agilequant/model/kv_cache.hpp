/// \file
/// Keys and values of one layer, in float, 8 or 4 bits: owns the memory, quantizes what is appended, in place. The layout is
/// kernels/kv_view.hpp's; reading is attention's. Not a model's cache: a model has one of these a layer, each with a
/// length of its own, since pruning drops tokens from a layer on.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/core/half.hpp"
#include "agilequant/kernels/jobs.hpp"
#include "agilequant/quant/uniform.hpp"

namespace aq {

/// Channels that share a scale where nobody says otherwise: a head, but in 4 bits not more than 128. See docs/attention.md.
[[nodiscard]] constexpr std::size_t usual_kv_group(int bits) noexcept { return bits == 4 ? 128 : max_head_dim; }

/// Of a cache: what its tokens take, and what is allocated.
struct kv_bytes {
    std::size_t used = 0, reserved = 0;
};

class kv_cache {
public:
    /// Empty, with room for `capacity` tokens. bits: 32 (float), 8 or 4; `group` channels share a scale, a multiple of
    /// 16; 0: usual_kv_group. bad_shape, unsupported_format: see check(kv_view); out_of_memory leaves a cache without room.
    [[nodiscard]] status reset(std::size_t kv_heads, std::size_t head_dim, std::size_t capacity, int bits,
                               std::size_t group = 0) noexcept {
        shape_ = {};
        capacity_ = 0;
        if (capacity > max_kv_length) return status::bad_shape;
        kv_view v;
        v.kv_heads = kv_heads;
        v.head_dim = head_dim;
        v.bits = bits;
        v.group = group == 0 ? usual_kv_group(bits) : group;
        v.capacity = round_up(capacity, kv_step);
        AQ_TRY(check(v));
        const std::size_t bytes = kv_heads * v.capacity * v.row_bytes();  // of keys; as many of values
        const std::size_t scales = kv_heads * v.groups() * v.capacity;
        AQ_TRY(codes_.reset(2 * bytes));
        AQ_TRY(scales_.reset(bits == 32 ? 0 : 2 * scales));
        AQ_TRY(zeros_.reset(bits == 4 ? scales : 0));
        v.keys = codes_.data();
        v.values = codes_.data() + bytes;
        v.key_scales = scales_.data();
        v.value_scales = scales_.data() == nullptr ? nullptr : scales_.data() + scales;
        v.zeros = zeros_.data();
        shape_ = v;
        capacity_ = capacity;
        return status::ok;
    }

    /// Adds tokens. k, v: [tokens, kv_heads * head_dim], keys with their positions applied. Errors of a number are at most half a
    /// step of its scale; NaN counts as 0 in 8 and 4 bits. One by one or all at once makes no difference. cache_full, bad_shape,
    /// bad_stride, null_pointer: nothing is added.
    [[nodiscard]] status append(matrix_view<const float> k, matrix_view<const float> v) noexcept {
        AQ_TRY(check_new(k, v));
        for (std::size_t t = 0; t < k.rows; ++t, ++shape_.length) {
            for (std::size_t head = 0; head < shape_.kv_heads; ++head) {
                store(kv_side::key, head, k.row(t) + head * shape_.head_dim);
                store(kv_side::value, head, v.row(t) + head * shape_.head_dim);
            }
        }
        return status::ok;
    }

    /// The same, with an instruction set's kernel, head by head as `for_each(heads, task)` runs tasks (status task(head, worker)).
    template <class ForEach>
    [[nodiscard]] status append(const kernel_table& kernels, matrix_view<const float> k, matrix_view<const float> v,
                                ForEach&& for_each) noexcept {
        if (shape_.bits == 32) return append(k, v);
        AQ_TRY(check_new(k, v));
        const kv_store_job job{shape_,
                               k,
                               v,
                               codes_of(kv_side::key),
                               codes_of(kv_side::value),
                               scales_.data(),
                               scales_.data() + scales_.size() / 2,
                               zeros_.data()};
        AQ_TRY(for_each(shape_.kv_heads, [&](std::size_t head, std::size_t) {
            kernels.store_kv(job, {head, head + 1});
            return status::ok;
        }));
        shape_.length += k.rows;
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
        return {shape_.length * shape_.token_bytes(), codes_.size_bytes() + scales_.size_bytes() + zeros_.size_bytes()};
    }

private:
    [[nodiscard]] status check_new(matrix_view<const float> k, matrix_view<const float> v) const noexcept {
        AQ_TRY(check(k));
        AQ_TRY(check(v));
        if (k.shape() != v.shape() || k.cols != shape_.kv_heads * shape_.head_dim) return status::bad_shape;
        return k.rows > capacity_ - shape_.length ? status::cache_full : status::ok;
    }

    /// One token of one head.
    void store(kv_side side, std::size_t head, const float* x) noexcept {
        if (shape_.bits == 32) {
            const std::size_t row = (head * shape_.capacity + shape_.length) * shape_.row_bytes();
            std::memcpy(codes_of(side) + row, x, shape_.head_dim * sizeof(float));
            return;
        }
        const std::size_t group = shape_.group_channels();
        for (std::size_t first = 0; first < shape_.padded_dim(); first += group) {
            const std::size_t end = first + group < shape_.padded_dim() ? first + group : shape_.padded_dim();
            store_group(side, head, x, {first, end});
        }
    }

    void store_group(kv_side side, std::size_t head, const float* x, index_range channels) noexcept {
        const std::size_t at = shape_.scale_at(head, channels.begin, shape_.length);
        const std::size_t count = (channels.end < shape_.head_dim ? channels.end : shape_.head_dim) - channels.begin;
        std::uint16_t* const scale = scales_.data() + (side == kv_side::value ? scales_.size() / 2 : 0) + at;
        const value_range range = range_of(x + channels.begin, count);
        const code_range codes = shape_.bits == 8 ? signed_codes(8) : unsigned_codes(4);
        *scale = kv_scale(range, codes, shape_.length == 0 ? nullptr : scale - 1);
        const float inverse = 1.0F / bfloat16_to_float(*scale);
        const int zero = shape_.bits == 8 ? 0 : clip(-nearest_step(range.low, inverse), codes),
                  offset = shape_.bits == 8 ? 128 : 0;
        for (std::size_t c = channels.begin; c < channels.end; ++c) {
            const int code = encode(c < shape_.head_dim ? x[c] : 0.0F, inverse, zero, codes) + offset;
            set_code(codes_of(side), shape_.code_at(side, head, shape_.length, c), code);
        }
        if (shape_.bits == 8) return;
        const int shift = side == kv_side::key ? 0 : 4;
        zeros_[at] = static_cast<std::uint8_t>((zeros_[at] & 0xF0 >> shift) | zero << shift);
    }

    [[nodiscard]] std::uint8_t* codes_of(kv_side side) noexcept {
        return codes_.data() + (side == kv_side::value ? codes_.size() / 2 : 0);
    }
    void set_code(std::uint8_t* codes, code_place at, int code) const noexcept {
        const int others = shape_.bits == 8 ? 0 : codes[at.byte] & 0xF0 >> at.shift;
        codes[at.byte] = static_cast<std::uint8_t>(others | code << at.shift);
    }

    kv_view shape_;                               // with the length
    std::size_t capacity_ = 0;                    // as asked for: shape_.capacity is rounded up
    aligned_buffer<std::uint8_t> codes_, zeros_;  // codes: keys', then values'
    aligned_buffer<std::uint16_t> scales_;        // keys', then values'
};

}  // namespace aq
