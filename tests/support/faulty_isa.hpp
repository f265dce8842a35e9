/// \file
/// An instruction set of the tests: scalar operations with pair sums in 16 bits and blocks of three rows, and one operation wrong
/// on request. Without a fault it proves that blocks and schemes cannot be seen in the result, on every processor; with one it
/// proves that the exact suites can fail.
#pragma once

#include <algorithm>
#include <cstdint>

#include "agilequant/dispatch/dispatch.hpp"

namespace aq {
namespace isa {
struct faulty {
    static constexpr const char* name = "faulty";
};
}  // namespace isa

namespace faulty {

enum class fault {
    none,
    dot4_swaps_lanes,      // a dot product with the order of another instruction set: sums of constant codes cannot tell
    pairs_saturate_early,  // products of pairs in 15 bits
    pairs_drop_a_sum,
    wrong_plane,            // the nibble below
    plane_keeps_neighbour,  // no mask
    unpacked_code_lost,     // in scratch only
    zero_point_signed,      // zero points from 128 on turn negative
    shift_too_far,
    shift_forgotten,
    float_truncates,  // an integer beyond 2^24 towards zero instead of to the nearest
    product_flushes,  // what is below 2^-20 becomes 0
    quad_off_by_one,
    range_forgets_last,
    range_takes_nan,
    ties_away,          // half away from zero instead of to even
    encode_clips_late,  // -128 for -127
    encode_drops_zero,
    sum_forgets_sign,
    quotient_by_reciprocal,  // rounded twice
    exponent_forgotten,      // of e^x
    bound_forgotten,         // e^x far below its range
    infinite_quotient_kept,  // where e^x is above it
    count
};
inline fault active = fault::none;

struct ops : scalar::ops {
    static constexpr block_size block{3, 2};
    static constexpr block_size block_of_one_row{1, 3};
    static constexpr std::size_t row_blocks_worth_unpacking = 2;
    template <int WeightMagnitude, int ActivationBits>
    static constexpr std::int64_t steps_in_16_bits = products_in_16_bits(WeightMagnitude, ActivationBits) / 2;
    struct i16_sums {
        std::int16_t at[2];
    };

    static i32 load_u8_as_i32(const std::uint8_t* p) {
        return active == fault::zero_point_signed ? static_cast<std::int8_t>(*p) : *p;
    }
    static narrow load_u8_as_narrow(const std::uint8_t* p) { return load_u8_as_i32(p); }
    static i32 shift_left(i32 a, int count) {
        return active == fault::shift_forgotten ? a
                                                : scalar::ops::shift_left(a, active == fault::shift_too_far ? count + 1 : count);
    }
    static f32 to_float(i32 v) {
        if (active != fault::float_truncates) return static_cast<float>(v);
        i32 magnitude = v < 0 ? -v : v;
        i32 lost = 1;
        while (magnitude >> 24 != 0) magnitude >>= 1, lost *= 2;
        return static_cast<float>(v < 0 ? -magnitude : magnitude) * static_cast<float>(lost);
    }
    static i32 mul(i32 a, i32 b) { return a * b; }
    static f32 mul(f32 a, f32 b) {
        const f32 product = scalar::ops::mul(a, b);
        return active == fault::product_flushes && product < 0x1p-20F && product > -0x1p-20F ? 0.0F : product;
    }
    template <int Bits>
    static codes plane(codes c, int p) {
        if (active == fault::wrong_plane && p > 0) --p;
        if (active == fault::plane_keeps_neighbour && Bits != 8) {
            for (std::uint8_t& byte : c.at) byte = static_cast<std::uint8_t>(byte >> (Bits * p));
            return c;
        }
        return scalar::ops::plane<Bits>(c, p);
    }
    static void store_codes(std::uint8_t* p, codes c) {
        if (active == fault::unpacked_code_lost) c.at[3] = 0;
        scalar::ops::store_codes(p, c);
    }
    template <int Step>
    static quads quad(row_quads row) {
        quads q = scalar::ops::quad<Step>(row);
        if (active == fault::quad_off_by_one) std::rotate(q.at, q.at + 1, q.at + 4);
        return q;
    }
    static i32 add_dot4(i32 sum, codes w, quads a) {
        if (active == fault::dot4_swaps_lanes) std::swap(a.at[1], a.at[2]);
        return scalar::ops::add_dot4(sum, w, a);
    }

