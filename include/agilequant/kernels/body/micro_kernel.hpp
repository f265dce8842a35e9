// The innermost loops of an integer product: a block of rows by a block of panels, kept in registers along one run of the depth.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.

namespace aq {
namespace AQ_ISA {

/// The integer sums of a block: Rows by Panels panels.
template <int Rows, int Panels>
struct block_sums {
    static constexpr int columns = Panels * vectors;  // in registers
    ops::i32 at[Rows][columns];

    AQ_INLINE void clear() {
        AQ_UNROLL for (int r = 0; r < Rows; ++r) { AQ_UNROLL for (int v = 0; v < columns; ++v) at[r][v] = ops::zero_i32(); }
    }
    AQ_INLINE void shift_left(int count) {
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            AQ_UNROLL for (int v = 0; v < columns; ++v) at[r][v] = ops::shift_left(at[r][v], count);
        }
    }
};

/// Where a block reads: its panels' codes and its rows of activations, both from the beginning of the depth.
template <int Rows, int Panels>
struct block_inputs {
    const std::uint8_t* w[Panels];
    const std::int8_t* a[Rows];
};

/// `Stored` is the width that codes are read in: that of the packed matrix, or 8 where a panel was unpacked before.
template <class Scheme, int Stored, int Rows, int Panels>
struct micro_kernel {
    using partial = typename Scheme::partial;
    using sums_type = block_sums<Rows, Panels>;
    static constexpr int columns = sums_type::columns;
    static constexpr int planes = 8 / Stored;
    static constexpr std::size_t step_bytes = gemm_tile::nr * gemm_tile::kr;  // of one step of codes in one panel
    static constexpr std::size_t k_step_bytes = k_step * gemm_tile::nr * Stored / 8;
    static constexpr int steps_in_k_step = static_cast<int>(k_step) / gemm_tile::kr;

    /// sums += w a from packed position `begin` to `end`.
    static AQ_INLINE void run(const block_inputs<Rows, Panels>& in, std::size_t begin, std::size_t end, sums_type& sums) {
        const std::size_t last = end / k_step;
        std::size_t k = begin / k_step;
        if constexpr (Scheme::is_direct) {
            for (; k < last; ++k) one_k_step(in, k, sums.at);
        } else {
            constexpr std::size_t before_widening = Scheme::max_steps / steps_in_k_step;
            static_assert(before_widening >= 1, "aq: a scheme must hold the sums of one k_step.");
            if constexpr (before_widening == 2) {  // short enough to be unrolled: no counter, no branch
                for (; last - k >= 2; k += 2) widened(in, k, std::integral_constant<int, 2>{}, sums);
                if (k < last) widened(in, k, std::integral_constant<int, 1>{}, sums);
            } else {
                for (std::size_t rest; (rest = last - k) != 0;) {
                    const std::size_t count = rest < before_widening ? rest : before_widening;
                    widened(in, k, count, sums);
                    k += count;
                }
            }
        }
    }

private:
    /// sums += the products of `count` k_steps from k on, added up in partial sums.
    template <class Count>
    static AQ_INLINE void widened(const block_inputs<Rows, Panels>& in, std::size_t k, Count count, sums_type& sums) {
        partial partials[Rows][columns];
        AQ_UNROLL for (int r = 0; r < Rows; ++r) { AQ_UNROLL for (int v = 0; v < columns; ++v) partials[r][v] = Scheme::zero(); }
        if constexpr (std::is_same_v<Count, std::size_t>) {
            for (std::size_t i = 0; i < count; ++i) one_k_step(in, k + i, partials);
        } else {
            AQ_UNROLL for (int i = 0; i < Count::value; ++i) one_k_step(in, k + static_cast<std::size_t>(i), partials);
        }
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            AQ_UNROLL for (int v = 0; v < columns; ++v) sums.at[r][v] = Scheme::widened(sums.at[r][v], partials[r][v]);
        }
    }

    static AQ_INLINE void one_k_step(const block_inputs<Rows, Panels>& in, std::size_t k, partial (&partials)[Rows][columns]) {
        if constexpr (Rows > 1 && Stored < 8) prefetch(in, k);
        AQ_UNROLL for (int step = 0; step < steps_in_k_step; ++step) {
            const std::size_t byte = k * k_step_bytes + static_cast<std::size_t>(step / planes) * step_bytes;
            ops::codes w[columns];
            AQ_UNROLL for (int v = 0; v < columns; ++v) {
                const std::uint8_t* const from = in.w[v / vectors] + byte + v % vectors * ops::lanes * gemm_tile::kr;
                w[v] = ops::template plane<Stored>(ops::load_codes(from), step % planes);
            }
            AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                const ops::quads quads =
                    ops::broadcast_quad(in.a[r] + k * k_step + static_cast<std::size_t>(step * gemm_tile::kr));
                AQ_UNROLL for (int v = 0; v < columns; ++v) partials[r][v] = Scheme::step(partials[r][v], w[v], quads);
            }
        }
    }

    /// A few rows are bound by arithmetic and memory at once, so weights are fetched ahead. One row is bound by memory alone; there
    /// the hardware, which sees long streams, does better by itself.
    static AQ_INLINE void prefetch(const block_inputs<Rows, Panels>& in, std::size_t k) {
        constexpr std::size_t ahead = 1024;
        AQ_UNROLL for (int p = 0; p < Panels; ++p) {
            AQ_UNROLL for (std::size_t line = 0; line < k_step_bytes; line += cache_line_bytes) {
                // an address, not a pointer: what lies behind the panel's end is asked for but never read
                const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(in.w[p]) + k * k_step_bytes + ahead + line;
                __builtin_prefetch(reinterpret_cast<const void*>(address));
            }
        }
    }
};

}  // namespace AQ_ISA
}  // namespace aq
