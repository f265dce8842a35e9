// The innermost loops for instructions that multiply two rows by two: 2 x 2 sums of eight products each.
// Compiled for instruction sets that have them, by dispatch/foreach.hpp; AQ_ISA names the namespace.
//
// They read values whose panels were unpacked as pairs of rows of weights by eight positions (ops::store_two_steps), and activations
// that were put in pairs of rows the same way, once for all panels that are unpacked at a time.

namespace aq {
namespace AQ_ISA {

struct pair_scheme {};

template <int ActivationBits>
struct scheme_choice<unpacked_values, ActivationBits> {
    using type = pair_scheme;
};

template <>
struct row_preparer<unpacked_values> {
    static constexpr bool is_needed = true;

    /// The last row stands in for one that is missing.
    static void run(const gemm_job& job, index_range rows, std::int8_t* out) {
        const std::size_t packed = job.weights.layout.packed, stride = job.activations.stride;
        for (std::size_t r = rows.begin; r < rows.end; r += 2, out += 2 * packed) {
            const std::int8_t* const first = job.activations.codes + r * stride;
            const std::int8_t* const second = r + 1 < rows.end ? first + stride : first;
            for (std::size_t k = 0; k < packed; k += k_step) ops::store_pair(first + k, second + k, out + 2 * k);
        }
    }
};

/// Sums of pairs of rows by pairs of columns.
template <int Rows, int Columns>
struct block_sums<pair_scheme, Rows, Columns> {
    static_assert(Rows % 2 == 0, "aq: rows come in pairs.");
    ops::i32 at[Rows / 2][2 * Columns];

    AQ_INLINE void restart(const std::int32_t* from) {
        AQ_UNROLL for (int r = 0; r < Rows / 2; ++r) {
            AQ_UNROLL for (int c = 0; c < 2 * Columns; ++c) at[r][c] = ops::start_sum(from);
        }
    }
    AQ_INLINE void shift_left(int count) {
        AQ_UNROLL for (int r = 0; r < Rows / 2; ++r) {
            AQ_UNROLL for (int c = 0; c < 2 * Columns; ++c) at[r][c] = ops::shift_left(at[r][c], count);
        }
    }
    [[nodiscard]] AQ_INLINE ops::i32 total(int r, int v) const {
        return ops::row_of_pairs(at[r / 2][2 * v], at[r / 2][2 * v + 1], r % 2);
    }
};

template <int Rows, int Panels, int Parts>
struct micro_kernel<pair_scheme, unpacked_values, Rows, Panels, Parts> {
    static constexpr int columns = block_columns<Rows, Panels, Parts>::registers;
    static constexpr int of_panel = 2 * block_columns<Rows, Panels, Parts>::of_panel;  // registers of two columns of one panel
    using sums_type = block_sums<pair_scheme, Rows, columns>;
    static constexpr std::size_t lane_bytes = 8;       // from one row of weights to the next
    static constexpr int halves = 2;                   // of a k_step, eight positions each
    static constexpr std::size_t register_bytes = 16;  // two rows by eight positions

    static AQ_INLINE void run(const block_inputs<Rows, Panels>& in, std::size_t begin, std::size_t end, sums_type& sums) {
        std::size_t k = begin;
        do {
            AQ_UNROLL for (int half = 0; half < halves; ++half) {
                ops::row_quads a[Rows / 2];
                AQ_UNROLL for (int r = 0; r < Rows / 2; ++r) a[r] = ops::load_quads(in.prepared[2 * r] + 2 * k + half * 16);
                AQ_UNROLL for (int c = 0; c < 2 * columns; ++c) {
                    const std::size_t at = k * gemm_tile::nr + static_cast<std::size_t>(half) * 2 * step_bytes;
                    const ops::codes w =
                        ops::load_codes(in.w[c / of_panel] + at + static_cast<std::size_t>(c % of_panel) * register_bytes);
                    AQ_UNROLL for (int r = 0; r < Rows / 2; ++r) {
                        sums.at[r][c] = ops::add_pair_products(sums.at[r][c], a[r], w);
                    }
                }
            }
        } while ((k += k_step) != end);
    }
};

}  // namespace AQ_ISA
}  // namespace aq
