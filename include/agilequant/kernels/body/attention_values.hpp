// Weights times values: in integers where both are codes, in float otherwise.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.

namespace aq {
namespace AQ_ISA {

/// 32-bit sums hold this many products of a weight's byte by a value's code, whichever way codes are centered; then they go into float.
inline constexpr std::size_t keys_in_32_bits = 65536;
static_assert(products_within(0x7FFFFFFF, weight_codes(8).high, 128) >= static_cast<std::int64_t>(keys_in_32_bits) &&
                  keys_in_32_bits % attention_chunk == 0,
              "aq: sums of values overflow.");
static_assert(products_within(32767, weight_codes(4).high, 128) == products_within(32767, weight_codes(4).high, 127),
              "aq: 16-bit sums are as deep for weights down to -128 as for activations.");

/// sums += weights times values of the first `depth` tokens of the chunk that begins at `chunk`: up to Rows rows of weights from `row` on
/// (two a query) by up to Panels of the panels.
template <int Bits, int Rows, int Panels>
void add_values(const query_block& b, std::size_t row, index_range panels, std::size_t chunk, std::size_t depth) {
    using codes = packed_codes<Bits>;
    using kernel = micro_kernel<scheme_of<codes, 8>, codes, Rows, Panels, 1>;
    const std::size_t rows = 2 * b.count - row;
    const std::uint8_t* const values = b.bytes(b.job.cache.values, chunk);
    interleaved_inputs<Rows, Panels> in;
    in.apart = b.job.cache.padded_dim() * gemm_tile::kr;
    AQ_UNROLL for (int r = 0; r < Rows; ++r) {
        const std::size_t at = row + (static_cast<std::size_t>(r) < rows ? static_cast<std::size_t>(r) : rows - 1);
        in.a[r] = b.scratch.weight_codes + at * attention_chunk;
    }
    AQ_UNROLL for (int p = 0; p < Panels; ++p) {
        const std::size_t at = static_cast<std::size_t>(p) < panels.size() ? static_cast<std::size_t>(p) : panels.size() - 1;
        in.w[p] = values + (panels.begin + at) * step_bytes;
    }
    tile_sums<kernel, Rows> totals;
    totals.multiply(in, 0, depth);
    for (std::size_t r = 0; r < (rows < Rows ? rows : Rows); ++r) {
        std::int32_t* const out = b.scratch.sums + (row + r) * b.job.cache.padded_dim() + panels.begin * kv_step;
        const auto add = [&](std::size_t v) {
            ops::store_i32(out + v * ops::lanes, ops::add(ops::load_i32(out + v * ops::lanes), totals.of(r, v)));
        };
        if (panels.size() >= Panels) {
            AQ_UNROLL for (std::size_t v = 0; v < kernel::columns; ++v) add(v);
        } else {
            for (std::size_t v = 0; v < vectors * panels.size(); ++v) add(v);
        }
    }
}

/// What is seen of a chunk's values, before the first of its channels is worked on.
inline void fetch_values(const query_block& b, index_range channels, index_range chunk) {
    const std::size_t seen = round_up(b.seen(b.last(), chunk), kv_step);
    if (channels.begin == 0) fetch_in_order(b, b.job.cache.values, {chunk.begin, chunk.begin + seen});
}

/// All queries by the panels of one group.
template <int Bits, int Height, int Width>
void add_values_of_queries(const query_block& b, index_range panels, index_range chunk) {
    for (std::size_t panel = panels.begin; panel < panels.end; panel += Width) {
        for (std::size_t row = 0; row < 2 * b.count; row += Height) {
            const std::size_t last = row + Height <= 2 * b.count ? (row + Height - 1) / 2 : b.last();
            const std::size_t depth = round_up(b.seen(last, chunk), kv_step);
            if (depth != 0) add_values<Bits, Height, Width>(b, row, {panel, panels.end}, chunk.begin, depth);
        }
    }
}

/// One query and all channels of a head, whose sums fit the registers: values in the order in which they lie in memory.
template <int Bits, std::size_t Panels, class Ops = ops>
__attribute__((noinline)) void stream_values(const query_block& b, index_range chunk) {
    constexpr std::size_t kr = gemm_tile::kr, planes = 8 / Bits, columns = Panels * vectors;
    const std::int8_t* const rows[] = {b.scratch.weight_codes, b.scratch.weight_codes + attention_chunk};
    const std::size_t depth = round_up(b.seen(0, chunk), kv_step);
    const std::uint8_t* values = b.bytes(b.job.cache.values, chunk.begin);
    ops::i32 sums[2][columns];
    AQ_UNROLL for (auto& row : sums) { AQ_UNROLL for (ops::i32& sum : row) sum = ops::zero_i32(); }
    for (std::size_t t = 0; t < depth; t += kr * planes, values += columns * ops::lanes * kr) {
        ops::quads weights[planes][2];
        AQ_UNROLL for (std::size_t p = 0; p < planes; ++p) {
            AQ_UNROLL for (int r = 0; r < 2; ++r) weights[p][r] = ops::template quad<0>(ops::load_quads(rows[r] + t + p * kr));
        }
        AQ_UNROLL for (std::size_t v = 0; v < columns; ++v) {
            const ops::codes raw = ops::load_codes(values + v * ops::lanes * kr);
            AQ_UNROLL for (std::size_t p = 0; p < planes; ++p) {
                const ops::codes codes = packed_codes<Bits>::plane(raw, static_cast<int>(p));
                AQ_UNROLL for (int r = 0; r < 2; ++r) sums[r][v] = Ops::add_dot4(sums[r][v], codes, weights[p][r]);
            }
        }
    }
    AQ_UNROLL for (std::size_t r = 0; r < 2; ++r) {
        std::int32_t* const out = b.scratch.sums + r * b.job.cache.padded_dim();
        AQ_UNROLL for (std::size_t v = 0; v < columns; ++v)
            ops::store_i32(out + v * ops::lanes, ops::add(ops::load_i32(out + v * ops::lanes), sums[r][v]));
    }
}

template <int Bits>
void add_values(const query_block& b, index_range channels, index_range chunk) {
    const index_range panels{channels.begin / kv_step, channels.end / kv_step};
    if constexpr (constexpr std::size_t all = ops::streamed_panels; all != 0) {
        if (b.count == 1 && panels.size() == all && b.job.cache.groups() == 1) return stream_values<Bits, all>(b, chunk);
    }
    fetch_values(b, channels, chunk);
    constexpr block_size tile = ops::attention_block;
    if (b.count == 1) add_values_of_queries<Bits, 2, ops::attention_streams>(b, panels, chunk);
    else add_values_of_queries<Bits, tile.rows, tile.panels>(b, panels, chunk);
}

/// Values of one panel of channels and four tokens, as floats; `at` is the first token's place in the chunk.
template <int Bits>
struct value_reader {
    const std::uint8_t* panel;  ///< of the chunk's first tokens
    std::size_t apart;          ///< from one step of the tile, or row of floats, to the next
    const std::uint8_t* zeros;

