// Attention of one layer, a row of scores at a time: scores -> weights -> sum of weights times values.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace. What it computes: kernels/attention.hpp.

namespace aq {
namespace AQ_ISA {

/// A plane of values: rows of floats or codes, with the scale that belongs to each.
struct value_plane {
    const std::uint8_t* rows;
    std::size_t row_bytes, channels;
    const std::uint16_t* scales;
    const std::uint8_t* zeros;
};

/// `block` channels at a time, as many as registers hold: body(integral_constant, channel).
template <class Body>
AQ_INLINE void for_channel_blocks(std::size_t channels, Body body) {
    std::size_t c = 0;
    for (; channels - c >= 64; c += 64) body(std::integral_constant<int, 64>{}, c);
    if (channels - c >= 32) body(std::integral_constant<int, 32>{}, c), c += 32;
    if (channels - c >= 16) body(std::integral_constant<int, 16>{}, c);
}

/// Codes of ops::lanes channels from `channel` of a block on, which begins at `block`; with 4 bits the block is the plane.
template <int Bits>
AQ_INLINE ops::i32 load_values(const std::uint8_t* block, int channel) {
    if constexpr (Bits == 8) return ops::load_i8_as_i32(reinterpret_cast<const std::int8_t*>(block) + channel);
    else if (channel < 16) return ops::low_nibble(ops::load_u8_as_i32(block + channel));
    else return ops::high_nibble(ops::load_u8_as_i32(block + channel - 16));
}

/// result[c] = sum over the keys in order of weights[j] * value, product rounded first; the zero point is taken out of a code before.
template <int Bits>
void add_weighted(const value_plane& plane, const float* weights, std::size_t length, float* result) {
    for_channel_blocks(plane.channels, [&](auto block, std::size_t channel) {
        constexpr int registers = decltype(block)::value / ops::lanes;
        ops::f32 sums[registers];
        AQ_UNROLL for (ops::f32& sum : sums) sum = ops::broadcast_f32(0.0F);
        for (std::size_t j = 0; j < length; ++j) {
            const std::uint8_t* const row = plane.rows + j * plane.row_bytes;
            const ops::f32 weight = ops::broadcast_f32(weights[j]);
            const ops::i32 zero = ops::broadcast_i32(Bits == 4 ? plane.zeros[j] >> 4 : 0);
            AQ_UNROLL for (int r = 0; r < registers; ++r) {
                ops::f32 value;
                if constexpr (Bits == 32) value = ops::load_f32(reinterpret_cast<const float*>(row) + channel + r * ops::lanes);
                else value = ops::to_float(ops::sub(load_values<Bits>(row + channel, r * ops::lanes), zero));
                sums[r] = ops::add(sums[r], ops::mul(weight, value));
            }
        }
        AQ_UNROLL for (int r = 0; r < registers; ++r)
            ops::store_f32(result + channel + static_cast<std::size_t>(r * ops::lanes), sums[r]);
    });
}

/// A 32-bit sum holds this many values of 8 bits, each shifted by 15; then it goes into 64 bits.
inline constexpr std::size_t terms_in_32_bits = static_cast<std::size_t>(products_within(0x7FFFFFFF, std::int64_t{1} << 15, 127));
static_assert(terms_in_32_bits == 516);

/// sums[c] = sum of (code - zero) << shift over the terms, exact.
template <int Bits>
void add_terms(const value_plane& plane, const attention_term* terms, std::size_t count, std::int64_t* sums) {
    std::int64_t offset = 0;
    for (std::size_t t = 0; Bits == 4 && t < count; ++t) {
        offset += static_cast<std::int64_t>(plane.zeros[terms[t].key] >> 4) << terms[t].shift;
    }
    for_channel_blocks(plane.channels, [&](auto block, std::size_t channel) {
        constexpr int registers = decltype(block)::value / ops::lanes;
        std::int64_t* const out = sums + channel;
        for (int c = 0; c < decltype(block)::value; ++c) out[c] = -offset;
        for (std::size_t begin = 0, end; begin < count; begin = end) {
            end = count - begin < terms_in_32_bits ? count : begin + terms_in_32_bits;
            ops::i32 partial[registers];
            AQ_UNROLL for (ops::i32& sum : partial) sum = ops::zero_i32();
            for (std::size_t t = begin; t < end; ++t) {
                const std::uint8_t* const row = plane.rows + terms[t].key * plane.row_bytes;
                AQ_UNROLL for (int r = 0; r < registers; ++r) {
                    const ops::i32 values = load_values<Bits>(row + channel, r * ops::lanes);
                    partial[r] = ops::add(partial[r], ops::shift_left(values, terms[t].shift));
                }
            }
            std::int32_t narrow[registers * ops::lanes];
            AQ_UNROLL for (int r = 0; r < registers; ++r) ops::store_i32(narrow + r * ops::lanes, partial[r]);
            for (int c = 0; c < registers * ops::lanes; ++c) out[c] += narrow[c];
        }
    });
}

/// The terms of the codes that are not zero; with two steps an octave those of one parity only. Returns their number.
inline std::size_t collect_terms(const std::int32_t* codes, std::size_t length, int steps, int parity, attention_term* terms) {
    std::size_t count = 0;
    for (std::size_t j = 0; j < length; ++j) {
        const std::int32_t code = codes[j];
        terms[count] = {static_cast<std::uint32_t>(j), 15 - (code >> (steps - 1))};
        count += code != log2_zero && (code & (steps - 1)) == parity ? 1 : 0;
    }
    return count;
}

/// result = sum over keys of 2^(-code / steps) * (value code - zero), in exact integers but for the last line.
template <int Bits>
void sum_coded(const value_plane& plane, std::size_t length, int steps, const attention_scratch& s) {
    for (int parity = 0; parity < steps; ++parity) {
        const std::size_t count = collect_terms(s.codes, length, steps, parity, s.terms);
        add_terms<Bits>(plane, s.terms, count, s.sums + static_cast<std::size_t>(parity) * plane.channels);
    }
    for (std::size_t c = 0; c < plane.channels; ++c) {
        const float odd = steps == 1 ? 0.0F : rounded(static_cast<float>(s.sums[plane.channels + c]) * inverse_sqrt2);
        s.result[c] = (static_cast<float>(s.sums[c]) + odd) * power_of_two(-15);
    }
}

/// Scale of each token's values in the forms that coding asks for; all 1 for a float cache, and beyond the last token.
inline void prepare_scales(const kv_view& cache, std::size_t kv_head, const attention_scratch& s) {
    const std::size_t keys = round_up(cache.length, kv_step);
    for (std::size_t p = 0; p < cache.planes(); ++p) {
        const std::size_t place = (kv_head * cache.planes() + p) * cache.capacity;
        float largest = 0.0F;
        for (std::size_t j = 0; j < keys; ++j) {
            const bool is_scaled = cache.bits != 32 && j < cache.length;
            const float scale = is_scaled ? bfloat16_to_float(cache.value_scales[place + j]) : 1.0F;
            largest = scale > largest ? scale : largest;
            s.log_scales[p * keys + j] = is_scaled ? log2(scale) : 0.0F;
            s.inverse_scales[p * keys + j] = 1.0F / scale;
            s.largest_scales[p * keys + j] = largest;
        }
    }
}

/// One row of q by one head: what the functions below share.
struct attention_row {
    const attention_job& job;
    const attention_scratch& scratch;
    std::size_t head, kv_head, row;
    std::size_t length, keys, all_keys;  ///< seen by the row; that rounded up; of the cache, rounded up

