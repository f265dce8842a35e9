// From queries and keys to scores, and what a row of scores needs besides: powers of two, sums.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.
//
// Scores are base-2 logarithms (the factor log2 e is in the query's), so that a code is a rounded difference. A row has a
// multiple of 16 keys: what stands behind the last is -infinity and becomes weight 0. Sums over a row, and over the channels of a
// float product, have 16 lanes, whatever the register: element i goes to lane i mod 16, then lane l takes l + 8, l + 4, l + 2, l + 1.
// A score that is NaN counts as -infinity.

namespace aq {
namespace AQ_ISA {

inline constexpr int sum_lanes = 16;
inline constexpr int sum_registers = sum_lanes / ops::lanes;
inline constexpr float round_magic = 12582912.0F;  // added and taken away again: half to even, see core/exact_float.hpp
inline constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

AQ_INLINE ops::f32 number(float v) { return ops::broadcast_f32(v); }

/// The registers of 16 lanes to one.
AQ_INLINE ops::f32 fold(ops::f32 (&v)[sum_registers]) {
    AQ_UNROLL for (int half = sum_registers / 2; half > 0; half /= 2) {
        AQ_UNROLL for (int r = 0; r < half; ++r) v[r] = ops::add(v[r], v[r + half]);
    }
    return v[0];
}

AQ_INLINE float row_sum(ops::f32 (&v)[sum_registers]) {
    ops::f32 lanes[ops::lanes];
    const ops::f32 sum = fold(v);
    AQ_UNROLL for (ops::f32& lane : lanes) lane = sum;
    float all[ops::lanes];
    ops::store_f32(all, ops::tree_across(lanes));
    return all[0];
}

/// 2^x for x <= 0 within 1.2 units in the last place; 0 below -126 and for NaN. x = n + r, |r| <= 1/2; 2^r is our fit at Chebyshev nodes, 2^-26.7.
AQ_INLINE ops::f32 exp2(ops::f32 x) {
    x = ops::select_at_least(x, number(-126.0F), x, number(-127.0F));
    const ops::f32 n = ops::sub(ops::add(x, number(round_magic)), number(round_magic));
    const ops::f32 r = ops::sub(x, n);
    ops::f32 p = ops::add(ops::mul(r, number(1.54531634e-4F)), number(1.33908633e-3F));
    p = ops::add(ops::mul(r, p), number(9.61808302e-3F));
    p = ops::add(ops::mul(r, p), number(5.55035695e-2F));
    p = ops::add(ops::mul(r, p), number(0.240226507F));
    p = ops::add(ops::mul(r, p), number(0.693147182F));
    p = ops::add(ops::mul(r, p), number(1.0F));
    return ops::times_power_of_two(p, ops::to_i32(n));
}

/// Queries of one key-value head that are worked on together: number i is row i / heads of head first_head + i % heads. So their
/// lengths rise.
struct query_block {
    const attention_job& job;
    const attention_scratch& scratch;
    std::size_t kv_head, first_head, heads;
    std::size_t first, count;
    std::size_t all;   ///< queries of the head, in all blocks
    std::size_t room;  ///< for scores of so many keys at a time

    [[nodiscard]] AQ_INLINE float* scores(std::size_t i) const { return scratch.scores + i * (room + attention_margin); }

