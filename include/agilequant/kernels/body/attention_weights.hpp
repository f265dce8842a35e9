// From scores to what values are multiplied with: powers of two in two planes of bytes, or floats. With it goes what a new maximum
// does to the sums so far. Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.
//
// Weight 1 stands for 2^reference. Where the reference is an integer, a new one multiplies all that was summed by a power of two, which is
// exact. A weight 2^-code is kept as a whole number: in octaves as 2^(15 - code), 16 bits in two bytes; in half octaves as 2^(7 - code / 2),
// which the plane of even or of odd codes holds.

namespace aq {
namespace AQ_ISA {

/// What the two planes of weights are worth in the result: octaves, half octaves.
struct plane_values {
    float first, second;
};
AQ_INLINE plane_values values_of_planes(int steps) {
    return steps == 1 ? plane_values{256.0F, 1.0F} : plane_values{1.0F, inverse_sqrt2};
}
/// Weight 1 as a whole number.
AQ_INLINE float whole_weight(int steps) { return steps == 1 ? 32768.0F : 128.0F; }

/// The largest lane.
inline float largest_lane(ops::f32 v) {
    float all[ops::lanes];
    ops::store_f32(all, v);
    for (int half = ops::lanes / 2; half > 0; half /= 2) {
        for (int l = 0; l < half; ++l) all[l] = all[l + half] > all[l] ? all[l + half] : all[l];
    }
    return all[0];
}

/// The largest scores[j] + offsets[j] lane by lane, over a multiple of 16 keys; of the scores alone without offsets.
inline ops::f32 lane_maxima(const float* scores, const float* offsets, std::size_t keys) {
    constexpr int chains = sum_registers < 2 ? 2 : sum_registers;
    ops::f32 best[chains];
    AQ_UNROLL for (ops::f32& b : best) b = number(minus_infinity);
    const auto take = [&](std::size_t j, ops::f32& b) {
        const ops::f32 score = ops::load_f32(scores + j);
        b = ops::greater(offsets == nullptr ? score : ops::add(score, ops::load_f32(offsets + j)), b);
    };
    std::size_t j = 0;
    constexpr std::size_t step = chains * ops::lanes;
    for (; keys - j >= step; j += step) {
        AQ_UNROLL for (int c = 0; c < chains; ++c) take(j + static_cast<std::size_t>(c * ops::lanes), best[c]);
    }
    for (; j < keys; j += ops::lanes) take(j, best[0]);
    AQ_UNROLL for (int c = 1; c < chains; ++c) best[0] = ops::greater(best[c], best[0]);
    return best[0];
}
inline float row_maximum(const float* scores, const float* offsets, std::size_t keys) {
    return largest_lane(lane_maxima(scores, offsets, keys));
}

/// sums += 2^(scores[j] - top), lane by lane; also stored, where there is room for them.
inline void add_exponentials(const float* scores, std::size_t keys, float top, float* weights, float* sums) {
    ops::f32 lanes[sum_registers];
    AQ_UNROLL for (int r = 0; r < sum_registers; ++r) lanes[r] = ops::load_f32(sums + r * ops::lanes);
    for (std::size_t j = 0; j < keys; j += sum_lanes) {
        AQ_UNROLL for (int r = 0; r < sum_registers; ++r) {
            const std::size_t at = j + static_cast<std::size_t>(r * ops::lanes);
            const ops::f32 e = exp2(ops::sub(ops::load_f32(scores + at), number(top)));
            if (weights != nullptr) ops::store_f32(weights + at, e);
            lanes[r] = ops::add(lanes[r], e);
        }
    }
    AQ_UNROLL for (int r = 0; r < sum_registers; ++r) ops::store_f32(sums + r * ops::lanes, lanes[r]);
}

/// aq::log2, lane by lane.
AQ_INLINE ops::f32 logarithm(ops::f32 scale) {
    const ops::i32 bits = ops::sub(ops::float_bits(scale), ops::broadcast_i32(0x3F3504F4));
    const ops::i32 e = ops::template shift_right_signed<23>(bits);
    const ops::f32 f = ops::sub(ops::times_power_of_two(scale, ops::sub(ops::zero_i32(), e)), number(1.0F));
    const ops::f32 s = ops::divide(f, ops::add(number(2.0F), f)), z = ops::mul(s, s);
    ops::f32 q = ops::add(ops::mul(z, number(0.431717694F)), number(0.576715171F));
    q = ops::add(ops::mul(z, q), number(0.961798847F));
    q = ops::add(ops::mul(z, q), number(2.88539004F));
    return ops::add(ops::mul(s, q), ops::to_float(e));
}

/// Scales of the values of `keys` in the forms that coding asks for, from the beginning of their rows; without scales, and beyond the last
/// token, as if they were 1.
inline void prepare_scales(const query_block& b, index_range keys) {
    const kv_view& cache = b.job.cache;
    for (std::size_t g = 0; g < cache.groups(); ++g) {
        float* const logs = b.scratch.log_scales + g * b.scratch.keys;
        float* const inverses = b.scratch.inverse_scales + g * b.scratch.keys;
        const std::size_t scaled = cache.bits == 32 ? 0 : keys.size(), known = cache.bits == 32 ? 0 : cache.length - keys.begin;
        for (std::size_t j = 0; j < scaled; j += ops::lanes) {
            const ops::f32 scale = ops::load_bfloat16(cache.value_scales + b.scale_at(g, keys.begin + j));
            ops::store_f32(logs + j, logarithm(scale));
            ops::store_f32(inverses + j, ops::divide(number(1.0F), scale));
        }
        for (std::size_t j = known; j < keys.size(); ++j) logs[j] = 0.0F, inverses[j] = 1.0F;
    }
}

/// The weights of 16 keys, as they are coded: whole numbers in two planes, and their sum.
struct whole_weights {
    ops::i32 first[sum_registers], second[sum_registers];
    ops::f32 value[sum_registers];
};

/// `code` is 0..15.
template <int Steps>
AQ_INLINE void whole_weight_of(ops::i32 code, ops::i32& first, ops::i32& second, ops::f32& value) {
    if constexpr (Steps == 1) {  // 2^15 >> code; the last bit would be code 15's
        const ops::i32 weight = ops::bit_and(ops::shift_right(ops::broadcast_i32(0x8000), code), ops::broadcast_i32(0xFFFE));
        first = ops::template shift_right<8>(weight);
        second = ops::bit_and(weight, ops::broadcast_i32(0xFF));
        value = ops::to_float(weight);
    } else {
        const ops::i32 one = ops::broadcast_i32(1), is_odd = ops::sub(ops::zero_i32(), ops::bit_and(code, one));
        const ops::i32 weight = ops::shift_right(ops::broadcast_i32(0x80), ops::template shift_right<1>(code));
        second = ops::bit_and(ops::bit_and(weight, is_odd), ops::broadcast_i32(0xFE));
        first = ops::sub(weight, ops::bit_and(weight, is_odd));
        value = ops::add(ops::to_float(first), ops::mul(ops::to_float(second), number(inverse_sqrt2)));
    }
}

/// 16 keys, from their scores.
template <int Steps>
AQ_INLINE void encode_keys(const float* scores, const float* logs, float reference, whole_weights& w) {
    AQ_UNROLL for (int r = 0; r < sum_registers; ++r) {
        const ops::f32 score = ops::add(ops::load_f32(scores + r * ops::lanes), ops::load_f32(logs + r * ops::lanes));
        ops::f32 x =
            ops::sub(number(reference), score);  // not below -1/2, since no score is above the reference but for rounding
        if constexpr (Steps == 2) x = ops::add(x, x);
        const ops::f32 clipped = ops::lesser(x, number(static_cast<float>(log2_zero)));
        whole_weight_of<Steps>(ops::nearest(clipped), w.first[r], w.second[r], w.value[r]);
    }
}

/// Codes the scores of one query and group in a chunk of keys. To `codes` [2, attention_chunk] for integer sums, 0 behind the last key;
/// or to `weights` [attention_chunk] for float ones, where there are no codes.
template <int Bits, int Steps>
void encode_chunk(const float* scores, const float* logs, const float* inverses, const std::uint8_t* zeros, std::size_t keys,
                  attention_state& state, std::int8_t* codes, float* weights) {
    constexpr bool has_offsets = Bits == 4 || (Bits == 8 && packed_codes<8>::center == 0);
    ops::f32 sums[sum_registers];
    ops::i32 offsets[2][sum_registers];
    AQ_UNROLL for (int r = 0; r < sum_registers; ++r) {
        sums[r] = ops::load_f32(state.divisor + r * ops::lanes);
        AQ_UNROLL for (int p = 0; p < 2; ++p) offsets[p][r] = ops::load_i32(state.offsets[p] + r * ops::lanes);
    }
    for (std::size_t j = 0; j < keys; j += sum_lanes) {
        whole_weights w;
        encode_keys<Steps>(scores + j, logs + j, state.reference, w);
        AQ_UNROLL for (int r = 0; r < sum_registers; ++r) {
            const std::size_t at = j + static_cast<std::size_t>(r * ops::lanes);
            sums[r] = ops::add(sums[r], ops::mul(w.value[r], ops::load_f32(inverses + at)));
            if constexpr (Bits == 32) ops::store_f32(weights + at, w.value[r]);
            if constexpr (has_offsets) {
                const ops::i32 zero = Bits == 4 ? zeros_of<4>(zeros + at, kv_side::value) : ops::zero_i32();
                offsets[0][r] = ops::add(offsets[0][r], Bits == 4 ? ops::mul(zero, w.first[r]) : w.first[r]);
                offsets[1][r] = ops::add(offsets[1][r], Bits == 4 ? ops::mul(zero, w.second[r]) : w.second[r]);
            }
        }
        if constexpr (Bits != 32) {
            ops::store_negated(codes + j, w.first);  // -128 is a byte, 128 is none
            ops::store_negated(codes + attention_chunk + j, w.second);
        }
    }
    AQ_UNROLL for (int r = 0; r < sum_registers; ++r) {
        ops::store_f32(state.divisor + r * ops::lanes, sums[r]);
        AQ_UNROLL for (int p = 0; p < 2 && has_offsets; ++p) ops::store_i32(state.offsets[p] + r * ops::lanes, offsets[p][r]);
    }
    for (std::size_t p = 0; p < 2 && Bits != 32; ++p) std::memset(codes + p * attention_chunk + keys, 0, attention_chunk - keys);
}

AQ_INLINE std::int8_t* codes_of(const query_block& b, std::size_t i) { return b.scratch.weight_codes + i * 2 * attention_chunk; }
AQ_INLINE float* weights_of(const query_block& b, std::size_t i) { return b.scratch.weights + i * attention_chunk; }

/// The sum of a plane's weights times zero points, all keys together.
inline std::int32_t offset_of(const attention_state& state, int plane, int bits) {
    std::int32_t sum = 0;
    for (const std::int32_t lane : state.offsets[plane]) sum += lane;
    return bits == 8 ? sum * (128 - packed_codes<8>::center) : sum;
}

/// What the integer sums of a query and group come to so far, added to its results in float; then all of it times `factor`, a power of
/// two. Integers begin anew.
inline void take_sums(const query_block& b, std::size_t i, std::size_t g, plane_values planes, float factor) {
    const std::size_t dim = b.job.cache.padded_dim();
    const index_range channels = b.group(g);
    attention_state& state = b.state(i, g);
    std::int32_t* const first = b.scratch.sums + i * 2 * dim;
    std::int32_t* const second = first + dim;
    float* const results = b.scratch.results + i * dim;
    const int bits = b.job.cache.bits;
    const bool has_integers = bits != 32;
    const ops::i32 offsets[] = {ops::broadcast_i32(-offset_of(state, 0, bits)), ops::broadcast_i32(-offset_of(state, 1, bits))};
    for (std::size_t c = channels.begin; c < channels.end; c += ops::lanes) {
        ops::f32 result = ops::load_f32(results + c);
        if (has_integers) {  // they are sums of -weights
            const ops::f32 a = ops::to_float(ops::sub(offsets[0], ops::load_i32(first + c)));
            const ops::f32 z = ops::to_float(ops::sub(offsets[1], ops::load_i32(second + c)));
            result = ops::add(result, ops::add(ops::mul(a, number(planes.first)), ops::mul(z, number(planes.second))));
            ops::store_i32(first + c, ops::zero_i32());
            ops::store_i32(second + c, ops::zero_i32());
        }
        ops::store_f32(results + c, ops::mul(result, number(factor)));
    }
    std::memset(state.offsets, 0, sizeof state.offsets);
}

/// Raises the reference of a query and group to that of new keys, if it is higher.
inline void raise_reference(const query_block& b, std::size_t i, std::size_t g, plane_values planes, float reference) {
    attention_state& state = b.state(i, g);
    if (!(reference > state.reference)) return;
    const float rise = state.reference - reference;
    state.reference = reference;
    if (rise == minus_infinity) return;  // nothing was summed so far
    const float factor = rise >= -126.0F ? power_of_two(static_cast<int>(rise)) : 0.0F;
    take_sums(b, i, g, planes, factor);
    for (float& lane : state.divisor) lane *= factor;
    state.first *= factor;
}

/// log2 of the sum of 2^score over a row.
inline float logarithm_of_sum(const float* scores, std::size_t keys) {
    const float top = row_maximum(scores, nullptr, keys);
    float lanes[sum_lanes] = {};
    add_exponentials(scores, keys, top, nullptr, lanes);
    ops::f32 sums[sum_registers];
    AQ_UNROLL for (int r = 0; r < sum_registers; ++r) sums[r] = ops::load_f32(lanes + r * ops::lanes);
    return top + log2(row_sum(sums));
}

/// The largest of a row that ends where it ends.
inline float largest_of(const float* x, std::size_t count) {
    const std::size_t whole = count / kv_step * kv_step;
    float largest = row_maximum(x, nullptr, whole);
    for (std::size_t j = whole; j < count; ++j) largest = x[j] > largest ? x[j] : largest;
    return largest;
}

/// What weight 1 stands for, from the `seen` keys of a block, if it is more than `so_far`. Over the sum, the largest scale that the query sees is part of it.
inline float reference_of(const log2_form& form, const float* scores, const float* logs, std::size_t seen, float so_far) {
    const std::size_t keys = round_up(seen, kv_step);
    if (form.is_coded && form.over == log2_form::reference::sum) return logarithm_of_sum(scores, keys) + largest_of(logs, seen);
    const ops::f32 maxima = lane_maxima(scores, form.is_coded ? logs : nullptr, keys);
    if (!ops::any_greater(maxima, number(so_far))) return so_far;  // as nearly always, after the first chunk
    const float largest = largest_lane(maxima);
    return form.is_one_pass() ? ceiling(largest) : largest;
}

}  // namespace AQ_ISA
}  // namespace aq
