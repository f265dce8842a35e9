// Integer GEMM over packed weights: y[m,n] = epilogue(scale_a (scaled sum over groups of (sum w a - zero_w sum a) - zero_a offset)).
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.
//
// A block of rows by a block of panels is kept in registers while the depth is walked run by run. A group's sum is an exact
// integer. With float scales, scaled sums are added in float in the order of groups, product rounded first; with integer
// multipliers the total is an exact integer too. So neither the size of a block nor the width of a register can be seen in the result.
//
// For many rows a block of panels is unpacked to bytes once, into scratch, and the loops read that.

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
/// codes fit 16 bits; or any of these, decided at the end of each group, which then has to be a long one not to be slow.
enum class group_kind { scaled, multiplied, any };

/// Whether sums may begin at float_start.
inline bool can_start_at_float(const packed_weights& w, int activation_bits) {
    const int largest = weight_codes(w.bits).high * activation_magnitude(activation_bits);
    return !w.layout.has_exponents() && w.layout.depth * static_cast<std::uint64_t>(largest) < largest_started_sum;
}

inline group_kind kind_of(const packed_weights& w, int activation_bits) {
    constexpr std::uint64_t most = 32767 / activation_magnitude(8);  // channels whose codes add up to 16 bits for certain
    if (w.layout.depth > most) return group_kind::any;
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
        else if (job.weights.multipliers == nullptr) add<code_sum, false>(job, place, group, sums, symmetric_zeros);
        else add<code_sum, true>(job, place, group, sums, symmetric_zeros);
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
        const packed_weights& w = job.weights;
        CodeSum code_sums[Rows];
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            code_sums[r].set(job.activations.sums[place.row_of(r) * w.layout.groups + group]);
        }
        const std::uint8_t* const zeros = w.zeros == nullptr ? symmetric_zeros : w.zeros;
        AQ_UNROLL for (int v = 0; v < columns; ++v) {
            const std::size_t in_panel = place.lane_of_register(v);
            const std::size_t lane = (place.panel_of_register(v) * w.layout.groups + group) * gemm_tile::nr + in_panel;
            const auto zero = CodeSum::zeros(zeros + (w.zeros == nullptr ? in_panel : lane), Codes::center);
            const auto exact = [&](int r) { return code_sums[r].taken_from(sums.total(r, v), zero); };
            if constexpr (IsMultiplied) {
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

/// Walks the depth, run by run: sums, and group by group their way into results.
template <group_kind Kind, class Scheme, class Codes, int Rows, int Panels, int Parts>
struct depth_walk {
    using kernel = micro_kernel<Scheme, Codes, Rows, Panels, Parts>;
    using results_type = block_results<Kind, Scheme, Codes, Rows, Panels, Parts>;
    using place_type = block_place<Rows, Panels, Parts>;

    /// Every group is a sum of its own.
    static AQ_INLINE void groups(const gemm_job& job, const place_type& place, const block_inputs<Rows, Panels>& in,
                                 results_type& results) {
        std::uint8_t symmetric_zeros[gemm_tile::nr];
        std::memset(symmetric_zeros, job.weights.symmetric_zero(), sizeof symmetric_zeros);
        typename kernel::sums_type sums;
        const k_run* run = job.weights.layout.runs;
        for (std::size_t group = 0; group < job.weights.layout.groups; ++group) {
            sums.restart(results_type::start());
            for (;; ++run) {
                kernel::run(in, run->begin, run->end, sums);
                if (run->shift != 0) sums.shift_left(run->shift);
                if (run->ends_group) break;
            }
            ++run;
            results.add_group(job, place, group, sums, symmetric_zeros);
        }
    }

    /// The whole depth is one sum. Exponents fall along all of it, so that it is a Horner sum too, and runs of one exponent are one run.
    static AQ_INLINE void total(const k_layout_view& layout, const block_inputs<Rows, Panels>& in, results_type& results) {
        typename kernel::sums_type sums;
        sums.restart(sum_starts[0]);
        for (std::size_t i = 0; i < layout.run_count;) {
            const k_run first = layout.runs[i];
            while (++i < layout.run_count && layout.runs[i].exponent == first.exponent) {
            }
            kernel::run(in, first.begin, layout.runs[i - 1].end, sums);
            const int shift = first.exponent - (i < layout.run_count ? layout.runs[i].exponent : 0);
            if (shift != 0) sums.shift_left(shift);
        }
        results.take_total(sums);
    }
};

/// One block of y. `unpacked` holds the block's panels in bytes where Codes are such.
template <group_kind Kind, class Scheme, class Codes, int Rows, int Panels, int Parts>
void gemm_block(const gemm_job& job, const block_place<Rows, Panels, Parts>& place, const std::uint8_t* unpacked) {
    using column_block = block_columns<Rows, Panels, Parts>;
    using walk = depth_walk<Kind, Scheme, Codes, Rows, Panels, Parts>;
    const packed_weights& w = job.weights;
    block_inputs<Rows, Panels> in;
    AQ_UNROLL for (int r = 0; r < Rows; ++r) in.a[r] = job.activations.codes + place.row_of(r) * job.activations.stride;
    AQ_UNROLL for (int p = 0; p < Panels; ++p) {
        const std::size_t panel = place.panel_of(p);
        const std::uint8_t* const codes = Codes::is_packed ? w.codes + panel * w.panel_bytes()
                                                           : unpacked + (panel - place.panel) * w.layout.packed * gemm_tile::nr;
        in.w[p] = codes + place.first_lane * gemm_tile::kr;
    }
    if constexpr (Rows > 1)
        fetch_block(job.y, place.row, place.rows, place.panel * gemm_tile::nr + place.first_lane, column_block::lanes);
    typename walk::results_type results;
    results.clear();
    if constexpr (Codes::is_value && Kind != group_kind::scaled) {
        if (w.multipliers != nullptr) walk::total(w.layout, in, results);  // multipliers are in the values
        else walk::groups(job, place, in, results);
    } else {
        walk::groups(job, place, in, results);
    }
    float values[static_cast<std::size_t>(Rows) * column_block::lanes];
    results.finish(job, place, values);
    const std::size_t blocks = place.apart == 1 ? 1 : place.panels, width = place.panels / blocks * (gemm_tile::nr / Parts);
    for (std::size_t b = 0; b < blocks; ++b) {
        const std::size_t col = (place.panel + b * place.apart) * gemm_tile::nr + place.first_lane;
        if (Parts > 1 && col >= w.n) return;
        const std::size_t left = w.n - col;
        store_block({values + b * width, column_block::lanes, place.row, place.rows, col, left < width ? left : width},
                    job.epilogue, job.y);
    }
}

/// The same, compiled for the kind of its groups.
template <class Scheme, class Codes, int Rows, int Panels, int Parts>
void gemm_block(const gemm_job& job, const block_place<Rows, Panels, Parts>& place, const std::uint8_t* unpacked) {
    const group_kind kind = kind_of(job.weights, job.activations.bits);
    if (kind == group_kind::scaled) gemm_block<group_kind::scaled, Scheme, Codes>(job, place, unpacked);
    else if (kind == group_kind::multiplied) gemm_block<group_kind::multiplied, Scheme, Codes>(job, place, unpacked);
    else gemm_block<group_kind::any, Scheme, Codes>(job, place, unpacked);
}

/// All of `rows` by one block of panels.
template <class Scheme, class Codes, int Rows, int Panels, int Parts>
void gemm_rows(const gemm_job& job, index_range rows, index_range panels, const std::uint8_t* unpacked) {
    constexpr int few = ops::block_of_few_rows.rows;
    for (std::size_t row = rows.begin; row < rows.end; row += Rows) {
        const std::size_t left = rows.end - row, count = left < Rows ? left : Rows;
        if constexpr (Codes::is_packed && few > 0 && few < Rows) {
            constexpr block_size block = ops::block_of_few_rows;
            if (count <= few)
                return gemm_rows<Scheme, Codes, few, block.panels, block.parts>(job, {row, rows.end}, panels, unpacked);
        }
        for (std::size_t lane = 0; lane < gemm_tile::nr; lane += gemm_tile::nr / Parts) {
            gemm_block<Scheme, Codes, Rows, Panels, Parts>(job, {row, count, panels.begin, panels.size(), 1, lane}, unpacked);
        }
    }
}

/// One row by all of `panels`: as many streams as a block has panels, each through a share of the panels that is contiguous in memory,
/// so that a stream does not end with its panel.
template <class Scheme, class Codes, int Streams>
void gemm_one_row(const gemm_job& job, std::size_t row, index_range panels) {
    const std::size_t share = (panels.size() + Streams - 1) / Streams;
    for (std::size_t i = 0; i < share; ++i) {
        const std::size_t panel = panels.begin + i, streams = (panels.end - panel + share - 1) / share;
        gemm_block<Scheme, Codes, 1, Streams, 1>(job, {row, 1, panel, streams, share}, nullptr);
    }
}

/// Whether unpacking a panel once ever pays for codes of this width, and from how many rows on.
template <int Stored>
inline constexpr bool may_unpack = Stored != 8 && ops::row_blocks_worth_unpacking != 0;
inline constexpr std::size_t rows_worth_unpacking = static_cast<std::size_t>(ops::block.rows) * ops::row_blocks_worth_unpacking;

/// All of `rows` by one block of panels that is unpacked to scratch before.
template <int Stored, int ActivationBits>
void gemm_unpacked(const gemm_job& job, index_range rows, index_range panels, std::byte* scratch) {
    using codes = unpacked<Stored>;
    constexpr block_size block = ops::unpacked_block.rows != 0 ? ops::unpacked_block : ops::block;
    auto* const bytes = reinterpret_cast<std::uint8_t*>(scratch);
    for (std::size_t p = 0; p < panels.size(); ++p) {
        std::uint8_t* const out = bytes + p * job.weights.layout.packed * gemm_tile::nr;
        if constexpr (codes::is_value) unpack_values<Stored>(job.weights, panels.begin + p, out);
        else unpack_codes<Stored>(job.weights, panels.begin + p, out);
    }
    gemm_rows<scheme_of<codes, ActivationBits>, codes, block.rows, block.panels, block.parts>(job, rows, panels, bytes);
}

/// The kernel of the table: blocks of panels, for each of them all rows. One row has a block of its own, of more panels.
template <int WeightBits, int ActivationBits>
void gemm(const gemm_job& job, index_range rows, index_range panels, std::byte* scratch) {
    using codes = packed_codes<WeightBits>;
    using scheme = scheme_of<codes, ActivationBits>;
    constexpr block_size block = ops::block;
    constexpr std::size_t wide = block.panels;
    if (rows.size() == 1) return gemm_one_row<scheme, codes, ops::block_of_one_row.panels>(job, rows.begin, panels);
    for (std::size_t panel = panels.begin; panel < panels.end; panel += wide) {
        const index_range some{panel, panels.end - panel < wide ? panels.end : panel + wide};
        if constexpr (may_unpack<WeightBits>) {
            if (scratch != nullptr && rows.size() >= rows_worth_unpacking) {
                gemm_unpacked<WeightBits, ActivationBits>(job, rows, some, scratch);
                continue;
            }
        }
        gemm_rows<scheme, codes, block.rows, block.panels, block.parts>(job, rows, some, nullptr);
    }
    static_cast<void>(scratch);
}

/// Where to cut panels for threads.
inline constexpr std::size_t panel_step = ops::block.panels;

/// Bytes of scratch that gemm can use.
inline std::size_t gemm_scratch_bytes(const packed_weights& w) {
    const bool unpacks = w.bits <= 4 ? may_unpack<4> : may_unpack<8>;
    return unpacks ? static_cast<std::size_t>(ops::block.panels) * w.layout.packed * gemm_tile::nr : 0;
}

}  // namespace AQ_ISA
}  // namespace aq
