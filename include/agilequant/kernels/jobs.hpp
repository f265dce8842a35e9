/// \file
/// What a kernel is given, and the table of kernels that an instruction set offers. Plain data: nothing here computes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agilequant/core/matrix_view.hpp"
#include "agilequant/kernels/kv_view.hpp"
#include "agilequant/kernels/row_source.hpp"
#include "agilequant/pack/packed_matrix.hpp"
#include "agilequant/quant/activation_format.hpp"
#include "agilequant/quant/log2.hpp"

namespace aq {

/// A half-open range of rows, panels or heads: how work is cut for threads.
struct index_range {
    std::size_t begin = 0, end = 0;
    [[nodiscard]] constexpr std::size_t size() const noexcept { return end - begin; }
};

/// Quantized activations [m,k], borrowed; laid out as the weights they will meet.
struct activations_view {
    int bits = 0;
    std::size_t m = 0;
    std::size_t stride = 0;  ///< of codes, in bytes: activation_stride(layout.packed)
    std::uint64_t layout_id = 0;
    std::int8_t* codes = nullptr;   ///< [m, stride]; 0 at padding and behind the last position
    float* scales = nullptr;        ///< [m]
    std::int32_t* zeros = nullptr;  ///< [m]
    std::int32_t* sums = nullptr;   ///< [m, groups] sum of 2^exponent * code over the group
    bool is_unsigned = false;       ///< no code is negative: kernels/packed_multiplier.hpp asks for it
};

/// Bytes from one row of activation codes to the next. Behind the last position there are always 48 bytes or more, so that a
/// tile of 64 bytes may be read from any step of the depth; and rows are an odd number of cache lines apart, so that the rows of a
/// block never compete for the same lines of the cache, as they would where k is a power of two.
[[nodiscard]] constexpr std::size_t activation_stride(std::size_t packed) noexcept { return ((packed + 48 + 63) / 64 | 1U) * 64; }

struct quantize_job {
    row_source source;  ///< [m,k]
    k_layout_view layout;
    activation_format format;
    activations_view out;
    float* row_scratch =
        nullptr;  ///< for each call, quantize_scratch_bytes() of it: a computed row, then one in the layout's order
};

/// A block of finished results on its way to y, in cache: what an epilogue works on in place.
struct output_block {
    float* values = nullptr;  ///< row r at values + r * stride
    std::size_t stride = 0;
    std::size_t row = 0, rows = 0;  ///< of y
    std::size_t col = 0, cols = 0;
};

/// What happens to results before they are stored. A function and its data, not a template, so that a kernel is compiled
/// once whatever follows it; it may not use matrix tiles; it is called once a block, which costs nothing that could be measured. See kernels/epilogue.hpp.
struct epilogue_ref {
    void (*apply)(const void* stages, const output_block& block) = nullptr;
    const void* stages = nullptr;
};

struct gemm_job {
    packed_weights weights;        ///< [n,k]
    activations_view activations;  ///< [m,k]
    matrix_view<float> y;          ///< [m,n]
    epilogue_ref epilogue;
};

/// Tokens on their way into a cache of 8 or 4 bits: see model/kv_cache.hpp.
struct kv_store_job {
    kv_view cache;                  ///< of `length` tokens so far; what follows has room for those of k
    matrix_view<const float> k, v;  ///< [tokens, kv_heads * head_dim]
    std::uint8_t *keys = nullptr, *values = nullptr;
    std::uint16_t *key_scales = nullptr, *value_scales = nullptr;
    std::uint8_t* zeros = nullptr;  ///< 4 bits
};

/// Attention of one layer: see kernels/attention.hpp.
struct attention_job {
    matrix_view<const float> q;  ///< [rows, heads * head_dim], positions applied
    kv_view cache;               ///< of past + rows tokens; row i of q sees keys 0 .. past + i
    matrix_view<float> out;      ///< [rows, heads * head_dim]
    std::size_t heads = 0;       ///< a multiple of cache.kv_heads: head h reads head h / (heads / kv_heads)
    probability_coding coding = probability_coding::softmax;
    float scale = 0.0F;             ///< of the scores; 0: 1 / sqrt(head_dim)
    const float* slopes = nullptr;  ///< [heads] ALiBi; null: none
    float* importance = nullptr;    ///< [heads, rows] probability, as coded, that a row gives to token 0; null: not wanted
};

/// Keys whose weights are coded at a time, against what is the largest score so far: part of the definition.
inline constexpr std::size_t attention_chunk = 256;
/// Behind a row of scores: room for a tile that reaches beyond the last key.
inline constexpr std::size_t attention_margin = 64;

/// What attention carries from block to block of the keys, for one query and group of channels.
struct attention_state {
    float reference = 0.0F;       ///< what weight 1 stands for, as a base-2 logarithm
    float first = 0.0F;           ///< the weight of token 0
    float divisor[kv_step] = {};  ///< the sum of the weights, lane by lane
    std::int32_t offsets[2][kv_step] =
        {};  ///< the sum of weights times zero points (4 bits) or of weights (8), plane by plane, lane by lane
};

/// What one call of attention works in: memory, not meaning. Up to `queries` at a time look at `keys` at a time; fewer queries at
/// more keys, as far as the scores have room.
struct attention_scratch {
    std::size_t queries = 0, keys = 0;
    float* q = nullptr;              ///< [queries, padded_dim]
    std::int8_t* q_codes = nullptr;  ///< [queries, padded_dim]
    float* q_factors = nullptr;      ///< [queries] what an integer score is multiplied with, beside the key's scale
    std::int32_t* q_sums = nullptr;  ///< [queries, groups]
    float* scores = nullptr;   ///< [queries, keys + attention_margin] base-2 logarithms of the probabilities, but for a constant
    float* weights = nullptr;  ///< [queries, attention_chunk] ...
    std::int8_t* weight_codes = nullptr;  ///< ... or [queries, 2, attention_chunk] what values are multiplied with
    float* log_scales = nullptr;          ///< [groups, keys] log2 of the values' scales
    float* inverse_scales = nullptr;      ///< [groups, keys]
    attention_state* states = nullptr;    ///< [queries, groups]
    std::int32_t* sums = nullptr;         ///< [queries, 2, padded_dim] of weights times values
    float* results = nullptr;             ///< [queries, padded_dim] the same as far as it is in float
};

struct gemm_float_job {
    matrix_view<const float> x;  ///< [m,k]
    matrix_view<float> y;        ///< [m,n]
    epilogue_ref epilogue;
};

/// The kernels of one instruction set. All of them compute what scalar's compute, bit for bit.
struct kernel_table {
    /// `scratch`: gemm_scratch bytes aligned to 64, or null.
    using gemm_function = void (*)(const gemm_job&, index_range rows, index_range panels, std::byte* scratch);
    using gemm_scratch_function = std::size_t (*)(const packed_weights&);
    using gemm_float_function = void (*)(const gemm_float_job&, index_range rows, const float* panel, std::size_t col);
    using quantize_function = void (*)(const quantize_job&, index_range rows);
    using store_kv_function = void (*)(const kv_store_job&, index_range kv_heads);
    using write_rows_function = void (*)(const row_source&, index_range rows, const matrix_view<float>& y);
    using attention_function = void (*)(const attention_job&, const attention_scratch&, index_range heads);

    const char* isa = nullptr;
    tile_shape tile;
    gemm_function gemm[3][2] = {};  ///< [2, 4, 8 stored weight bits][4, 8 activation bits]
    gemm_scratch_function gemm_scratch = nullptr;
    gemm_function gemm_packed_multiplier = nullptr;  ///< 4 stored weight bits by unsigned codes of at most 4 bits; scratch: null
    std::size_t panel_step = 1;                      ///< ranges of panels for several threads are best cut at multiples of this
    gemm_float_function gemm_float = nullptr;
    quantize_function quantize = nullptr;
    store_kv_function store_kv = nullptr;
    write_rows_function write_rows = nullptr;
    attention_function attention = nullptr;

    [[nodiscard]] gemm_function gemm_for(int weight_bits, int activation_bits) const noexcept {
        const int stored = storage_bits(weight_bits);
        return gemm[stored == 2 ? 0 : stored == 4 ? 1 : 2][activation_bits <= 4 ? 0 : 1];
    }
};

}  // namespace aq
