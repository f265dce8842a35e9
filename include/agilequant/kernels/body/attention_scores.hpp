// From one query to its scores, and from scores to weights: the rows of numbers that attention works on.
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

/// A plane of coded keys.
struct key_plane {
    const std::uint8_t* rows;
    std::size_t row_bytes;
    const std::uint16_t* scales;
    const std::uint8_t* zeros;
};

/// scores[j] (+)= float(sum of q (key - zero)) * (scale * factor), j < keys; the first plane of a head sets, the others add.
template <int Bits>
void score_codes(const key_plane& plane, const std::int8_t* q, std::size_t keys, float factor, bool is_first, float* scores) {
    constexpr std::size_t channels_in_step = 16 * 8 / Bits;
    const ops::i32 q_sum = ops::broadcast_i32(Bits == 4 ? ops::sum_of(q, plane.row_bytes / 16 * channels_in_step) : 0);
    for (std::size_t j = 0; j < keys; j += ops::lanes) {
        const std::uint8_t* const rows = plane.rows + j * plane.row_bytes;
        ops::i32 v[ops::lanes];
        AQ_UNROLL for (ops::i32& sum : v) sum = ops::zero_i32();
        for (std::size_t b = 0, c = 0; b < plane.row_bytes; b += 16, c += channels_in_step) {
            AQ_UNROLL for (int k = 0; k < ops::lanes; ++k) {
                v[k] = ops::template add_dot<Bits>(v[k], rows + static_cast<std::size_t>(k) * plane.row_bytes + b, q + c);
            }
        }
        ops::i32 exact = ops::sum_across(v);
        if constexpr (Bits == 4) exact = ops::sub(exact, ops::mul(ops::low_nibble(ops::load_u8_as_i32(plane.zeros + j)), q_sum));
        const ops::f32 scale = ops::mul(ops::load_bfloat16(plane.scales + j), number(factor));
        const ops::f32 score = ops::mul(ops::to_float(exact), scale);
        ops::store_f32(scores + j, is_first ? score : ops::add(ops::load_f32(scores + j), score));
    }
}

/// Adds slope * (j - (length - 1)), and -infinity from `length` to `keys`.
inline void finish_scores(std::size_t length, std::size_t keys, float slope, float* scores) {
    for (std::size_t j = 0; slope != 0.0F && j < keys; j += ops::lanes) {
        const std::int32_t first = static_cast<std::int32_t>(j) - static_cast<std::int32_t>(length) + 1;
        const ops::f32 distance = ops::to_float(ops::add(ops::broadcast_i32(first), ops::first_lanes()));
        ops::store_f32(scores + j, ops::add(ops::load_f32(scores + j), ops::mul(number(slope), distance)));
    }
    for (std::size_t j = length; j < keys; ++j) scores[j] = minus_infinity;
}

/// The largest scores[j] + offsets[j]; of the scores alone without offsets.
inline float row_maximum(const float* scores, const float* offsets, std::size_t keys) {
    ops::f32 best = number(minus_infinity);
    for (std::size_t j = 0; j < keys; j += ops::lanes) {
        const ops::f32 score = ops::load_f32(scores + j);
        best = ops::greater(offsets == nullptr ? score : ops::add(score, ops::load_f32(offsets + j)), best);
    }
    float all[ops::lanes], maximum = minus_infinity;
    ops::store_f32(all, best);
    for (const float x : all) maximum = x > maximum ? x : maximum;
    return maximum;
}

/// weights[j] = 2^(scores[j] - top); returns their sum.
inline float exponentials(const float* scores, std::size_t keys, float top, float* weights) {
    ops::f32 sums[sum_registers];
    AQ_UNROLL for (ops::f32& sum : sums) sum = number(0.0F);
    for (std::size_t j = 0; j < keys; j += sum_lanes) {
        AQ_UNROLL for (int r = 0; r < sum_registers; ++r) {
            const std::size_t at = j + static_cast<std::size_t>(r * ops::lanes);
            const ops::f32 e = exp2(ops::sub(ops::load_f32(scores + at), number(top)));
            ops::store_f32(weights + at, e);
            sums[r] = ops::add(sums[r], e);
        }
    }
    return row_sum(sums);
}

/// log2_value of quant/log2.hpp, for a code as a float.
template <int Steps>
AQ_INLINE ops::f32 value_of_code(ops::f32 code) {
    ops::f32 octaves = code, value = number(1.0F);
    if constexpr (Steps == 2) {
        octaves =
            ops::sub(ops::add(ops::sub(ops::mul(code, number(0.5F)), number(0.25F)), number(round_magic)), number(round_magic));
        const ops::f32 is_odd = ops::sub(code, ops::add(octaves, octaves));
        value = ops::select_at_least(is_odd, number(0.5F), number(inverse_sqrt2), value);
    }
    value = ops::times_power_of_two(value, ops::sub(ops::zero_i32(), ops::to_i32(octaves)));
    return ops::select_at_least(code, number(static_cast<float>(log2_zero)), number(0.0F), value);
}

/// codes[j] = code of 2^(scores[j] + log_scales[j] - reference), weights[j] = its value; returns the sum of weights[j] * inverse_scales[j]: of
/// the coded probabilities, without the scale that was coded with them.
template <int Steps>
float encode_scores(const float* scores, const float* log_scales, const float* inverse_scales, std::size_t keys, float reference,
                    std::int32_t* codes, float* weights) {
    ops::f32 sums[sum_registers];
    AQ_UNROLL for (ops::f32& sum : sums) sum = number(0.0F);
    for (std::size_t j = 0; j < keys; j += sum_lanes) {
        AQ_UNROLL for (int r = 0; r < sum_registers; ++r) {
            const std::size_t at = j + static_cast<std::size_t>(r * ops::lanes);
            const ops::f32 score = ops::add(ops::load_f32(scores + at), ops::load_f32(log_scales + at));
            const ops::f32 x = ops::mul(ops::sub(number(reference), score), number(static_cast<float>(Steps)));
            const ops::f32 clipped = ops::greater(ops::lesser(x, number(static_cast<float>(log2_zero))), number(0.0F));
            const ops::f32 code = ops::sub(ops::add(clipped, number(round_magic)), number(round_magic));
            const ops::f32 value = value_of_code<Steps>(code);
            ops::store_i32(codes + at, ops::to_i32(code));
            ops::store_f32(weights + at, value);
            sums[r] = ops::add(sums[r], ops::mul(value, ops::load_f32(inverse_scales + at)));
        }
    }
    return row_sum(sums);
}

}  // namespace AQ_ISA
}  // namespace aq
