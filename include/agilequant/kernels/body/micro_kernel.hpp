// The innermost loops of an integer product: a block of rows by a block of panels, kept in registers along one run of the depth.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.

namespace aq {
namespace AQ_ISA {

/// A block covers Rows rows by Panels panels, or by one `Parts`th of a panel.
template <int Rows, int Panels, int Parts>
struct block_columns {
    static_assert(Parts == 1 || Panels == 1, "aq: a part of one panel, or whole panels.");
    static constexpr int of_panel = vectors / Parts;     ///< registers that hold one value of every column of one panel
    static constexpr int registers = Panels * of_panel;  ///< ... of every column of the block
    static constexpr std::size_t lanes = static_cast<std::size_t>(registers * ops::lanes);
};

/// The integer sums of a block.
template <class Scheme, int Rows, int Columns>
struct block_sums {
    typename Scheme::sums at[Rows][Columns];
    bool is_empty = true;  ///< nothing was added since the last restart; only schemes that widen look at it

    AQ_INLINE block_sums() { fill(sum_starts[0]); }

    /// `from`: what direct sums begin at. The others begin with what is added first.
    AQ_INLINE void restart(const std::int32_t* from) {
        is_empty = true;
        if constexpr (Scheme::is_direct) {
            fill(from);
        } else {  // so that the compiler keeps nothing of the last sums
            AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                AQ_UNROLL for (int v = 0; v < Columns; ++v) at[r][v] = ops::unspecified();
            }
        }
        static_cast<void>(from);
    }
    [[nodiscard]] AQ_INLINE ops::i32 total(int r, int v) const { return Scheme::total(at[r][v]); }
    AQ_INLINE void shift_left(int count) {
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            AQ_UNROLL for (int v = 0; v < Columns; ++v) at[r][v] = Scheme::shift_left(at[r][v], count);
        }
    }
    template <class Partial>
    AQ_INLINE void add_widened(const Partial (&partials)[Rows][Columns]) {
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            AQ_UNROLL for (int v = 0; v < Columns; ++v) {
                const typename Scheme::sums more = Scheme::widened(partials[r][v]);
                at[r][v] = is_empty ? more : Scheme::add(at[r][v], more);
            }
        }
        is_empty = false;
    }

private:
    AQ_INLINE void fill(const std::int32_t* from) {
        AQ_UNROLL for (int r = 0; r < Rows; ++r) { AQ_UNROLL for (int v = 0; v < Columns; ++v) at[r][v] = Scheme::start(from); }
    }
};

/// Where a block reads: its panels' codes and its rows of activations, both from the beginning of the depth.
template <int Rows, int Panels>
struct block_inputs {
    const std::uint8_t* w[Panels];
    const std::int8_t* a[Rows];
    const std::int8_t* prepared[Rows] = {};  ///< see row_preparer

    /// Where piece `piece` of k_step k of a panel begins, of which a k_step has `Pieces`.
    template <int Pieces>
    static constexpr std::size_t offset(std::size_t k, int piece) {
        return (k * Pieces + static_cast<std::size_t>(piece)) * step_bytes;
    }
    /// How far ahead codes are fetched, and whether. A few rows are bound by arithmetic and memory at once; one row is bound by memory
    /// alone, and there the hardware, which sees long streams, does better by itself.
    template <int Stored>
    static constexpr bool fetches_ahead = Rows > 1 && Stored < 8 && ops::prefetch_bytes != 0;
    static constexpr std::size_t bytes_ahead() { return ops::prefetch_bytes; }
};
/// The same where the panels' pieces take turns in memory.
template <int Rows, int Panels>
struct interleaved_inputs : block_inputs<Rows, Panels> {
    std::size_t apart = 0;  ///< from a piece of a panel to its next
    template <int Pieces>
    [[nodiscard]] AQ_INLINE std::size_t offset(std::size_t k, int piece) const {
        return (k * Pieces + static_cast<std::size_t>(piece)) * apart;
    }
    template <int>
    static constexpr bool fetches_ahead = false;
};

