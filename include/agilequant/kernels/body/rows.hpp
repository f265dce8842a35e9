// Rows of floats to codes: the range of a row, and its codes once scale and zero point are known. Equals quant/uniform.hpp to the bit.
// Templates over Ops, so that what one lane does not have is not looked for there.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace. Lengths are multiples of k_step.
//
// A row is tame when no value in it is NaN or beyond 2^126, and its scale was fitted to its own range, or to least_tame_clip of it or
// more: then x / scale is at most 255 steps, or 2^20, and neither special values nor overflow need care. Nearly every row is.

namespace aq {
namespace AQ_ISA {

inline constexpr float least_tame_clip = 0x1p-12F;

/// aq::range_of. The lesser of NaN and y is y, so NaN falls out by itself; the bits of |x| as an integer tell whether there was one.
template <class Ops = ops>
value_range range_of_row(const float* x, std::size_t count, bool& is_tame) {
    is_tame = false;
    if constexpr (Ops::lanes == 1) {
        return Ops::range_of(x, count);
    } else {
        constexpr int registers = static_cast<int>(k_step) / Ops::lanes;  // a chain of minima each
        typename Ops::f32 low[registers], high[registers];
        typename Ops::i32 magnitude[registers];
        AQ_UNROLL for (int r = 0; r < registers; ++r) {
            low[r] = high[r] = Ops::broadcast_f32(0.0F);
            magnitude[r] = Ops::zero_i32();
        }
        for (std::size_t i = 0; i < count; i += k_step) {
            AQ_UNROLL for (int r = 0; r < registers; ++r) {
                const typename Ops::f32 v = Ops::load_f32(x + i + static_cast<std::size_t>(r * Ops::lanes));
                low[r] = Ops::lesser(v, low[r]);
                high[r] = Ops::greater(v, high[r]);
                magnitude[r] = Ops::greater(magnitude[r], Ops::magnitude_bits(v));
            }
        }
        float lows[k_step], highs[k_step];
        std::int32_t magnitudes[k_step], largest = 0;
        AQ_UNROLL for (int r = 0; r < registers; ++r) {
            Ops::store_f32(lows + r * Ops::lanes, low[r]);
            Ops::store_f32(highs + r * Ops::lanes, high[r]);
            Ops::store_i32(magnitudes + r * Ops::lanes, magnitude[r]);
        }
        value_range range;
        for (std::size_t l = 0; l < k_step; ++l) {
            range = {lows[l] < range.low ? lows[l] : range.low, highs[l] > range.high ? highs[l] : range.high};
            largest = magnitudes[l] > largest ? magnitudes[l] : largest;
        }
        range = including(including({}, range.low), range.high);  // within +-2^126
        is_tame = static_cast<std::uint32_t>(largest) <= bits_of(largest_value);
        return range;
    }
}

/// made_finite, lane by lane.
template <class Ops>
AQ_INLINE typename Ops::f32 finite(typename Ops::f32 x) {
    const typename Ops::f32 number = Ops::cleared_where_nan(x);
    return Ops::greater(Ops::lesser(number, Ops::broadcast_f32(largest_value)), Ops::broadcast_f32(-largest_value));
}

template <class Ops, bool IsTame>
void encode_lanes(const float* x, std::size_t count, float inverse_scale, std::int32_t zero, code_range range, std::int8_t* out) {
    constexpr int registers = static_cast<int>(k_step) / Ops::lanes;
    const typename Ops::f32 inverse = Ops::broadcast_f32(inverse_scale), limit = Ops::broadcast_f32(1048576.0F);
    const typename Ops::f32 minus_limit = Ops::broadcast_f32(-1048576.0F);
    const typename Ops::i32 zeros = Ops::broadcast_i32(zero);
    const typename Ops::code_clip clip = Ops::clip_to(range);
    for (std::size_t i = 0; i < count; i += k_step) {
        typename Ops::i32 steps[registers];
        AQ_UNROLL for (int r = 0; r < registers; ++r) {
            typename Ops::f32 v = Ops::load_f32(x + i + static_cast<std::size_t>(r * Ops::lanes));
            v = Ops::mul(IsTame ? v : finite<Ops>(v), inverse);
            if constexpr (!IsTame) v = Ops::greater(Ops::lesser(v, limit), minus_limit);
            steps[r] = Ops::add(Ops::nearest(v), zeros);
        }
        Ops::store_clipped(out + i, steps, clip);
    }
}

/// aq::encode of every value.
template <class Ops = ops>
void encode_row(const float* x, std::size_t count, float inverse_scale, std::int32_t zero, code_range range, bool is_tame,
                std::int8_t* out) {
    if constexpr (Ops::lanes == 1) Ops::encode(x, count, inverse_scale, zero, range, out);
    else (is_tame ? encode_lanes<Ops, true> : encode_lanes<Ops, false>)(x, count, inverse_scale, zero, range, out);
    static_cast<void>(is_tame);
}

}  // namespace AQ_ISA
}  // namespace aq
