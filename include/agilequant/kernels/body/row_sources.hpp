// Rows that are computed: norms, activations and gates, with the bits of elementwise/.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.
//
// Such a row is a struct whose at<Ops>(i) gives its numbers from i on, as many as Ops has lanes: with the instruction set's operations,
// and with scalar's for the few behind the last whole register. Nothing outside the row is read.

namespace aq {
namespace AQ_ISA {

/// x[i]; what a mean is the sum of.
struct plain_row {
    const float* x;
    template <class Ops>
    AQ_INLINE typename Ops::f32 at(std::size_t i) const {
        return Ops::load_f32(x + i);
    }
};

struct squared_row {
    const float* x;
    template <class Ops>
    AQ_INLINE typename Ops::f32 at(std::size_t i) const {
        const typename Ops::f32 v = Ops::load_f32(x + i);
        return Ops::mul(v, v);
    }
};

/// (x - centre)^2
struct deviation_row {
    const float* x;
    float centre;
    template <class Ops>
    AQ_INLINE typename Ops::f32 at(std::size_t i) const {
        const typename Ops::f32 d = Ops::sub(Ops::load_f32(x + i), Ops::broadcast_f32(centre));
        return Ops::mul(d, d);
    }
};

struct rms_normed_row {
    const float *x, *gain;
    float inverse;
    template <class Ops>
    AQ_INLINE typename Ops::f32 at(std::size_t i) const {
        return Ops::mul(Ops::mul(Ops::load_f32(x + i), Ops::broadcast_f32(inverse)), Ops::load_f32(gain + i));
    }
};

struct layer_normed_row {
    const float *x, *gain, *bias;
    float mean, inverse;
    template <class Ops>
    AQ_INLINE typename Ops::f32 at(std::size_t i) const {
        const typename Ops::f32 d = Ops::sub(Ops::load_f32(x + i), Ops::broadcast_f32(mean));
        return Ops::add(Ops::mul(Ops::mul(d, Ops::broadcast_f32(inverse)), Ops::load_f32(gain + i)), Ops::load_f32(bias + i));
    }
};

template <class Ops>
AQ_INLINE typename Ops::f32 all_lanes(float v) {
    return Ops::broadcast_f32(v);
}

/// lanes::exp between exp_constants::lowest and highest; anything elsewhere.
template <class Ops>
AQ_INLINE typename Ops::f32 exp_within(typename Ops::f32 x) {
    using c = lanes::exp_constants;
    const typename Ops::f32 n_bits = Ops::add(Ops::mul(x, all_lanes<Ops>(c::log2e)), all_lanes<Ops>(c::magic));
    const typename Ops::f32 n = Ops::sub(n_bits, all_lanes<Ops>(c::magic));
    const typename Ops::f32 r =
        Ops::sub(Ops::sub(x, Ops::mul(n, all_lanes<Ops>(c::ln2_high))), Ops::mul(n, all_lanes<Ops>(c::ln2_low)));
    typename Ops::f32 p = Ops::add(Ops::mul(all_lanes<Ops>(c::p4), r), all_lanes<Ops>(c::p3));
    p = Ops::add(Ops::mul(p, r), all_lanes<Ops>(c::p2));
    p = Ops::add(Ops::mul(p, r), all_lanes<Ops>(c::p1));
    p = Ops::add(Ops::mul(p, r), all_lanes<Ops>(c::p0));
    p = Ops::add(Ops::mul(Ops::mul(r, r), p), r);
    return Ops::add_to_exponent(Ops::add(p, all_lanes<Ops>(1.0F)), n_bits);
}

/// lanes::times_sigmoid, whose selections are three here. From -lowest on 1 + e^-t is 1, whatever is below e^lowest; a NaN in t, which
/// goes with the bound there, is one in x and comes back as the numerator; and where e^-t is infinite the result is 0, also for x =
/// -infinity.
template <class Ops>
AQ_INLINE typename Ops::f32 times_sigmoid(typename Ops::f32 x, typename Ops::f32 t) {
    using c = lanes::exp_constants;
    const typename Ops::f32 minus_t = Ops::sub(all_lanes<Ops>(0.0F), t);
    const typename Ops::f32 e = exp_within<Ops>(Ops::greater(minus_t, all_lanes<Ops>(c::lowest)));
    const typename Ops::f32 y = Ops::divide(x, Ops::add(all_lanes<Ops>(1.0F), e));
    return Ops::cleared_where_above(y, minus_t, all_lanes<Ops>(c::highest));
}

struct gated_row {
    const float *gate, *up;
    template <class Ops>
    AQ_INLINE typename Ops::f32 at(std::size_t i) const {
        const typename Ops::f32 x = Ops::load_f32(gate + i);
        return Ops::mul(times_sigmoid<Ops>(x, x), Ops::load_f32(up + i));
    }
};

/// aq::relu: of 0 and NaN, and of 0 and -0, the second.
struct rectified_row {
    const float* x;
    template <class Ops>
    AQ_INLINE typename Ops::f32 at(std::size_t i) const {
        return Ops::greater(all_lanes<Ops>(0.0F), Ops::load_f32(x + i));
    }
};

/// lanes::gelu
struct gelu_row {
    const float* x;
    template <class Ops>
    AQ_INLINE typename Ops::f32 at(std::size_t i) const {
        using c = lanes::gelu_constants;
        const typename Ops::f32 v = Ops::load_f32(x + i);
        const typename Ops::f32 slope = Ops::add(Ops::mul(Ops::mul(v, v), all_lanes<Ops>(c::cubic)), all_lanes<Ops>(c::linear));
        return times_sigmoid<Ops>(v, Ops::mul(v, slope));
    }
};

/// lanes::sum of a row: element i goes to sum i mod 16, then sum l takes l + 8, l + 4, l + 2, l + 1.
template <class Ops, class Row>
float sum_of_row(const Row& row, std::size_t count) {
    constexpr std::size_t sums = 16;
    constexpr int registers = static_cast<int>(sums) / Ops::lanes;
    typename Ops::f32 wide[registers];
    AQ_UNROLL for (typename Ops::f32& sum : wide) sum = Ops::broadcast_f32(0.0F);
    const std::size_t whole = count - count % sums;
    for (std::size_t i = 0; i < whole; i += sums) {
        AQ_UNROLL for (int r = 0; r < registers; ++r) wide[r] =
            Ops::add(wide[r], row.template at<Ops>(i + static_cast<std::size_t>(r * Ops::lanes)));
    }
    float sum[sums];
    AQ_UNROLL for (int r = 0; r < registers; ++r) Ops::store_f32(sum + r * Ops::lanes, wide[r]);
    for (std::size_t l = 0; l < count - whole; ++l) sum[l] += row.template at<scalar::ops>(whole + l);
    for (std::size_t half = sums / 2; half > 0; half /= 2)
        for (std::size_t l = 0; l < half; ++l) sum[l] += sum[l + half];
    return sum[0];
}

/// y[i] = row at i; y may be where the row comes from.
template <class Ops, class Row>
void write_row(const Row& row, std::size_t count, float* y) {
    constexpr std::size_t lanes = static_cast<std::size_t>(Ops::lanes);
    const std::size_t whole = count - count % lanes;
    for (std::size_t i = 0; i < whole; i += lanes) Ops::store_f32(y + i, row.template at<Ops>(i));
    for (std::size_t i = whole; i < count; ++i) y[i] = row.template at<scalar::ops>(i);
}

/// Row r of a source. Plain ones too, though whoever can reads them where they are.
template <class Ops = ops>
void write_source_row(const row_source& s, std::size_t r, float* y) {
    const float* const x = s.x.row(r);
    const std::size_t k = s.x.cols;
    const float depth = static_cast<float>(k);
    switch (s.stage) {
        case row_stage::none: return write_row<Ops>(plain_row{x}, k, y);
        case row_stage::rms_norm: {
            const float mean_of_squares = sum_of_row<Ops>(squared_row{x}, k) / depth;
            return write_row<Ops>(rms_normed_row{x, s.gain, 1.0F / std::sqrt(mean_of_squares + s.eps)}, k, y);
        }
        case row_stage::layer_norm: {
            const float mean = sum_of_row<Ops>(plain_row{x}, k) / depth;
            const float variance = sum_of_row<Ops>(deviation_row{x, mean}, k) / depth;
            return write_row<Ops>(layer_normed_row{x, s.gain, s.bias, mean, 1.0F / std::sqrt(variance + s.eps)}, k, y);
        }
        case row_stage::silu_gate: return write_row<Ops>(gated_row{s.gate.row(r), x}, k, y);
        case row_stage::relu: return write_row<Ops>(rectified_row{x}, k, y);
        case row_stage::gelu: return write_row<Ops>(gelu_row{x}, k, y);
    }
}

/// The kernel of the table.
inline void write_rows(const row_source& source, index_range rows, const matrix_view<float>& y) {
    for (std::size_t r = rows.begin; r < rows.end; ++r) write_source_row(source, r, y.row(r));
}

}  // namespace AQ_ISA
}  // namespace aq
