/// \file
/// Two more instruction sets of the tests, made as Arm's are, in plain C++: so that blocks of a part of a panel, blocks of few rows, centered
/// codes, values and the schemes of Arm are compared with scalar on every processor; and with one operation wrong on request.
///
/// | instruction set | made as | what is its own |
/// |---|---|---|
/// | faulty_neon | neon | centered codes, single products in 16 bits, two steps in halves of sums |
/// | faulty_dotprod | dotprod | sums that begin at the bits of a float, panels unpacked to values |
#pragma once

#include <cstdint>
#include <utility>

#include "agilequant/dispatch/dispatch.hpp"

namespace aq {
namespace isa {
struct faulty_neon {
    static constexpr const char* name = "faulty_neon";
};
struct faulty_dotprod {
    static constexpr const char* name = "faulty_dotprod";
};
}  // namespace isa

namespace faulty_neon {

enum class fault {
    none,
    center_forgotten,         // codes of 8 bits as they are
    unpacked_center_doubled,  // in scratch only
    first_product_dropped,    // that a 16-bit sum begins with
    widened_drops_lanes,
    second_step_dropped,
    second_step_takes_first,  // activations of the first step twice
    high_half_dropped,
    high_half_not_shifted,
    half_of_panel_repeated,  // the second half of a step's columns reads the first
    narrow_zero_unsigned,    // zero points less what codes are centered on
    count
};
inline fault active = fault::none;
inline int largest_sum = 32767;  ///< that a 16-bit sum holds; whatever exceeds it is lost

struct ops : scalar::ops {
    static constexpr block_size block{3, 1, 2};
    static constexpr block_size block_of_few_rows{2, 1};
    static constexpr std::size_t row_blocks_worth_unpacking = 2;
    static constexpr bool has_two_steps = true;
    static constexpr bool has_group_kinds = true;
    template <int Bits>
    static constexpr int center = Bits == 8 ? 128 : 0;
    template <int Bits>
    static constexpr int unpacked_center = Bits == 2 ? 0 : 1 << (Bits - 1);
    template <int WeightMagnitude, int ActivationBits>
    static constexpr std::int64_t steps_in_16_bits = products_in_16_bits(WeightMagnitude, ActivationBits);

    struct i16_sums {
        std::int16_t at[4];
    };
    struct i32_halves {
        i32 low, high;
    };

    static codes load_codes(const std::uint8_t* p) {
        const auto second_half = reinterpret_cast<std::uintptr_t>(p) & 32U;  // packed codes and scratch are aligned to 64
        return scalar::ops::load_codes(active == fault::half_of_panel_repeated ? p - second_half : p);
    }
    template <int Bits>
    static codes plane(codes c, int p) {
        if constexpr (Bits == 8) return active == fault::center_forgotten ? c : sub_bytes(c, broadcast_byte(-128));
        else return scalar::ops::plane<Bits>(c, p);
    }
    static codes broadcast_byte(int v) {
        const auto byte = static_cast<std::uint8_t>(v);
        return {{byte, byte, byte, byte}};
    }
    static codes sub_bytes(codes a, codes b) {
        for (int i = 0; i < 4; ++i) a.at[i] = static_cast<std::uint8_t>(a.at[i] - b.at[i]);
        return a;
    }
    static void store_codes(std::uint8_t* p, codes c) {
        scalar::ops::store_codes(p, active == fault::unpacked_center_doubled ? sub_bytes(c, broadcast_byte(8)) : c);
    }
    static narrow sub_narrow(narrow a, narrow b) {
        return active == fault::narrow_zero_unsigned ? static_cast<std::uint8_t>(a - b) : a - b;
    }

    static i16_sums products(codes w, quads a) {
        return active == fault::first_product_dropped ? i16_sums{} : add_products({}, w, a);
    }
    static i16_sums add_products(i16_sums sum, codes w, quads a) {
        for (int i = 0; i < 4; ++i) {
            const int exact = sum.at[i] + static_cast<std::int8_t>(w.at[i]) * a.at[i];
            sum.at[i] = static_cast<std::int16_t>(exact > largest_sum || exact < -largest_sum ? 0 : exact);
        }
        return sum;
    }
    static i32 widened(i16_sums p) { return p.at[0] + p.at[1] + p.at[2] + (active == fault::widened_drops_lanes ? 0 : p.at[3]); }

    static i32_halves zero_halves() { return {0, 0}; }
    static i32_halves add_two_steps(i32_halves sum, const codes (&w)[2], const quads (&a)[2]) {
        i16_sums p = products(w[0], a[0]);
        if (active != fault::second_step_dropped) p = add_products(p, w[1], a[active == fault::second_step_takes_first ? 0 : 1]);
        return {sum.low + p.at[0] + p.at[1], sum.high + p.at[2] + p.at[3]};
    }
    static i32 shift_left(i32 a, int count) { return scalar::ops::shift_left(a, count); }
    static i32_halves shift_left(i32_halves sum, int count) {
        return {shift_left(sum.low, count), active == fault::high_half_not_shifted ? sum.high : shift_left(sum.high, count)};
    }
    static i32 sum_of_halves(i32_halves sum) { return sum.low + (active == fault::high_half_dropped ? 0 : sum.high); }
};

}  // namespace faulty_neon

namespace faulty_dotprod {

enum class fault {
    none,
    start_forgotten,           // sums begin at 0, and are converted as if they did not
    conversion_forgets_start,  // the other way round
    start_kept,                // every sum begins at the float, whatever becomes of it
    half_of_panel_repeated,
    dot4_unsigned,         // centered codes taken for unsigned ones
    zero_kept,             // in values
    multiplier_forgotten,  // in values
    zero_of_neighbour,     // in values, also the multiplier
    steps_swapped,         // in values
    count
};
inline fault active = fault::none;

struct ops : scalar::ops {
    static constexpr block_size block{3, 1, 2};
    static constexpr block_size block_of_few_rows{2, 1, 2};
    static constexpr std::size_t row_blocks_worth_unpacking = 2;
    static constexpr bool unpacks_to_values = true;
    static constexpr block_size unpacked_block{2, 1, 2};
    static constexpr bool has_float_start = true;
    static constexpr bool has_group_kinds = true;
    template <int Bits>
    static constexpr int center = Bits == 8 ? 128 : 0;
    template <int Bits>
    static constexpr int unpacked_center = center<Bits>;

