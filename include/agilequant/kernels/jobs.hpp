/// \file
/// What a kernel is given, and the table of kernels that an instruction set offers. Plain data: nothing here computes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agilequant/core/matrix_view.hpp"
#include "agilequant/kernels/kv_view.hpp"
#include "agilequant/kernels/row_source.hpp"
#include "agilequant/pack/packed_matrix.hpp"
#include "agilequant/quant/log2.hpp"

namespace aq {

/// A half-open range of rows, panels or heads: how work is cut for threads.
struct index_range {
    std::size_t begin = 0, end = 0;
    [[nodiscard]] constexpr std::size_t size() const noexcept { return end - begin; }
};

/// How activations are quantized: dynamically, one scale (and zero point) a token, or with `fixed` for all tokens.
struct activation_format {
    int bits = 8;  ///< 2..8
    bool is_asymmetric = false;
    bool is_static = false;
    affine fixed;  ///< calibrated scale and zero point where is_static; scale is that of exponent 0
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

/// A value row on its way into an integer sum: value(key) << shift.
struct attention_term {
    std::uint32_t key;
    std::int32_t shift;
};

/// What one call of attention works in: memory, not meaning. `keys` is cache.length rounded up to kv_step.
struct attention_scratch {
    float* q = nullptr;               ///< [padded_dim] one head of one row
    std::int8_t* q_codes = nullptr;   ///< [padded_dim]
    float* scores = nullptr;          ///< [keys] base-2 logarithms of the probabilities, but for a constant
    float* weights = nullptr;         ///< [keys] what values are multiplied with
    std::int32_t* codes = nullptr;    ///< [keys]
    attention_term* terms = nullptr;  ///< [keys]
    float* log_scales = nullptr;      ///< [planes, keys] log2 of the values' scales
    float* inverse_scales = nullptr;  ///< [planes, keys]
    float* largest_scales = nullptr;  ///< [planes, keys] of the tokens up to this one
    std::int64_t* sums = nullptr;     ///< [2, plane_channels]
    float* result = nullptr;          ///< [plane_channels]
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
    write_rows_function write_rows = nullptr;
    attention_function attention = nullptr;

    [[nodiscard]] gemm_function gemm_for(int weight_bits, int activation_bits) const noexcept {
        const int stored = storage_bits(weight_bits);
        return gemm[stored == 2 ? 0 : stored == 4 ? 1 : 2][activation_bits <= 4 ? 0 : 1];
    }
};

}  // namespace aq