    static i16_sums products(codes w, quads a) {
        i16_sums p;
        for (int i = 0; i < 2; ++i) {
            const int product = w.at[2 * i] * a.at[2 * i] + w.at[2 * i + 1] * a.at[2 * i + 1];
            const int limit = active == fault::pairs_saturate_early ? 2047 : 32767;
            p.at[i] = static_cast<std::int16_t>(std::min(std::max(product, -limit - 1), limit));
        }
        return p;
    }
    static i16_sums add_pairs(i16_sums a, i16_sums b) {
        for (int i = 0; i < 2; ++i) a.at[i] = static_cast<std::int16_t>(a.at[i] + b.at[i]);
        return a;
    }
    static i16_sums add_products(i16_sums sum, codes w, quads a) { return add_pairs(sum, products(w, a)); }
    static i32 widened(i16_sums p) { return p.at[0] + (active == fault::pairs_drop_a_sum ? 0 : p.at[1]); }

    static f32 divide(f32 a, f32 b) { return active == fault::quotient_by_reciprocal ? a * (1.0F / b) : a / b; }
    static f32 add_to_exponent(f32 x, f32 e) {
        return active == fault::exponent_forgotten ? x : scalar::ops::add_to_exponent(x, e);
    }
    static f32 greater(f32 x, f32 y) { return active == fault::bound_forgotten ? x : scalar::ops::greater(x, y); }
    static f32 cleared_where_above(f32 x, f32 v, f32 limit) {
        return active == fault::infinite_quotient_kept ? x : scalar::ops::cleared_where_above(x, v, limit);
    }

    static value_range range_of(const float* x, std::size_t count) {
        if (active == fault::range_forgets_last && count != 0) --count;
        value_range range = scalar::ops::range_of(x, count);
        for (std::size_t i = 0; active == fault::range_takes_nan && i < count; ++i)
            range.high = x[i] == x[i] ? range.high : largest_value;
        return range;
    }
    static void encode(const float* x, std::size_t count, float inverse_scale, std::int32_t zero, code_range range,
                       std::int8_t* out) {
        if (active == fault::encode_drops_zero) zero = 0;
        scalar::ops::encode(x, count, inverse_scale, zero, range, out);
        for (std::size_t i = 0; i < count; ++i) {
            const float v = rounded(x[i] * inverse_scale);
            const float truncated = static_cast<float>(static_cast<int>(v > 1e6F || v < -1e6F ? 0.0F : v));
            const bool is_tie = v - truncated == 0.5F || v - truncated == -0.5F;
            if (active == fault::ties_away && is_tie)
                out[i] = static_cast<std::int8_t>(clip(static_cast<int>(v + (v > 0 ? 0.5F : -0.5F)) + zero, range));
            if (active == fault::encode_clips_late && out[i] == -127 && v < -127.6F) out[i] = -128;
        }
    }
    static std::int32_t sum_of(const std::int8_t* c, std::size_t count) {
        std::int32_t sum = 0;
        for (std::size_t i = 0; i < count; ++i) sum += active == fault::sum_forgets_sign ? static_cast<std::uint8_t>(c[i]) : c[i];
        return sum;
    }
};

}  // namespace faulty
}  // namespace aq

// Blocks of one lane have many registers, and none of them is one: unrolled, they would take a minute to compile.
#pragma push_macro("AQ_UNROLL")
#undef AQ_UNROLL
#define AQ_UNROLL

#define AQ_ISA faulty
#include "agilequant/kernels/body/store.hpp"

#include "agilequant/kernels/body/scheme.hpp"

#include "agilequant/kernels/body/unpack.hpp"

#include "agilequant/kernels/body/micro_kernel.hpp"

#include "agilequant/kernels/body/gemm_results.hpp"

#include "agilequant/kernels/body/gemm_block.hpp"

#include "agilequant/kernels/body/gemm.hpp"

#include "agilequant/kernels/body/products.hpp"
#include "agilequant/kernels/body/rows.hpp"

#include "agilequant/kernels/body/row_sources.hpp"

#include "agilequant/kernels/body/quantize.hpp"
#undef AQ_ISA

#pragma pop_macro("AQ_UNROLL")

namespace aq {
namespace faulty {

/// The products and the quantizer; the rest is scalar's.
inline kernel_table table() { return with_quantize(with_products(scalar::table)); }

}  // namespace faulty
}  // namespace aq