    template <int Token>
    AQ_INLINE ops::f32 value(ops::codes raw, std::size_t at) const {
        const int zero = Bits == 8 ? 128 - packed_codes<8>::center : zeros[at + Token] >> 4;
        return ops::to_float(ops::sub(ops::template byte_of_lane<Token>(raw), ops::broadcast_i32(zero)));
    }
    AQ_INLINE void read(std::size_t at, int v, ops::f32 (&out)[4]) const {
        constexpr std::size_t planes = 8 / Bits;
        const std::size_t step = at / gemm_tile::kr, part = static_cast<std::size_t>(v * ops::lanes) * gemm_tile::kr;
        const ops::codes stored = ops::load_codes(panel + step / planes * apart + part);
        const ops::codes raw =
            step % planes == 0 ? packed_codes<Bits>::plane(stored, 0) : packed_codes<Bits>::plane(stored, planes - 1);
        out[0] = value<0>(raw, at), out[1] = value<1>(raw, at), out[2] = value<2>(raw, at), out[3] = value<3>(raw, at);
    }
};
/// Floats: rows of all channels.
template <>
struct value_reader<32> {
    const std::uint8_t* panel;
    std::size_t apart;
    const std::uint8_t* zeros;

    AQ_INLINE void read(std::size_t at, int v, ops::f32 (&out)[4]) const {
        AQ_UNROLL for (std::size_t t = 0; t < 4; ++t) {
            out[t] = ops::load_f32(reinterpret_cast<const float*>(panel + (at + t) * apart) + v * ops::lanes);
        }
    }
};

/// results += weight * value over `seen` keys in their order, product rounded first; one query, one panel of channels. All tokens up to a multiple of
/// four are readable.
template <int Bits>
void add_weighted(const value_reader<Bits>& values, const float* weights, std::size_t seen, float* results) {
    ops::f32 sums[vectors];
    AQ_UNROLL for (int v = 0; v < vectors; ++v) sums[v] = ops::load_f32(results + v * ops::lanes);
    for (std::size_t j = 0; j < seen; j += 4) {
        AQ_UNROLL for (int v = 0; v < vectors; ++v) {
            ops::f32 value[4];
            values.read(j, v, value);
            for (std::size_t t = 0; t < 4 && j + t < seen; ++t) {
                sums[v] = ops::add(sums[v], ops::mul(ops::broadcast_f32(weights[j + t]), value[t]));
            }
        }
    }
    AQ_UNROLL for (int v = 0; v < vectors; ++v) ops::store_f32(results + v * ops::lanes, sums[v]);
}

/// All queries by the channels of one group.
template <int Bits>
void add_weighted(const query_block& b, index_range channels, index_range chunk, const std::uint8_t* zeros) {
    const kv_view& cache = b.job.cache;
    fetch_values(b, channels, chunk);
    const std::uint8_t* const values = b.bytes(cache.values, chunk.begin);
    const std::size_t apart = Bits == 32 ? cache.row_bytes() : cache.padded_dim() * gemm_tile::kr;
    for (std::size_t c = channels.begin; c < channels.end; c += kv_step) {
        const value_reader<Bits> reader{values + c * 4, apart, zeros};  // a float, or four tokens' codes
        for (std::size_t i = 0; i < b.count; ++i) {
            add_weighted<Bits>(reader, weights_of(b, i), b.seen(i, chunk), b.scratch.results + i * cache.padded_dim() + c);
        }
    }
}

}  // namespace AQ_ISA
}  // namespace aq
