// Attention of one layer, block of keys by block of keys: scores -> reference -> weights -> sum of weights times values.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace. What it computes: kernels/attention.hpp.

namespace aq {
namespace AQ_ISA {

inline void clear_states(const query_block& b) {
    const std::size_t dim = b.job.cache.padded_dim();
    for (std::size_t i = 0; i < b.count * b.job.cache.groups(); ++i) {
        b.scratch.states[i] = attention_state{};
        b.scratch.states[i].reference = minus_infinity;
    }
    std::memset(b.scratch.sums, 0, b.count * 2 * dim * sizeof(std::int32_t));
    std::memset(b.scratch.results, 0, b.count * dim * sizeof(float));
}

/// The reference of every query and group, from `keys` of the block that begins at `block`.
inline void find_references(const query_block& b, const log2_form& form, std::size_t block, index_range keys) {
    const plane_values planes = values_of_planes(form.steps);
    for (std::size_t i = 0; i < b.count; ++i) {
        const std::size_t seen = b.seen(i, keys);
        if (seen == 0) continue;
        for (std::size_t g = 0; g < b.job.cache.groups(); ++g) {
            const float* const logs = b.scratch.log_scales + g * b.scratch.keys;
            const float reference = reference_of(form, b.scores(i) + (keys.begin - block), logs, seen, b.state(i, g).reference);
            raise_reference(b, i, g, planes, reference);
        }
    }
}

/// A chunk of keys, and where it stands in the scores and in the prepared scales.
struct chunk_place {
    index_range keys;
    std::size_t in_scores, in_scales;
};

/// Weights of a chunk by the softmax, and with them values in float.
inline void attend_softmax(const query_block& b, const chunk_place& at) {
    const kv_view& cache = b.job.cache;
    const index_range chunk = at.keys;
    for (std::size_t i = 0; i < b.count; ++i) {
        const std::size_t rounded_up = round_up(b.seen(i, chunk), kv_step);
        float* const e = b.scores(i) + at.in_scores;
        add_exponentials(e, rounded_up, b.state(i, 0).reference, e, b.state(i, 0).divisor);
        if (chunk.begin == 0) b.state(i, 0).first = e[0];
        for (std::size_t g = 1; g < cache.groups(); ++g) b.state(i, g) = b.state(i, 0);
    }
    for (std::size_t g = 0; g < cache.groups(); ++g) {
        const std::size_t place = b.scale_at(g, chunk.begin);
        for (std::size_t i = 0; i < b.count; ++i) {
            const float* const e = b.scores(i) + at.in_scores;
            float* const weights = weights_of(b, i);
            for (std::size_t j = 0; j < round_up(b.seen(i, chunk), kv_step); j += ops::lanes) {
                ops::f32 weight = ops::load_f32(e + j);
                if (cache.bits != 32) weight = ops::mul(weight, ops::load_bfloat16(cache.value_scales + place + j));
                ops::store_f32(weights + j, weight);
            }
        }
        if (cache.bits == 32) add_weighted<32>(b, b.group(g), chunk, nullptr);
        else if (cache.bits == 8) add_weighted<8>(b, b.group(g), chunk, nullptr);
        else add_weighted<4>(b, b.group(g), chunk, cache.zeros + place);
    }
}

/// The weight of token 0, from its codes.
inline float weight_of_codes(const std::int8_t* codes, plane_values planes) {
    return rounded(static_cast<float>(-codes[0]) * planes.first) +
           rounded(static_cast<float>(-codes[attention_chunk]) * planes.second);
}

/// Codes of a chunk, and with them values: integers, but for a float cache.
template <int Bits, int Steps>
void attend_coded(const query_block& b, const chunk_place& at) {
    const kv_view& cache = b.job.cache;
    const index_range chunk = at.keys;
    const plane_values planes = values_of_planes(Steps);
    for (std::size_t g = 0; g < cache.groups(); ++g) {
        const float* const logs = b.scratch.log_scales + g * b.scratch.keys + at.in_scales;
        const float* const inverses = b.scratch.inverse_scales + g * b.scratch.keys + at.in_scales;
        const std::uint8_t* const zeros = Bits == 4 ? cache.zeros + b.scale_at(g, chunk.begin) : nullptr;
        for (std::size_t i = 0; i < b.count; ++i) {
            fetch_pieces(b, i, chunk);
            attention_state& state = b.state(i, g);
            std::int8_t* const codes = codes_of(b, i);
            if (chunk.begin % keys_in_32_bits == 0 && chunk.begin != 0) take_sums(b, i, g, planes, 1.0F);
            encode_chunk<Bits, Steps>(b.scores(i) + at.in_scores, logs, inverses, zeros, round_up(b.seen(i, chunk), kv_step),
                                      state, codes, weights_of(b, i));
            const float first = Bits == 32 ? weights_of(b, i)[0] : weight_of_codes(codes, planes);
            if (chunk.begin == 0) state.first = rounded(first * inverses[0]);
        }
        if constexpr (Bits == 32) add_weighted<32>(b, b.group(g), chunk, nullptr);
        else add_values<Bits>(b, b.group(g), chunk);
    }
}

template <int Bits>
void attend_chunk(const query_block& b, const log2_form& form, const chunk_place& at) {
    if (!form.is_coded) attend_softmax(b, at);
    else if (form.steps == 1) attend_coded<Bits, 1>(b, at);
    else attend_coded<Bits, 2>(b, at);
}

/// Of the values of a group up to `length`. Scales are positive, so their bits are in their order.
inline float largest_scale(const query_block& b, std::size_t g, std::size_t length) {
    if (b.job.cache.bits == 32) return 1.0F;
    const std::uint16_t* const scales = b.job.cache.value_scales + b.scale_at(g, 0);
    std::uint16_t largest = 0;
    for (std::size_t j = 0; j < length; ++j) largest = scales[j] > largest ? scales[j] : largest;
    return bfloat16_to_float(largest);
}

/// Results of all queries. Importance is the average over groups of what they give to token 0; 1 exactly where it is alone.
inline void finish(const query_block& b, const log2_form& form) {
    const kv_view& cache = b.job.cache;
    const plane_values planes = values_of_planes(form.steps);
    for (std::size_t i = 0; i < b.count; ++i) {
        float importance = 0.0F;
        float* const results = b.scratch.results + i * cache.padded_dim();
        for (std::size_t g = 0; g < cache.groups(); ++g) {
            attention_state& state = b.state(i, g);
            take_sums(b, i, g, planes, 1.0F);
            ops::f32 lanes[sum_registers];
            AQ_UNROLL for (int r = 0; r < sum_registers; ++r) lanes[r] = ops::load_f32(state.divisor + r * ops::lanes);
            const float sum = row_sum(lanes);
            float factor = 1.0F / sum;
            if (!form.is_divided) factor = largest_scale(b, g, b.length(i)) / whole_weight(form.steps);
            else if (form.is_coded && !(sum > 0.0F)) factor = 0.0F;
            const index_range channels = b.group(g);
            for (std::size_t c = channels.begin; c < channels.end; c += ops::lanes)
                ops::store_f32(results + c, ops::mul(ops::load_f32(results + c), number(factor)));
            importance = importance + (form.is_divided && sum > 0.0F ? state.first / sum : rounded(state.first * factor));
        }
        std::memcpy(b.job.out.row(b.row(i)) + b.head(i) * cache.head_dim, results, cache.head_dim * sizeof(float));
        if (b.job.importance != nullptr)
            b.job.importance[b.head(i) * b.job.q.rows + b.row(i)] = importance / static_cast<float>(cache.groups());
    }
}

/// Scales and references: of all keys of a block where the reference stays, else of each chunk before it is coded.
inline void prepare_weights(const query_block& b, const log2_form& form, std::size_t block, index_range keys) {
    if (form.is_coded) prepare_scales(b, keys);
    find_references(b, form, block, keys);
}

template <int Bits>
void attend(const query_block& b, const log2_form& form) {
    prepare_queries(b);
    clear_states(b);
    const bool moves = form.is_one_pass();
    const std::size_t length = round_up(b.length(b.last()), kv_step);
    for (std::size_t begin = 0; begin < length; begin += b.room) {
        const index_range keys{begin, begin + b.room < length ? begin + b.room : length};
        score_block(b, keys);
        if (!moves) prepare_weights(b, form, begin, keys);
        for (std::size_t at = begin; at < keys.end; at += attention_chunk) {
            const index_range chunk{at, at + attention_chunk < keys.end ? at + attention_chunk : keys.end};
            if (moves) prepare_weights(b, form, begin, chunk);
            attend_chunk<Bits>(b, form, {chunk, at - begin, moves ? 0 : at - begin});
        }
    }
    finish(b, form);
}

/// Keys whose scores there is room for: more of them for few queries, so that long stretches of keys, then of values, are read.
inline std::size_t keys_together(const attention_scratch& s, const log2_form& form, std::size_t queries) {
    if (!form.is_one_pass()) return s.keys;
    const std::size_t room = s.queries * (s.keys + attention_margin) / queries - attention_margin;
    return room / attention_chunk * attention_chunk;
}

/// The kernel of the table.
inline void attention(const attention_job& job, const attention_scratch& scratch, index_range heads) {
    const log2_form form = form_of(job.coding);
    const std::size_t group = job.heads / job.cache.kv_heads;
    for (std::size_t head = heads.begin, end; head < heads.end; head = end) {
        end = (head / group + 1) * group < heads.end ? (head / group + 1) * group : heads.end;
        const std::size_t queries = job.q.rows * (end - head);
        for (std::size_t first = 0; first < queries; first += scratch.queries) {
            const std::size_t count = queries - first < scratch.queries ? queries - first : scratch.queries;
            const query_block b{
                job, scratch, head / group, head, end - head, first, count, queries, keys_together(scratch, form, count)};
            if (job.cache.bits == 32) attend<32>(b, form);
            else if (job.cache.bits == 8) attend<8>(b, form);
            else attend<4>(b, form);
        }
    }
}

/// `others` with this attention.
constexpr kernel_table with_attention(kernel_table others) {
    others.attention = attention;
    others.store_kv = store_kv;
    return others;
}

}  // namespace AQ_ISA
}  // namespace aq
