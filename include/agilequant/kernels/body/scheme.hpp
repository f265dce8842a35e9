// Schemes: how weights and activations are multiplied, and how long products add up before they are widened to 32 bits.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.
//
// A scheme adds `steps_at_once` steps of four products a row to a sum. A direct one adds to the 32-bit sums themselves, which begin at
// `start`; any other has partial sums, which begin with a product, and says after how many steps they have to be widened.

namespace aq {
namespace AQ_ISA {

/// How codes are read: `Bits` wide, as they are stored in a packed matrix ...
template <int Bits>
struct packed_codes {
    static constexpr bool is_packed = true, is_value = false, has_starts = false;
    static constexpr int bits = Bits, stored = Bits;
    static constexpr int center = ops::template center<Bits>;  ///< what they are multiplied as is code - center
    static constexpr int magnitude = largest_distance(weight_codes(Bits), center);
    static AQ_INLINE ops::codes plane(ops::codes raw, int p) { return ops::template plane<Bits>(raw, p); }
};
/// ... or as bytes that were unpacked before ...
template <int Bits>
struct unpacked_codes {
    static constexpr bool is_packed = false, is_value = false, has_starts = false;
    static constexpr int bits = Bits, stored = 8;
    static constexpr int center = ops::template unpacked_center<Bits>;
    static constexpr int magnitude = largest_distance(weight_codes(Bits), center);
    static AQ_INLINE ops::codes plane(ops::codes raw, int) { return raw; }
    /// Packed codes as they are unpacked.
    template <class Ops = ops>
    static AQ_INLINE ops::codes of(ops::codes plane) {
        constexpr int difference = center - packed_codes<Bits>::center;
        if constexpr (difference == 0) return plane;
        else return Ops::sub_bytes(plane, Ops::broadcast_byte(difference));
    }
};

/// ... or as signed bytes m (code - zero), m being the integer scale of the group where there are such: nothing is left to be done for
/// zero points, and with integer scales the whole depth is one sum.
struct unpacked_values {
    static constexpr bool is_packed = false, is_value = true, has_starts = false;
    static constexpr int bits = 8, stored = 8;
    static constexpr int center = 0;
    static constexpr int magnitude = largest_scaled_code;
    static AQ_INLINE ops::codes plane(ops::codes raw, int) { return raw; }
};
/// Makes ready what a block of rows wants beside its codes, once for all panels: 16 bytes a row and k_step. Most want nothing.
template <class Codes>
struct row_preparer {
    static constexpr bool is_needed = false;
};
/// Packed codes with the preparation that pays for them, if there is one: see lane_starts.hpp.
template <int WeightBits, int ActivationBits>
struct preparation_choice {
    using type = packed_codes<WeightBits>;
};
template <int WeightBits, int ActivationBits>
using with_preparation = typename preparation_choice<WeightBits, ActivationBits>::type;

/// What a panel is unpacked to.
template <int Bits>
using unpacked = std::conditional_t<ops::unpacks_to_values, unpacked_values, unpacked_codes<Bits>>;

/// Sums of 32 bits, a lane for every row of weights.
struct i32_sums {
    using sums = ops::i32;
    static AQ_INLINE sums start(const std::int32_t* from) { return ops::start_sum(from); }
    static AQ_INLINE sums shift_left(sums sum, int count) { return ops::shift_left(sum, count); }
    static AQ_INLINE ops::i32 total(sums sum) { return sum; }
};

/// Four products a lane, straight into 32 bits: what dot-product instructions do.
template <class Ops>
struct dot4_scheme : i32_sums {
    static constexpr bool is_direct = true;
    static constexpr int steps_at_once = 1;

    static AQ_INLINE sums step(sums sum, const ops::codes (&w)[1], const ops::quads (&a)[1]) {
        return Ops::add_dot4(sum, w[0], a[0]);
    }
};

/// Products of 16 bits, added up in 16 bits for as many steps as the widths allow, then widened.
template <class Codes, int ActivationBits, class Ops>
struct widening_scheme : i32_sums {
    static constexpr bool is_direct = false;
    static constexpr int steps_at_once = 1;
    using partial = typename Ops::i16_sums;
    static constexpr std::size_t max_steps =
        static_cast<std::size_t>(Ops::template steps_in_16_bits<Codes::magnitude, ActivationBits>);

    static AQ_INLINE partial first_step(const ops::codes (&w)[1], const ops::quads (&a)[1]) { return Ops::products(w[0], a[0]); }
    static AQ_INLINE partial step(partial sum, const ops::codes (&w)[1], const ops::quads (&a)[1]) {
        return Ops::add_products(sum, w[0], a[0]);
    }
    static AQ_INLINE sums widened(partial p) { return Ops::widened(p); }
    static AQ_INLINE sums add(sums sum, sums more) { return ops::add(sum, more); }
};

/// Two steps of four products in 16 bits, widened to halves of the 32-bit sums.
template <class Ops>
struct two_step_scheme {
    static constexpr bool is_direct = true;
    static constexpr int steps_at_once = 2;
    using sums = typename Ops::i32_halves;

    static AQ_INLINE sums start(const std::int32_t*) { return Ops::zero_halves(); }
    static AQ_INLINE sums step(sums sum, const ops::codes (&w)[2], const ops::quads (&a)[2]) {
        return Ops::add_two_steps(sum, w, a);
    }
    static AQ_INLINE sums shift_left(sums sum, int count) { return Ops::shift_left(sum, count); }
    static AQ_INLINE ops::i32 total(sums sum) { return Ops::sum_of_halves(sum); }
};

/// The scheme of two kinds of codes: 16-bit sums where the instruction set is made for them and the widths leave room for a k_step.
template <class Codes, int ActivationBits, class Ops = ops>
constexpr auto choose_scheme() {
    constexpr int least_steps = static_cast<int>(k_step) / gemm_tile::kr;
    if constexpr (Ops::template steps_in_16_bits<Codes::magnitude, ActivationBits> >= least_steps)
        return widening_scheme<Codes, ActivationBits, Ops>{};
    else if constexpr (Ops::has_two_steps) return two_step_scheme<Ops>{};
    else return dot4_scheme<Ops>{};
}
template <class Codes, int ActivationBits>
struct scheme_choice {
    using type = decltype(choose_scheme<Codes, ActivationBits>());
};
template <class Codes, int ActivationBits>
using scheme_of = typename scheme_choice<Codes, ActivationBits>::type;

}  // namespace AQ_ISA
}  // namespace aq
