/// \file
/// An instruction set of the tests with attention alone: scalar operations in blocks of several rows and panels, and one operation
/// wrong on request. Without a fault it proves that blocks cannot be seen in a result; with one, that the exact suite can fail.
#pragma once

#include <cstdint>
#include <utility>

#include "agilequant/dispatch/dispatch.hpp"

namespace aq {
namespace attention_fault {

enum class fault {
    none,
    dot4_swaps_places,
    dot4_codes_signed,
    wrong_plane,            // the nibble below
    plane_keeps_neighbour,  // no mask
    quad_off_by_one,
    sum_forgets_last,
    sum_forgets_sign,
    range_forgets_last,
    key_zero_unmasked,
    value_zero_low,  // the key's
    zero_product_in_16_bits,
    lanes_from_one,
    scale_truncated,
    select_takes_nan,
    integer_off,
    power_too_small,
    float_truncates,  // an integer beyond 2^24 towards zero instead of to the nearest
    float_drops_low_bit,
    product_flushes,  // what is below 2^-20 becomes 0
    division_truncates,
    greater_takes_nan,
    lesser_takes_nan,
    limit_short,
    nearest_truncates,
    ties_away,  // half away from zero instead of to even
    shift_short,
    halves_wrong,
    code_15_kept,
    second_plane_lost,
    first_plane_lost,
    one_clipped,  // -127 for the weight -128
    none_is_greater,
    exponent_unsigned,
    byte_of_neighbour,
    count
};
inline fault active = fault::none;

struct ops : scalar::ops {
    using base = scalar::ops;
    static constexpr block_size attention_block{3, 2};
    static constexpr int attention_streams = 3;
    static constexpr std::size_t streamed_panels = 2;

    static bool is(fault f) { return active == f; }

    static i32 add_dot4(i32 sum, codes w, quads a) {
        if (is(fault::dot4_swaps_places)) std::swap(a.at[1], a.at[2]);
        if (!is(fault::dot4_codes_signed)) return base::add_dot4(sum, w, a);
        for (int j = 0; j < 4; ++j) sum += static_cast<std::int8_t>(w.at[j]) * a.at[j];
        return sum;
    }
    template <int Bits>
    static codes plane(codes c, int p) {
        if (is(fault::wrong_plane) && p > 0) --p;
        if (is(fault::plane_keeps_neighbour) && Bits != 8) {
            for (std::uint8_t& byte : c.at) byte = static_cast<std::uint8_t>(byte >> (Bits * p));
            return c;
        }
        return base::plane<Bits>(c, p);
    }
    template <int Step>
    static quads quad(row_quads row) {
        quads q = base::quad<Step>(row);
        if (is(fault::quad_off_by_one)) std::swap(q.at[0], q.at[3]);
        return q;
    }
    static std::int32_t sum_of(const std::int8_t* c, std::size_t count) {
        if (is(fault::sum_forgets_last) && count != 0) --count;
        std::int32_t sum = 0;
        for (std::size_t i = 0; i < count; ++i) sum += is(fault::sum_forgets_sign) ? static_cast<std::uint8_t>(c[i]) : c[i];
        return sum;
    }
    static value_range range_of(const float* x, std::size_t count) {
        return base::range_of(x, is(fault::range_forgets_last) && count != 0 ? count - 1 : count);
    }

