// Codes keys and values into the tiles of a cache. Equals kv_cache::append(k, v), which says what it computes, to the bit.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.

namespace aq {
namespace AQ_ISA {

/// The codes of one token of a head to their places; `head` is where its codes begin.
template <int Bits>
void scatter_key(const std::uint8_t* codes, std::size_t token, std::size_t dim, std::uint8_t* head) {
    constexpr std::size_t kr = gemm_tile::kr, planes = 8 / Bits;
    std::uint8_t* out = head + token / kv_step * kv_step * dim * Bits / 8 + token % kv_step * kr;
    for (std::size_t c = 0; c < dim; c += kr * planes, out += gemm_tile::nr * kr) {
        for (std::size_t j = 0; j < kr; ++j)
            out[j] = static_cast<std::uint8_t>(Bits == 8 ? codes[c + j] : codes[c + j] | codes[c + kr + j] << 4);
    }
}
template <int Bits>
void scatter_value(const std::uint8_t* codes, std::size_t token, std::size_t dim, std::uint8_t* head) {
    constexpr std::size_t kr = gemm_tile::kr, planes = 8 / Bits;
    const std::size_t step = token / kr;
    const int shift = static_cast<int>(step % planes) * Bits;
    std::uint8_t* const out = head + step / planes * dim * kr + token % kr;
    for (std::size_t c = 0; c < dim; ++c) {
        std::uint8_t& byte = out[c * kr];
        byte = static_cast<std::uint8_t>(Bits == 8 ? codes[c] : (byte & 0xF0 >> shift) | codes[c] << shift);
    }
}

/// One token of one head, coded group by group.
template <int Bits>
void store_token(const kv_store_job& job, kv_side side, std::size_t head, std::size_t t) {
    const kv_view& cache = job.cache;
    const std::size_t dim = cache.padded_dim(), token = cache.length + t;
    const bool is_key = side == kv_side::key;
    float x[max_head_dim];
    std::memcpy(x, (is_key ? job.k : job.v).row(t) + head * cache.head_dim, cache.head_dim * sizeof(float));
    std::memset(x + cache.head_dim, 0, (dim - cache.head_dim) * sizeof(float));
    std::int8_t codes[max_head_dim];
    const code_range range = Bits == 8 ? signed_codes(8) : unsigned_codes(4);
    for (std::size_t c = 0; c < dim; c += cache.group_channels()) {
        const std::size_t count = dim - c < cache.group_channels() ? dim - c : cache.group_channels();
        const std::size_t at = cache.scale_at(head, c, token);
        bool is_tame = false;
        const value_range values = range_of_row(x + c, count, is_tame);
        std::uint16_t* const scale = (is_key ? job.key_scales : job.value_scales) + at;
        *scale = kv_scale(values, range, token == 0 ? nullptr : scale - 1);
        const float inverse = 1.0F / bfloat16_to_float(*scale);
        const int zero = Bits == 8 ? 0 : clip(-nearest_step(values.low, inverse), range), shift = is_key ? 0 : 4;
        encode_row(x + c, count, inverse, zero, range, is_tame, codes + c);
        if (Bits == 4) job.zeros[at] = static_cast<std::uint8_t>((job.zeros[at] & 0xF0 >> shift) | zero << shift);
    }
    std::uint8_t bytes[max_head_dim];
    for (std::size_t c = 0; c < dim; ++c) bytes[c] = static_cast<std::uint8_t>(codes[c] + (Bits == 8 ? 128 : 0));
    std::uint8_t* const begin = (is_key ? job.keys : job.values) + head * cache.capacity * cache.row_bytes();
    (is_key ? scatter_key<Bits> : scatter_value<Bits>)(bytes, token, dim, begin);
}

/// The kernel of the table.
inline void store_kv(const kv_store_job& job, index_range kv_heads) {
    const auto store = job.cache.bits == 8 ? store_token<8> : store_token<4>;
    for (std::size_t head = kv_heads.begin; head < kv_heads.end; ++head) {
        for (std::size_t t = 0; t < job.k.rows; ++t) {
            store(job, kv_side::key, head, t);
            store(job, kv_side::value, head, t);
        }
    }
}

}  // namespace AQ_ISA
}  // namespace aq
