// Queries that are worked on together, and the arithmetic of rows of 16 lanes that scores, scales and weights share.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.
//
// A row has a multiple of 16 keys: what stands behind the last is -infinity and becomes weight 0. Sums over a row, and over the channels of a
// float product, have 16 lanes, whatever the register: element i goes to lane i mod 16, then lane l takes l + 8, l + 4, l + 2, l + 1.

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
/// A step reads the keys or values of `tokens` from memory for the first and only time. They come several times faster in one stream, which hardware
/// follows, than panel by panel, or line by line when asked for ahead; so a number of each line is read, in order, before it is worked on.
inline void fetch_in_order(const query_block& b, const void* side, index_range tokens) {
    if (b.job.q.rows != 1) return;
    const volatile std::uint8_t* const p = b.bytes(side, tokens.begin);
    for (std::size_t i = 0; i < tokens.size() * b.job.cache.row_bytes(); i += cache_line_bytes) static_cast<void>(p[i]);
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

}  // namespace AQ_ISA
}  // namespace aq