    static i32 bit_and(i32 a, i32 b) {
        if (is(fault::key_zero_unmasked) && b == 15) return a;
        if (is(fault::code_15_kept) && (b == 0xFE || b == 0xFFFE)) return a;
        if (is(fault::second_plane_lost) && (b == 0xFF || b == 0xFE)) return 0;
        return base::bit_and(a, b);
    }
    static i32 shift_right(i32 v, i32 count) {  // by 31 at most, as instructions do: a wrong operation may make codes of any size
        return base::shift_right(v, is(fault::shift_short) && count == 13 ? 12 : count & 31);
    }
    template <int Count>
    static i32 shift_right(i32 v) {
        if (is(fault::value_zero_low) && Count == 4) return v & 15;
        if (is(fault::halves_wrong) && Count == 1) ++v;
        if (is(fault::first_plane_lost) && Count == 8) return 0;
        return base::shift_right<Count>(v);
    }
    template <int Count>
    static i32 shift_right_signed(i32 v) {
        return is(fault::exponent_unsigned) ? base::shift_right<Count>(v) : base::shift_right_signed<Count>(v);
    }
    static i32 mul(i32 a, i32 b) { return is(fault::zero_product_in_16_bits) ? static_cast<std::int16_t>(a * b) : a * b; }
    static i32 first_lanes() { return is(fault::lanes_from_one) ? 1 : 0; }
    template <int Byte>
    static i32 byte_of_lane(codes c) {
        return c.at[is(fault::byte_of_neighbour) ? Byte ^ 1 : Byte];
    }
    static void store_negated(std::int8_t* out, const i32 (&v)[16]) {
        base::store_negated(out, v);
        for (int i = 0; i < 16 && is(fault::one_clipped); ++i) out[i] = out[i] == -128 ? -127 : out[i];
    }
    static bool any_greater(f32 x, f32 y) { return base::any_greater(x, y) && !is(fault::none_is_greater); }

    static f32 mul(f32 a, f32 b) {
        const f32 product = base::mul(a, b);
        return is(fault::product_flushes) && product < 0x1p-20F && product > -0x1p-20F ? 0.0F : product;
    }
    static f32 divide(f32 a, f32 b) {
        return is(fault::division_truncates) ? float_of(bits_of(a / b) & 0xFFFFF000U) : base::divide(a, b);
    }
    static f32 load_bfloat16(const std::uint16_t* p) {
        return is(fault::scale_truncated) ? float_of((*p & 0xFFF0U) << 16) : base::load_bfloat16(p);
    }
    static f32 to_float(i32 v) {
        if (is(fault::float_drops_low_bit)) v &= ~1;
        if (!is(fault::float_truncates)) return base::to_float(v);
        i32 magnitude = v < 0 ? -v : v, lost = 1;
        while (magnitude >> 24 != 0) magnitude >>= 1, lost *= 2;
        return static_cast<float>(v < 0 ? -magnitude : magnitude) * static_cast<float>(lost);
    }
    static f32 greater(f32 x, f32 y) { return is(fault::greater_takes_nan) ? (y > x ? y : x) : base::greater(x, y); }
    static f32 lesser(f32 x, f32 y) {
        if (is(fault::lesser_takes_nan)) return y < x ? y : x;
        return base::lesser(x, is(fault::limit_short) ? y - 1.0F : y);
    }
    static f32 select_at_least(f32 x, f32 limit, f32 yes, f32 no) {
        return is(fault::select_takes_nan) ? (x < limit ? no : yes) : base::select_at_least(x, limit, yes, no);
    }
    static i32 nearest(f32 x) {
        if (is(fault::nearest_truncates)) return static_cast<i32>(x);
        return is(fault::ties_away) ? static_cast<i32>(x + (x < 0 ? -0.5F : 0.5F)) : base::nearest(x);
    }
    static i32 to_i32(f32 x) { return x != x ? 0 : base::to_i32(is(fault::integer_off) && x == -7.0F ? -6.0F : x); }
    static f32 times_power_of_two(f32 x, i32 e) {
        return base::times_power_of_two(x, is(fault::power_too_small) && e == -9 ? -10 : e);
    }
};

}  // namespace attention_fault
}  // namespace aq

// Blocks of one lane have many registers, and none of them is one: unrolled, they would take a minute to compile.
#pragma push_macro("AQ_UNROLL")
#undef AQ_UNROLL
#define AQ_UNROLL

#define AQ_ISA attention_fault
#include "agilequant/kernels/body/store.hpp"

#include "agilequant/kernels/body/scheme.hpp"

#include "agilequant/kernels/body/unpack.hpp"

#include "agilequant/kernels/body/micro_kernel.hpp"

#include "agilequant/kernels/body/rows.hpp"

#include "agilequant/kernels/body/kv_store.hpp"

#include "agilequant/kernels/body/attention_query.hpp"

#include "agilequant/kernels/body/attention_scores.hpp"

#include "agilequant/kernels/body/attention_weights.hpp"

#include "agilequant/kernels/body/attention_values.hpp"

#include "agilequant/kernels/body/attention.hpp"
#undef AQ_ISA

#pragma pop_macro("AQ_UNROLL")
