// Agile-Quant's packed multiplier: two rows of 4-bit weights share a multiplication by an activation. See docs/packed-multiplier.md.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.
//
// w = high << 8 | low, p = w a = [high a | low a] in 8 bits each, and (p | p << 8) & 0x00FF00FF = [0 | high a | 0 | low a]: what is added
// up in a 32-bit lane are two sums of 16 bits. That holds for unsigned codes alone: a negative product would borrow from its neighbour.

namespace aq {
namespace AQ_ISA {

/// Two 16-bit sums a lane, split after at most MaxSteps steps: a lane takes one product of each of its rows in a step. The sums
/// of a block are 32 bits, as other schemes have them.
template <std::size_t MaxSteps, class Ops>
struct packed_multiplier_scheme : i32_sums {
    static constexpr bool is_direct = true;
};

/// The largest MaxSteps that is exact.
inline constexpr std::size_t packed_multiplier_steps =
    static_cast<std::size_t>(products_within(0xFFFF, weight_codes(4).high, activation_magnitude(4)));

/// As the general micro_kernel, but by pairs of registers: rows `r` of the one and of the other are multiplied at once.
template <std::size_t MaxSteps, class Ops, int Rows, int Panels, int Parts>
struct micro_kernel<packed_multiplier_scheme<MaxSteps, Ops>, packed_codes<4>, Rows, Panels, Parts> {
    using codes = packed_codes<4>;
    static_assert(codes::center == 0, "aq: the packed multiplier takes unsigned codes.");
    using column_block = block_columns<Rows, Panels, Parts>;
    static_assert(column_block::of_panel % 2 == 0, "aq: the packed multiplier takes two registers of rows at once.");
    static constexpr std::size_t lane_bytes = gemm_tile::kr;
    static constexpr int pairs = column_block::registers / 2;
    using sums_type = block_sums<packed_multiplier_scheme<MaxSteps, Ops>, Rows, column_block::registers>;
    using partial_sums = typename Ops::packed_sums[Rows][pairs];

    /// sums += w a from packed position `begin` to `end`.
    static AQ_INLINE void run(const block_inputs<Rows, Panels>& in, std::size_t begin, std::size_t end, sums_type& sums) {
        constexpr std::size_t longest = MaxSteps * gemm_tile::kr / k_step * k_step;
        for (std::size_t stop; begin < end; begin = stop) {
            stop = end - begin < longest ? end : begin + longest;
            partial_sums partials;
            AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                AQ_UNROLL for (int v = 0; v < pairs; ++v) partials[r][v] = Ops::zero_packed_sums();
            }
            for (std::size_t k = begin; k < stop; k += k_step) one_k_step(in, k, partials, std::make_integer_sequence<int, 4>{});
            AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                AQ_UNROLL for (int v = 0; v < pairs; ++v) {
                    Ops::add_split(sums.at[r][2 * v], sums.at[r][2 * v + 1], partials[r][v]);
                }
            }
        }
    }

private:
    template <int... Steps>
    static AQ_INLINE void one_k_step(const block_inputs<Rows, Panels>& in, std::size_t k, partial_sums& partials,
                                     std::integer_sequence<int, Steps...>) {
        (step<Steps>(in, k, partials), ...);
    }

    template <int Step>
    static AQ_INLINE void step(const block_inputs<Rows, Panels>& in, std::size_t k, partial_sums& partials) {
        AQ_UNROLL for (int v = 0; v < pairs; ++v) {
            const ops::codes low = load<Step>(in, k, 2 * v), high = load<Step>(in, k, 2 * v + 1);
            AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                const auto quad = Ops::template packed_quad<Step>(in.a[r] + k);
                partials[r][v] = Ops::add_packed_products(partials[r][v], low, high, quad);
            }
        }
    }

    /// The codes of register v in a step of the k_step at position k.
    template <int Step>
    static AQ_INLINE ops::codes load(const block_inputs<Rows, Panels>& in, std::size_t k, int v) {
        const std::uint8_t* const from =
            in.w[v / column_block::of_panel] + k * gemm_tile::nr / 2 + v % column_block::of_panel * ops::lanes * gemm_tile::kr;
        return codes::plane(ops::load_codes(from + Step / 2 * (gemm_tile::nr * gemm_tile::kr)), Step % 2);
    }
};

/// The kernel of the table. It does not unpack, so it has no use for scratch.
template <std::size_t MaxSteps = packed_multiplier_steps, class Ops = ops>
void gemm_packed_multiplier(const gemm_job& job, index_range rows, index_range panels, std::byte*) {
    using scheme = packed_multiplier_scheme<MaxSteps, Ops>;
    using codes = packed_codes<4>;
    constexpr block_size block = Ops::packed_multiplier_block;
    for (std::size_t panel = panels.begin; panel < panels.end; ++panel) {
        const index_range one{panel, panel + 1};
        if (rows.size() == 1) gemm_rows<scheme, codes, 1, block.panels, block.parts>(job, rows, one, {});
        else gemm_rows<scheme, codes, block.rows, block.panels, block.parts>(job, rows, one, {});
    }
}

/// `others` with it.
constexpr kernel_table with_packed_multiplier(kernel_table others) {
    others.gemm_packed_multiplier = gemm_packed_multiplier<>;
    return others;
}

}  // namespace AQ_ISA
}  // namespace aq