template <class Scheme, class Codes, int Rows, int Panels, int Parts>
struct micro_kernel {
    using column_block = block_columns<Rows, Panels, Parts>;
    static constexpr int columns = column_block::registers;
    using sums_type = block_sums<Scheme, Rows, columns>;
    static constexpr int planes = 8 / Codes::stored;
    static constexpr std::size_t lane_bytes = gemm_tile::kr;  // from one row of weights to the next
    static constexpr std::size_t k_step_bytes = k_step * gemm_tile::nr * Codes::stored / 8;
    static constexpr int steps_in_k_step = static_cast<int>(k_step) / gemm_tile::kr;

    /// sums += w a from packed position `begin` to `end`.
    template <class Inputs>
    static AQ_INLINE void run(const Inputs& in, std::size_t begin, std::size_t end, sums_type& sums) {
        const std::size_t last = end / k_step;
        std::size_t k = begin / k_step;
        if constexpr (Scheme::is_direct) {
            do one_k_step<false>(in, k, sums.at);  // no run is empty
            while (++k < last);
        } else {
            constexpr std::size_t before_widening = Scheme::max_steps / steps_in_k_step;
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
    template <class Inputs, class Count>
    static AQ_INLINE void widened(const Inputs& in, std::size_t k, Count count, sums_type& sums) {
        typename Scheme::partial partials[Rows][columns];
        if constexpr (Codes::has_starts) {
            AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                AQ_UNROLL for (int v = 0; v < columns; ++v) partials[r][v] = Codes::start(in.prepared[r] + k * k_step);
            }
        }
        one_k_step<!Codes::has_starts>(in, k, partials);
        if constexpr (std::is_same_v<Count, std::size_t>) {
            for (std::size_t i = 1; i < count; ++i) one_k_step<false>(in, k + i, partials);
        } else {
            AQ_UNROLL for (int i = 1; i < Count::value; ++i) one_k_step<false>(in, k + static_cast<std::size_t>(i), partials);
        }
        sums.add_widened(partials);
    }

    /// `IsFirst`: the partial sums have no value yet.
    template <bool IsFirst, class Inputs, class Partial>
    static AQ_INLINE void one_k_step(const Inputs& in, std::size_t k, Partial (&partials)[Rows][columns]) {
        if constexpr (Inputs::template fetches_ahead<Codes::stored>) prefetch(in, k);
        ops::row_quads a[Rows];
        AQ_UNROLL for (int r = 0; r < Rows; ++r) a[r] = ops::load_quads(in.a[r] + k * k_step);
        all_steps<IsFirst>(in, k, a, partials, std::make_integer_sequence<int, steps_in_k_step / Scheme::steps_at_once>{});
    }
    template <bool IsFirst, class Inputs, class Partial, int... I>
    static AQ_INLINE void all_steps(const Inputs& in, std::size_t k, const ops::row_quads (&a)[Rows],
                                    Partial (&partials)[Rows][columns], std::integer_sequence<int, I...>) {
        (steps < IsFirst && I == 0,
         I * Scheme::steps_at_once > (in, k, a, partials, std::make_integer_sequence<int, Scheme::steps_at_once>{}), ...);
    }

    /// The products of steps First + I of k_step k.
    template <bool IsFirst, int First, class Inputs, class Partial, int... I>
    static AQ_INLINE void steps(const Inputs& in, std::size_t k, const ops::row_quads (&a)[Rows],
                                Partial (&partials)[Rows][columns], std::integer_sequence<int, I...>) {
        ops::codes w[columns][sizeof...(I)];
        AQ_UNROLL for (int v = 0; v < columns; ++v) {
            const int part = v % column_block::of_panel * ops::lanes * gemm_tile::kr;
            const std::uint8_t* const from = in.w[v / column_block::of_panel] + part;
            constexpr int pieces = steps_in_k_step / planes;
            ((w[v][I] = Codes::plane(ops::load_codes(from + in.template offset<pieces>(k, (First + I) / planes)),
                                     (First + I) % planes)),
             ...);
        }
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            const ops::quads quads[] = {ops::template quad<First + I>(a[r])...};
            AQ_UNROLL for (int v = 0; v < columns; ++v) {
                if constexpr (IsFirst) partials[r][v] = Scheme::first_step(w[v], quads);
                else partials[r][v] = Scheme::step(partials[r][v], w[v], quads);
            }
        }
    }

    template <class Inputs>
    static AQ_INLINE void prefetch(const Inputs& in, std::size_t k) {
        constexpr std::size_t ahead = Inputs::bytes_ahead();
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
