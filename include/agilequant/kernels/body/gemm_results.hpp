// The results of a block of an integer product, and how a group's integers become part of them.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.

namespace aq {
namespace AQ_ISA {

/// Which rows and panels a block covers. At the edge the last row or panel stands in for those that are missing, so that
/// every block has one size; only what is there is stored.
template <int Rows, int Panels, int Parts>
struct block_place {
    using column_block = block_columns<Rows, Panels, Parts>;

    std::size_t row, rows;       ///< of y; 1 <= rows <= Rows
    std::size_t panel, panels;   ///< 1 <= panels <= Panels
    std::size_t apart = 1;       ///< from one panel to the next
    std::size_t first_lane = 0;  ///< of the panel, where the block is a part of it

    [[nodiscard]] AQ_INLINE std::size_t row_of(int r) const { return row + at_most(static_cast<std::size_t>(r), rows - 1); }
    [[nodiscard]] AQ_INLINE std::size_t panel_of(int p) const {
        return panel + at_most(static_cast<std::size_t>(p), panels - 1) * apart;
    }
    /// The panel and the lane in it that register v of a row begins with.
    [[nodiscard]] AQ_INLINE std::size_t panel_of_register(int v) const { return panel_of(v / column_block::of_panel); }
    [[nodiscard]] AQ_INLINE std::size_t lane_of_register(int v) const {
        return first_lane + static_cast<std::size_t>(v % column_block::of_panel * ops::lanes);
    }

private:
    static AQ_INLINE std::size_t at_most(std::size_t i, std::size_t last) { return i < last ? i : last; }
};

/// The sum of a row's activation codes over a group, that zero points are multiplied with.
struct code_sum {
    ops::i32 value;
    static AQ_INLINE ops::i32 zeros(const std::uint8_t* from, int center) {
        const ops::i32 v = ops::load_u8_as_i32(from);
        return center == 0 ? v : ops::sub(v, ops::broadcast_i32(center));
    }
    AQ_INLINE void set(std::int32_t sum) { value = ops::broadcast_i32(sum); }
    [[nodiscard]] AQ_INLINE ops::i32 taken_from(ops::i32 s, ops::i32 zero) const { return ops::sub(s, ops::mul(zero, value)); }
};
/// The same where it fits 16 bits, which multiply faster.
struct short_code_sum {
    ops::narrow value;
    static AQ_INLINE ops::narrow zeros(const std::uint8_t* from, int center) {
        const ops::narrow v = ops::load_u8_as_narrow(from);
        return center == 0 ? v : ops::sub_narrow(v, ops::broadcast_narrow(center));
    }
    AQ_INLINE void set(std::int32_t sum) { value = ops::broadcast_narrow(sum); }
    [[nodiscard]] AQ_INLINE ops::i32 taken_from(ops::i32 s, ops::narrow zero) const { return ops::sub_product16(s, zero, value); }
};

/// Nothing to take away, where zero points are in the values already.
struct no_code_sum {
    static AQ_INLINE int zeros(const std::uint8_t*, int) { return 0; }
    AQ_INLINE void set(std::int32_t) {}
    [[nodiscard]] AQ_INLINE ops::i32 taken_from(ops::i32 s, int) const { return s; }
};

/// What becomes of a group's integers, as a block is compiled for: scaled in float, or multiplied by an integer, where sums of activation
/// codes fit 16 bits; or any of these, decided at the end of each group. Where that costs much, the common width is compiled for each.
enum class group_kind { scaled, multiplied, any };

/// Channels whose activation codes add up to 16 bits for certain.
inline constexpr std::uint64_t short_depth = 32767 / activation_magnitude(8);

/// Whether sums may begin at float_start.
inline bool can_start_at_float(const packed_weights& w, int activation_bits) {
    const int largest = weight_codes(w.bits).high * activation_magnitude(activation_bits);
    return !w.layout.has_exponents() && w.layout.depth * static_cast<std::uint64_t>(largest) < largest_started_sum;
}

inline group_kind kind_of(const packed_weights& w, int activation_bits) {
    if (w.layout.depth > short_depth) return group_kind::any;
    if (w.multipliers != nullptr) return group_kind::multiplied;
    return !ops::has_float_start || can_start_at_float(w, activation_bits) ? group_kind::scaled : group_kind::any;
}

/// The results of a block, and the step from a group's integers to them.
template <group_kind Kind, class Scheme, class Codes, int Rows, int Panels, int Parts>
struct block_results {
    static constexpr int columns = block_columns<Rows, Panels, Parts>::registers;
    using place_type = block_place<Rows, Panels, Parts>;
    using sums_type = block_sums<Scheme, Rows, columns>;
    ops::f32 scaled[Rows][columns];
    ops::i32 totals[Rows][columns];  ///< with multipliers

    AQ_INLINE void clear() {
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            AQ_UNROLL for (int v = 0; v < columns; ++v) scaled[r][v] = ops::broadcast_f32(0.0F);
        }
        if constexpr (Kind == group_kind::scaled) return;
        AQ_UNROLL for (int r = 0; r < Rows; ++r) { AQ_UNROLL for (int v = 0; v < columns; ++v) totals[r][v] = ops::zero_i32(); }
    }

    /// Where the sums of this kind begin.
    static constexpr const std::int32_t* start() {
        return sum_starts[ops::has_float_start && Kind == group_kind::scaled ? 1 : 0];
    }

