// One block of an integer product: y[m,n] = epilogue(scale_a (scaled sum over groups of (sum w a - zero_w sum a) - zero_a offset)).
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.
//
// A block of rows by a block of panels is kept in registers while the depth is walked run by run. A group's sum is an exact
// integer. With float scales, scaled sums are added in float in the order of groups, product rounded first; with integer
// multipliers the total is an exact integer too. So neither the size of a block nor the width of a register can be seen in the result.

namespace aq {
namespace AQ_ISA {

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

/// What was made ready for blocks before.
struct block_source {
    const std::uint8_t* unpacked = nullptr;  ///< panels from first_panel on, where Codes are unpacked
    std::size_t first_panel = 0;
    const std::int8_t* prepared = nullptr;  ///< a k_step of 16 bytes for every k_step of the block's rows, where Codes want it
};

/// One block of y.
template <group_kind Kind, class Scheme, class Codes, int Rows, int Panels, int Parts>
void gemm_block(const gemm_job& job, const block_place<Rows, Panels, Parts>& place, const block_source& source) {
    using column_block = block_columns<Rows, Panels, Parts>;
    using walk = depth_walk<Kind, Scheme, Codes, Rows, Panels, Parts>;
    const packed_weights& w = job.weights;
    block_inputs<Rows, Panels> in;
    AQ_UNROLL for (int r = 0; r < Rows; ++r) {
        in.a[r] = job.activations.codes + place.row_of(r) * job.activations.stride;
        if constexpr (row_preparer<Codes>::is_needed)
            in.prepared[r] = source.prepared + (place.row_of(r) - place.row) * w.layout.packed;
    }
    AQ_UNROLL for (int p = 0; p < Panels; ++p) {
        const std::size_t panel = place.panel_of(p);
        const std::uint8_t* const codes = Codes::is_packed
                                              ? w.codes + panel * w.panel_bytes()
                                              : source.unpacked + (panel - source.first_panel) * w.layout.packed * gemm_tile::nr;
        in.w[p] = codes + place.first_lane * walk::kernel::lane_bytes;
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

template <class Codes>
inline constexpr bool compiles_kinds = ops::has_group_kinds && (Codes::is_value || Codes::bits == 4);

/// The same, compiled for the kind of its groups where that pays.
template <class Scheme, class Codes, int Rows, int Panels, int Parts>
void gemm_block(const gemm_job& job, const block_place<Rows, Panels, Parts>& place, const block_source& source) {
    const group_kind kind = compiles_kinds<Codes> ? kind_of(job.weights, job.activations.bits) : group_kind::any;
    if constexpr (!compiles_kinds<Codes>) gemm_block<group_kind::any, Scheme, Codes>(job, place, source);
    else if (kind == group_kind::scaled) gemm_block<group_kind::scaled, Scheme, Codes>(job, place, source);
    else if (kind == group_kind::multiplied) gemm_block<group_kind::multiplied, Scheme, Codes>(job, place, source);
    else gemm_block<group_kind::any, Scheme, Codes>(job, place, source);
}

}  // namespace AQ_ISA
}  // namespace aq