    [[nodiscard]] AQ_INLINE std::size_t row(std::size_t i) const { return (first + i) / heads; }
    [[nodiscard]] AQ_INLINE std::size_t head(std::size_t i) const { return first_head + (first + i) % heads; }
    /// Keys that a query sees, and those of `range` among them.
    [[nodiscard]] AQ_INLINE std::size_t length(std::size_t i) const { return job.cache.length - job.q.rows + row(i) + 1; }
    [[nodiscard]] AQ_INLINE std::size_t seen(std::size_t i, index_range range) const {
        const std::size_t keys = length(i);
        return keys <= range.begin ? 0 : (keys < range.end ? keys : range.end) - range.begin;
    }
    [[nodiscard]] AQ_INLINE std::size_t last() const { return count - 1; }
    [[nodiscard]] AQ_INLINE index_range group(std::size_t g) const {
        const std::size_t size = job.cache.group_channels(), end = (g + 1) * size, dim = job.cache.padded_dim();
        return {g * size, end < dim ? end : dim};
    }
    /// Of a group of values or keys, for the token at `key`.
    [[nodiscard]] AQ_INLINE std::size_t scale_at(std::size_t g, std::size_t key) const {
        return (kv_head * job.cache.groups() + g) * job.cache.capacity + key;
    }
    /// The bytes of the tokens, or the row of floats, that `key`, a multiple of 16, begins.
    [[nodiscard]] AQ_INLINE const std::uint8_t* bytes(const void* side, std::size_t key) const {
        return static_cast<const std::uint8_t*>(side) + (kv_head * job.cache.capacity + key) * job.cache.row_bytes();
    }
    [[nodiscard]] AQ_INLINE attention_state& state(std::size_t i, std::size_t g) const {
        return scratch.states[i * job.cache.groups() + g];
    }
};

AQ_INLINE void fetch_piece(const float* p, std::size_t count) {
    for (std::size_t c = 0; c < count; c += cache_line_bytes / sizeof(float)) __builtin_prefetch(p + c);
}
/// Fetches what is soon read or written beside query i: the piece of q of the next block, at the beginning, and that of the result, at the end.
/// One head's pieces of many rows lie far apart, where hardware does not look ahead.
AQ_INLINE void fetch_pieces(const query_block& b, std::size_t i, index_range chunk) {
    const std::size_t dim = b.job.cache.head_dim, next = i + b.count;
    if (chunk.begin == 0 && b.first + next < b.all) fetch_piece(b.job.q.row(b.row(next)) + b.head(next) * dim, dim);
    if (chunk.end >= b.length(b.last())) fetch_piece(b.job.out.row(b.row(i)) + b.head(i) * dim, dim);
}

/// The queries as the scores take them: floats, or codes of 8 bits with a scale each.
inline void prepare_queries(const query_block& b) {
    constexpr float log2e = 1.44269504F;
    const kv_view& cache = b.job.cache;
    const std::size_t dim = cache.padded_dim();
    const float factor = rounded(b.job.scale * log2e);
    for (std::size_t i = 0; i < b.count; ++i) {
        const float* const from = b.job.q.row(b.row(i)) + b.head(i) * cache.head_dim;
        float* const q = b.scratch.q + i * dim;
        std::memcpy(q, from, cache.head_dim * sizeof(float));
        std::memset(q + cache.head_dim, 0, (dim - cache.head_dim) * sizeof(float));
        b.scratch.q_factors[i] = factor;
        if (cache.bits == 32) continue;
        bool is_tame = false;
        std::int8_t* const codes = b.scratch.q_codes + i * dim;
        const affine fit = fit_symmetric(range_of_row(q, dim, is_tame), signed_codes(8));
        encode_row(q, dim, 1.0F / fit.scale, 0, signed_codes(8), is_tame, codes);
        b.scratch.q_factors[i] = rounded(fit.scale * factor);
        for (std::size_t g = 0; g < cache.groups(); ++g) {
            const index_range channels = b.group(g);
            b.scratch.q_sums[i * cache.groups() + g] = ops::sum_of(codes + channels.begin, channels.size());
        }
    }
}

/// scores[j] = factor * (q . row j), j < keys.
inline void score_floats(const float* q, const float* rows, std::size_t channels, std::size_t keys, float factor, float* scores) {
    for (std::size_t j = 0; j < keys; j += ops::lanes) {
        ops::f32 v[ops::lanes];
        AQ_UNROLL for (int k = 0; k < ops::lanes; ++k) {
            const float* const row = rows + (j + static_cast<std::size_t>(k)) * channels;
            ops::f32 sums[sum_registers];
            AQ_UNROLL for (ops::f32& sum : sums) sum = number(0.0F);
            for (std::size_t c = 0; c < channels; c += sum_lanes) {
                AQ_UNROLL for (int r = 0; r < sum_registers; ++r) {
                    const std::size_t at = c + static_cast<std::size_t>(r * ops::lanes);
                    sums[r] = ops::add(sums[r], ops::mul(ops::load_f32(q + at), ops::load_f32(row + at)));
                }
            }
            v[k] = fold(sums);
        }
        ops::store_f32(scores + j, ops::mul(ops::tree_across(v), number(factor)));
    }
}

/// Zero points of 16 tokens less what codes are centered at already, as integers.
template <int Bits>
AQ_INLINE ops::i32 zeros_of(const std::uint8_t* zeros, kv_side side) {
    if constexpr (Bits == 8) return ops::broadcast_i32(128 - packed_codes<8>::center);
    else if (side == kv_side::key) return ops::bit_and(ops::load_u8_as_i32(zeros), ops::broadcast_i32(15));
    else return ops::template shift_right<4>(ops::load_u8_as_i32(zeros));
}

/// The integers of a tile, in memory: what is done with them ends at the edge, which registers would not survive. A function of
/// its own, so that nothing else wants the registers that hold the sums.
template <class Kernel, int Rows>
struct tile_sums {
    alignas(cache_line_bytes) std::int32_t at[Rows][Kernel::column_block::lanes];