    AQ_INLINE void add_group(const gemm_job& job, const place_type& place, std::size_t group, const sums_type& sums,
                             const std::uint8_t* symmetric_zeros) {
        if constexpr (Codes::is_value) add<no_code_sum, false>(job, place, group, sums, symmetric_zeros);
        else if constexpr (Kind == group_kind::scaled) add<short_code_sum, false>(job, place, group, sums, symmetric_zeros);
        else if constexpr (Kind == group_kind::multiplied) add<short_code_sum, true>(job, place, group, sums, symmetric_zeros);
        else if constexpr (!ops::chooses_short_sums) add_chosen(job, place, group, sums, symmetric_zeros);
        else if (job.weights.layout.depth <= short_depth) add_any<short_code_sum>(job, place, group, sums, symmetric_zeros);
        else add_any<code_sum>(job, place, group, sums, symmetric_zeros);
    }

    /// With multipliers in the values, the sum of the whole depth.
    AQ_INLINE void take_total(const sums_type& sums) {
        AQ_UNROLL for (int r = 0; r < Rows; ++r) { AQ_UNROLL for (int v = 0; v < columns; ++v) totals[r][v] = sums.total(r, v); }
    }

    AQ_INLINE void finish(const gemm_job& job, const place_type& place, float* values) {
        const packed_weights& w = job.weights;
        AQ_UNROLL for (int v = 0; v < columns; ++v) {
            const std::size_t lane = place.panel_of_register(v) * gemm_tile::nr + place.lane_of_register(v);
            const ops::f32 offset = ops::load_f32(w.offsets + lane);
            if (Kind != group_kind::scaled && w.multipliers != nullptr) {
                const ops::f32 scale = ops::load_f32(w.scales + lane);
                AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                    scaled[r][v] = ops::add(scaled[r][v], ops::mul(scale, ops::to_float(totals[r][v])));
                }
            }
            AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                const std::size_t m = place.row_of(r);
                const ops::f32 zero = ops::broadcast_f32(static_cast<float>(job.activations.zeros[m]));
                const ops::f32 value = ops::sub(scaled[r][v], ops::mul(zero, offset));
                ops::store_f32(values + (r * columns + v) * ops::lanes,
                               ops::mul(value, ops::broadcast_f32(job.activations.scales[m])));
            }
        }
    }

private:
    template <class CodeSum, bool IsMultiplied>
    AQ_INLINE void add(const gemm_job& job, const place_type& place, std::size_t group, const sums_type& sums,
                       const std::uint8_t* symmetric_zeros) {
        add_columns<CodeSum>(job, place, group, sums, symmetric_zeros, std::bool_constant<IsMultiplied>{});
    }
    AQ_INLINE void add_chosen(const gemm_job& job, const place_type& place, std::size_t group, const sums_type& sums,
                              const std::uint8_t* symmetric_zeros) {
        if (job.weights.multipliers == nullptr) add<code_sum, false>(job, place, group, sums, symmetric_zeros);
        else add<code_sum, true>(job, place, group, sums, symmetric_zeros);
    }
    template <class CodeSum>
    AQ_INLINE void add_any(const gemm_job& job, const place_type& place, std::size_t group, const sums_type& sums,
                           const std::uint8_t* symmetric_zeros) {
        add_columns<CodeSum>(job, place, group, sums, symmetric_zeros, job.weights.multipliers != nullptr);
    }

    /// `is_multiplied` is a bool or, where it is known, its type.
    template <class CodeSum, class Bool>
    AQ_INLINE void add_columns(const gemm_job& job, const place_type& place, std::size_t group, const sums_type& sums,
                               const std::uint8_t* symmetric_zeros, Bool is_multiplied) {
        const packed_weights& w = job.weights;
        CodeSum code_sums[Rows];
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            code_sums[r].set(job.activations.sums[place.row_of(r) * w.layout.groups + group]);
        }
        AQ_UNROLL for (int v = 0; v < columns; ++v) {
            const std::size_t in_panel = place.lane_of_register(v);
            const std::size_t panel = (place.panel_of_register(v) * w.layout.groups + group) * gemm_tile::nr,
                              lane = panel + in_panel;
            const std::uint8_t* const zeros = w.zeros == nullptr ? symmetric_zeros : w.zeros + panel;
            const auto zero = CodeSum::zeros(zeros + in_panel, Codes::center);
            const auto exact = [&](int r) { return code_sums[r].taken_from(sums.total(r, v), zero); };
            if (is_multiplied) {
                const ops::i32 multiplier = ops::load_u8_as_i32(w.multipliers + lane);
                AQ_UNROLL for (int r = 0; r < Rows; ++r) totals[r][v] = ops::add(totals[r][v], ops::mul(multiplier, exact(r)));
            } else {
                const ops::f32 scale = ops::load_f32(w.scales + lane);
                AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                    scaled[r][v] = ops::add(scaled[r][v], ops::mul(scale, converted(exact(r))));
                }
            }
        }
    }
    template <class Ops = ops>
    static AQ_INLINE ops::f32 converted(ops::i32 exact) {
        if constexpr (Ops::has_float_start && Kind == group_kind::scaled) return Ops::float_of_started(exact);
        else return ops::to_float(exact);
    }
};

}  // namespace AQ_ISA
}  // namespace aq
