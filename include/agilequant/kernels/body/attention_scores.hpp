// From queries and keys to scores.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.
//
// Scores are base-2 logarithms (the factor log2 e is in the query's), so that a code is a rounded difference. A score that is NaN counts as
// -infinity.

namespace aq {
namespace AQ_ISA {

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
    /// One query by one panel: four chains of sums, so that none waits for the last product. For codes of 8 bits memory is slower than one chain.
    template <int Bits, class Ops = ops>
    AQ_INLINE void stream(const std::uint8_t* keys, const std::int8_t* query, std::size_t depth) {
        constexpr std::size_t chains = k_step / gemm_tile::kr, planes = 8 / Bits;
        ops::i32 sums[vectors][chains];
        AQ_UNROLL for (auto& row : sums) { AQ_UNROLL for (ops::i32& sum : row) sum = ops::zero_i32(); }
        for (std::size_t k = 0; k < depth; k += k_step, keys += k_step * kv_step / planes) {
            AQ_UNROLL for (std::size_t i = 0; i < chains; ++i) {
                const ops::quads four = ops::template quad<0>(ops::load_quads(query + k + i * gemm_tile::kr));
                AQ_UNROLL for (std::size_t v = 0; v < vectors; ++v) {
                    const ops::codes raw = ops::load_codes(keys + i / planes * step_bytes + v * ops::lanes * gemm_tile::kr);
                    sums[v][i] = Ops::add_dot4(sums[v][i], packed_codes<Bits>::plane(raw, static_cast<int>(i % planes)), four);
                }
            }
        }
        AQ_UNROLL for (std::size_t v = 0; v < vectors; ++v) {
            const ops::i32 sum = ops::add(ops::add(sums[v][0], sums[v][1]), ops::add(sums[v][2], sums[v][3]));
            ops::store_i32(at[0] + v * ops::lanes, sum);
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
        if constexpr (Rows == 1 && Panels == 1 && Bits == 4 && ops::streamed_panels != 0) {
            const std::uint8_t* const from = in.w[0] + channels.begin * kv_step * Bits / 8;
            totals.template stream<Bits>(from, in.a[0] + channels.begin, channels.size());
        } else {
            totals.multiply(in, channels.begin, channels.end);
        }
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
        fetch_in_order(b, b.job.cache.keys, {key, key + step < keys.end ? key + step : keys.end});
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

/// The same for one query: keys are read in the order in which they lie in memory.
template <int Bits>
void score_codes_of_query(const query_block& b, index_range keys) {
    const std::size_t end = keys.begin + round_up(b.seen(0, keys), kv_step);
    for (std::size_t key = keys.begin; key < end; key += kv_step) score_tile<Bits, 1, 1>(b, 0, key, keys);
}

template <int Bits>
void score_codes(const query_block& b, index_range keys) {
    constexpr block_size tile = ops::attention_block;
    if (b.count == 1) score_codes_of_query<Bits>(b, keys);
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