    template <class Inputs>
    __attribute__((noinline)) void multiply(const Inputs& in, std::size_t begin, std::size_t end) {
        typename Kernel::sums_type sums;
        sums.restart(sum_starts[0]);
        Kernel::run(in, begin, end, sums);
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            AQ_UNROLL for (int v = 0; v < Kernel::columns; ++v) ops::store_i32(at[r] + v * ops::lanes, sums.total(r, v));
        }
    }
    [[nodiscard]] AQ_INLINE ops::i32 of(std::size_t r, std::size_t v) const {
        return ops::load_i32(at[r] + v * static_cast<std::size_t>(ops::lanes));
    }
};

/// Scores of a tile: up to Rows queries from `query` on by up to Panels blocks of tokens of `keys`, group by group: (+)= float(sum of q (key - zero)) *
/// (scale * factor). At the edge the last query or block stands in for those that are missing.
template <int Bits, int Rows, int Panels>
void score_tile(const query_block& b, std::size_t query, std::size_t key, index_range keys) {
    using codes = packed_codes<Bits>;
    using kernel = micro_kernel<scheme_of<codes, 8>, codes, Rows, Panels, 1>;
    const kv_view& cache = b.job.cache;
    const std::size_t dim = cache.padded_dim(), groups = cache.groups();
    block_inputs<Rows, Panels> in;
    std::size_t block[Panels];
    const std::size_t rows = b.count - query, panels = (keys.end - key) / kv_step;
    AQ_UNROLL for (int r = 0; r < Rows; ++r) {
        const std::size_t at = static_cast<std::size_t>(r) < rows ? static_cast<std::size_t>(r) : rows - 1;
        in.a[r] = b.scratch.q_codes + (query + at) * dim;
    }
    AQ_UNROLL for (int p = 0; p < Panels; ++p) {
        const std::size_t at = static_cast<std::size_t>(p) < panels ? static_cast<std::size_t>(p) : panels - 1;
        block[p] = key + at * kv_step;
        in.w[p] = b.bytes(cache.keys, block[p]);
    }
    for (std::size_t g = 0; g < groups; ++g) {
        const index_range channels = b.group(g);
        tile_sums<kernel, Rows> totals;
        totals.multiply(in, channels.begin, channels.end);
        ops::f32 scales[kernel::columns];
        ops::i32 zeros[kernel::columns];
        AQ_UNROLL for (int v = 0; v < kernel::columns; ++v) {
            const std::size_t place = b.scale_at(g, block[v / vectors] + static_cast<std::size_t>(v % vectors * ops::lanes));
            scales[v] = ops::load_bfloat16(cache.key_scales + place);
            zeros[v] = zeros_of<Bits>(Bits == 4 ? cache.zeros + place : nullptr, kv_side::key);
        }
        for (std::size_t r = 0; r < (rows < Rows ? rows : Rows); ++r) {
            const ops::i32 q_sum = ops::broadcast_i32(b.scratch.q_sums[(query + r) * groups + g]);
            const ops::f32 factor = number(b.scratch.q_factors[query + r]);
            float* const out = b.scores(query + r) + (key - keys.begin);
            AQ_UNROLL for (int v = 0; v < kernel::columns; ++v) {  // rows have room for what stands in
                const ops::i32 exact = ops::sub(totals.of(r, static_cast<std::size_t>(v)), ops::mul(zeros[v], q_sum));
                ops::f32 score = ops::mul(ops::to_float(exact), ops::mul(scales[v], factor));
                if (g != 0) score = ops::add(ops::load_f32(out + v * ops::lanes), score);
                ops::store_f32(out + v * ops::lanes, score);
            }
        }
    }
}

/// Adds slope * (j - (length - 1)), and -infinity from `seen` to the end of its step of 16.
inline void finish_scores(std::size_t first, std::size_t seen, std::size_t length, float slope, float* scores) {
    for (std::size_t j = 0; slope != 0.0F && j < seen; j += ops::lanes) {
        const std::int32_t distance = static_cast<std::int32_t>(first + j) - static_cast<std::int32_t>(length) + 1;
        const ops::f32 distances = ops::to_float(ops::add(ops::broadcast_i32(distance), ops::first_lanes()));
        ops::store_f32(scores + j, ops::add(ops::load_f32(scores + j), ops::mul(number(slope), distances)));
    }
    for (std::size_t j = seen; j < round_up(seen, kv_step); ++j) scores[j] = minus_infinity;
}

/// All scores of a block of codes. The keys are a multiple of kv_step.
template <int Bits, int Rows, int Panels>
void score_codes(const query_block& b, index_range keys) {
    constexpr std::size_t step = Panels * kv_step;
    for (std::size_t key = keys.begin; key < keys.end; key += step) {
        for (std::size_t query = 0; query < b.count; query += Rows) {
            const std::size_t last = query + Rows <= b.count ? query + Rows - 1 : b.last();
            const std::size_t seen = b.seen(last, {key, keys.end});
            if (seen > step - kv_step) {
                score_tile<Bits, Rows, Panels>(b, query, key, keys);
            } else {  // what the last of them does not see is not computed
                for (std::size_t j = 0; j < seen; j += kv_step) score_tile<Bits, Rows, 1>(b, query, key + j, keys);
            }
        }
    }
}

template <int Bits>
void score_codes(const query_block& b, index_range keys) {
    constexpr block_size tile = ops::attention_block;
    if (b.count == 1) score_codes<Bits, 1, 1>(b, keys);  // one stream from memory, as it lies there
    else score_codes<Bits, tile.rows, tile.panels>(b, keys);
}

/// scores [queries, keys] of `keys`, which begin and end at multiples of kv_step.
inline void score_block(const query_block& b, index_range keys) {
    constexpr float log2e = 1.44269504F;
    const attention_scratch& s = b.scratch;
    const std::size_t dim = b.job.cache.padded_dim();
    if (b.job.cache.bits == 8) score_codes<8>(b, keys);
    if (b.job.cache.bits == 4) score_codes<4>(b, keys);
    for (std::size_t i = 0; i < b.count; ++i) {
        const std::size_t seen = b.seen(i, keys);
        float* const scores = b.scores(i);
        if (b.job.cache.bits == 32)
            score_floats(s.q + i * dim, reinterpret_cast<const float*>(b.bytes(b.job.cache.keys, keys.begin)), dim,
                         round_up(seen, kv_step), s.q_factors[i], scores);
        const float slope = b.job.slopes == nullptr ? 0.0F : rounded(b.job.slopes[b.head(i)] * log2e);
        finish_scores(keys.begin, seen, b.length(i), slope, scores);
    }
}

}  // namespace AQ_ISA
}  // namespace aq