    static i32 start_sum(const std::int32_t* from) {
        return active == fault::start_forgotten ? 0 : active == fault::start_kept ? sum_starts[1][0] : *from;
    }
    static f32 float_of_started(i32 sum) {
        return active == fault::conversion_forgets_start ? to_float(sum)
                                                         : float_of(static_cast<std::uint32_t>(sum)) - float_start;
    }
    static codes load_codes(const std::uint8_t* p) {
        const auto second_half = reinterpret_cast<std::uintptr_t>(p) & 32U;
        return scalar::ops::load_codes(active == fault::half_of_panel_repeated ? p - second_half : p);
    }
    template <int Bits>
    static codes plane(codes c, int p) {
        if constexpr (Bits == 8) return faulty_neon::ops::sub_bytes(c, broadcast_byte(-128));
        else return scalar::ops::plane<Bits>(c, p);
    }
    static codes broadcast_byte(int v) { return faulty_neon::ops::broadcast_byte(v); }
    static codes spread_bytes(const std::uint8_t* p) {
        const bool is_odd = (reinterpret_cast<std::uintptr_t>(p) & 1U) != 0;  // the neighbour of a pair is of the same panel
        return broadcast_byte(active == fault::zero_of_neighbour ? *(is_odd ? p - 1 : p + 1) : *p);
    }
    static codes sub_bytes(codes a, codes b) { return active == fault::zero_kept ? a : faulty_neon::ops::sub_bytes(a, b); }
    static codes mul_bytes(codes a, codes b) {
        for (int i = 0; i < 4 && active != fault::multiplier_forgotten; ++i)
            a.at[i] = static_cast<std::uint8_t>(a.at[i] * b.at[i]);
        return a;
    }
    static void store_two_steps(std::uint8_t* out, int v, codes first, codes second) {
        if (active == fault::steps_swapped) std::swap(first, second);
        store_codes(out + 4 * v, first);
        store_codes(out + 64 + 4 * v, second);
    }
    static i32 add_dot4(i32 sum, codes w, quads a) {
        for (int i = 0; i < 4; ++i)
            sum = add(sum, (active == fault::dot4_unsigned ? w.at[i] : static_cast<std::int8_t>(w.at[i])) * a.at[i]);
        return sum;
    }

    // A fault may take a sum anywhere. Instructions wrap then; here that is said, since in C++ it is undefined.
    using scalar::ops::add;
    using scalar::ops::mul;
    using scalar::ops::sub;
    using u32 = std::uint32_t;
    static i32 add(i32 a, i32 b) { return static_cast<i32>(static_cast<u32>(a) + static_cast<u32>(b)); }
    static i32 sub(i32 a, i32 b) { return static_cast<i32>(static_cast<u32>(a) - static_cast<u32>(b)); }
    static i32 mul(i32 a, i32 b) { return static_cast<i32>(static_cast<u32>(a) * static_cast<u32>(b)); }
    static i32 shift_left(i32 a, int count) { return static_cast<i32>(static_cast<u32>(a) << count); }
    static i32 sub_product16(i32 s, narrow w, narrow a) { return sub(s, w * a); }
};

}  // namespace faulty_dotprod
}  // namespace aq

// Blocks of one lane have many registers, and none of them is one: unrolled, they would take a minute to compile.
#pragma push_macro("AQ_UNROLL")
#undef AQ_UNROLL
#define AQ_UNROLL

#define AQ_ISA faulty_neon
#include "agilequant/kernels/body/store.hpp"

#include "agilequant/kernels/body/scheme.hpp"

#include "agilequant/kernels/body/unpack.hpp"

#include "agilequant/kernels/body/micro_kernel.hpp"

#include "agilequant/kernels/body/gemm_results.hpp"

#include "agilequant/kernels/body/gemm_block.hpp"

#include "agilequant/kernels/body/gemm.hpp"

#include "agilequant/kernels/body/products.hpp"
#undef AQ_ISA

#define AQ_ISA faulty_dotprod
#include "agilequant/kernels/body/store.hpp"

#include "agilequant/kernels/body/scheme.hpp"

#include "agilequant/kernels/body/unpack.hpp"

#include "agilequant/kernels/body/micro_kernel.hpp"

#include "agilequant/kernels/body/gemm_results.hpp"

#include "agilequant/kernels/body/gemm_block.hpp"

#include "agilequant/kernels/body/gemm.hpp"

#include "agilequant/kernels/body/products.hpp"
#undef AQ_ISA

#pragma pop_macro("AQ_UNROLL")