    [[nodiscard]] AQ_INLINE value_plane values(std::size_t p) const {
        const kv_view& v = job.cache;
        const std::size_t place = (kv_head * v.planes() + p) * v.capacity;
        return {static_cast<const std::uint8_t*>(v.values) + place * v.row_bytes(), v.row_bytes(), v.plane_channels(),
                v.bits == 32 ? nullptr : v.value_scales + place, v.bits == 4 ? v.zeros + place : nullptr};
    }
    [[nodiscard]] AQ_INLINE key_plane key_rows(std::size_t p) const {
        const kv_view& v = job.cache;
        const std::size_t place = (kv_head * v.planes() + p) * v.capacity;
        return {static_cast<const std::uint8_t*>(v.keys) + place * v.row_bytes(), v.row_bytes(),
                v.bits == 32 ? nullptr : v.key_scales + place, v.bits == 4 ? v.zeros + place : nullptr};
    }
    AQ_INLINE void store(std::size_t p, float factor) const {
        const std::size_t first = p * job.cache.plane_channels(), dim = job.cache.head_dim;
        float* const out = job.out.row(row) + head * dim;
        for (std::size_t c = first; c < dim && c < first + job.cache.plane_channels(); ++c)
            out[c] = scratch.result[c - first] * factor;
    }
    AQ_INLINE void store_importance(float value) const {
        if (job.importance != nullptr) job.importance[head * job.q.rows + row] = value;
    }
};

inline void score_row(const attention_row& a) {
    constexpr float log2e = 1.44269504F;
    const attention_scratch& s = a.scratch;
    const kv_view& cache = a.job.cache;
    const float* const q = a.job.q.row(a.row) + a.head * cache.head_dim;
    for (std::size_t c = 0; c < cache.padded_dim(); ++c) s.q[c] = c < cache.head_dim ? q[c] : 0.0F;
    const float factor = rounded(a.job.scale * log2e);
    if (cache.bits == 32) {
        score_floats(s.q, reinterpret_cast<const float*>(a.key_rows(0).rows), cache.padded_dim(), a.keys, factor, s.scores);
    } else {
        bool is_tame = false;
        const affine fit = fit_symmetric(range_of_row(s.q, cache.padded_dim(), is_tame), signed_codes(8));
        encode_row(s.q, cache.padded_dim(), 1.0F / fit.scale, 0, signed_codes(8), is_tame, s.q_codes);
        for (std::size_t p = 0; p < cache.planes(); ++p) {
            const std::int8_t* const codes = s.q_codes + p * cache.plane_channels();
            (cache.bits == 8 ? score_codes<8> : score_codes<4>)(a.key_rows(p), codes, a.keys, rounded(fit.scale * factor), p == 0,
                                                                s.scores);
        }
    }
    finish_scores(a.length, a.keys, a.job.slopes == nullptr ? 0.0F : rounded(a.job.slopes[a.head] * log2e), s.scores);
}

/// The float alternative: 2^(score - maximum), times the scale of each value.
inline void attend_softmax(const attention_row& a) {
    const attention_scratch& s = a.scratch;
    const kv_view& cache = a.job.cache;
    const float inverse = 1.0F / exponentials(s.scores, a.keys, row_maximum(s.scores, nullptr, a.keys), s.scores);
    a.store_importance(s.scores[0] * inverse);
    if (cache.bits == 32) {
        add_weighted<32>(a.values(0), s.scores, a.length, s.result);
        return a.store(0, inverse);
    }
    for (std::size_t p = 0; p < cache.planes(); ++p) {
        const value_plane plane = a.values(p);
        for (std::size_t j = 0; j < a.keys; j += ops::lanes) {
            ops::store_f32(s.weights + j, ops::mul(ops::load_f32(s.scores + j), ops::load_bfloat16(plane.scales + j)));
        }
        (cache.bits == 8 ? add_weighted<8> : add_weighted<4>)(plane, s.weights, a.length, s.result);
        a.store(p, inverse);
    }
}

/// Codes, plane by plane since each has its own scales; importance is the average over planes of what they give to token 0.
inline void attend_coded(const attention_row& a, const log2_form& form) {
    const attention_scratch& s = a.scratch;
    const kv_view& cache = a.job.cache;
    float logarithm_of_sum = 0.0F;
    if (form.over == log2_form::reference::sum) {
        const float top = row_maximum(s.scores, nullptr, a.keys), sum = exponentials(s.scores, a.keys, top, s.weights);
        logarithm_of_sum = top + log2(sum);
    }
    float importance = 0.0F;
    for (std::size_t p = 0; p < cache.planes(); ++p) {
        const value_plane plane = a.values(p);
        const float* const log_scales = s.log_scales + p * a.all_keys;
        const float* const inverse_scales = s.inverse_scales + p * a.all_keys;
        const float largest = s.largest_scales[p * a.all_keys + a.length - 1];
        float reference = logarithm_of_sum + log2(largest);
        if (form.over != log2_form::reference::sum) reference = row_maximum(s.scores, log_scales, a.keys);
        if (form.over == log2_form::reference::ceiling) reference = ceiling(reference);
        const auto encode_row = form.steps == 1 ? encode_scores<1> : encode_scores<2>;
        const float sum = encode_row(s.scores, log_scales, inverse_scales, a.keys, reference, s.codes, s.weights);
        const float factor = !form.is_divided ? largest : sum > 0.0F ? 1.0F / sum : 0.0F;
        if (cache.bits == 32) add_weighted<32>(plane, s.weights, a.length, s.result);
        else (cache.bits == 8 ? sum_coded<8> : sum_coded<4>)(plane, a.length, form.steps, s);
        a.store(p, factor);
        const float first = rounded(s.weights[0] * inverse_scales[0]);
        importance = importance +
                     (form.is_divided && sum > 0.0F ? first / sum : rounded(first * factor));  // 1 exactly where token 0 is alone
    }
    a.store_importance(importance / static_cast<float>(cache.planes()));
}

/// The kernel of the table.
inline void attention(const attention_job& job, const attention_scratch& scratch, index_range heads) {
    const log2_form form = form_of(job.coding);
    const std::size_t past = job.cache.length - job.q.rows, all_keys = round_up(job.cache.length, kv_step);
    for (std::size_t head = heads.begin; head < heads.end; ++head) {
        const std::size_t group = job.heads / job.cache.kv_heads;
        if (form.is_coded && (head == heads.begin || head % group == 0)) prepare_scales(job.cache, head / group, scratch);
        for (std::size_t row = 0; row < job.q.rows; ++row) {
            const std::size_t length = past + row + 1;
            const attention_row a{job, scratch, head, head / group, row, length, round_up(length, kv_step), all_keys};
            score_row(a);
            if (form.is_coded) attend_coded(a, form);
            else attend_softmax(a);
        }
    }
}

/// `others` with this attention.
constexpr kernel_table with_attention(kernel_table others) {
    others.attention = attention;
    return others;
}

}  // namespace AQ_ISA
}  // namespace aq
