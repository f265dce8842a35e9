// Schemes: how weights and activations are multiplied, and how long products add up before they are widened to 32 bits.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.
//
// A scheme has a partial sum, made of steps of four products a row. A direct one adds to the 32-bit sums themselves; any other says
// after how many steps its partial sums have to be widened.

namespace aq {
namespace AQ_ISA {

/// Four products a lane, straight into 32 bits: what dot-product instructions do.
struct dot4_scheme {
    static constexpr bool is_direct = true;
    using partial = ops::i32;

    static AQ_INLINE partial step(partial sum, ops::codes w, ops::quads a) { return ops::add_dot4(sum, w, a); }
};

/// Two products a 16-bit lane, added up in 16 bits for as many steps as the widths allow, then widened.
template <int WeightBits, int ActivationBits, class Ops>
struct widening_scheme {
    static constexpr bool is_direct = false;
    using partial = typename Ops::i16_pairs;
    static constexpr std::size_t max_steps = static_cast<std::size_t>(pair_sums_in_16_bits(WeightBits, ActivationBits));

    static AQ_INLINE partial zero() { return Ops::zero_pairs(); }
    static AQ_INLINE partial step(partial sum, ops::codes w, ops::quads a) {
        return Ops::add_pairs(sum, Ops::multiply_pairs(w, a));
    }
    static AQ_INLINE ops::i32 widened(ops::i32 sum, partial p) { return Ops::add(sum, Ops::widen(p)); }
};

/// The scheme of two widths: 16-bit sums where the instruction set is made for them and the widths leave room, else dot4.
template <int WeightBits, int ActivationBits,
          bool HasPairs = ops::has_pairs && (pair_sums_in_16_bits(WeightBits, ActivationBits) >= 4)>
struct scheme_of {
    using type = dot4_scheme;
};
template <int WeightBits, int ActivationBits>
struct scheme_of<WeightBits, ActivationBits, true> {
    using type = widening_scheme<WeightBits, ActivationBits, ops>;
};

}  // namespace AQ_ISA
}  // namespace aq
