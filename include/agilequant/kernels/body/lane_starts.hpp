// Partial sums of 16 bits that begin where they would end for weights that are all in the middle of their range.
// Compiled for instruction sets that multiply-add into 16 bits, by dispatch/foreach.hpp; AQ_ISA names the namespace.
//
// Sums in 16 bits wrap around, so only the last one has to fit. A lane that adds up w a over a chain and begins at -8 sum a ends at
// sum (w - 8) a, for which |w - 8| <= 8 counts: chains of 4-bit weights are 32 products long where sums that begin at 0 hold 17.
// All columns of a row begin alike, so the starts are made once a row: for each chain, 16 bytes in the place of its first k_step.

namespace aq {
namespace AQ_ISA {

template <int Bits>
struct started_codes : packed_codes<Bits> {
    static constexpr bool has_starts = true;
    static constexpr int center = 1 << (Bits - 1);  ///< of what a chain ends at
    static constexpr int magnitude = center;
    static AQ_INLINE ops::i16_sums start(const std::int8_t* p) { return ops::start_partial(p); }
};

/// 4-bit weights by 8-bit activations; the other widths have chains long enough, or no middle that would help.
template <>
struct preparation_choice<4, 8> {
    using type = started_codes<4>;
};

template <int Bits>
struct row_preparer<started_codes<Bits>> {
    static constexpr bool is_needed = true;

    static void run(const gemm_job& job, index_range rows, std::int8_t* out) {
        constexpr std::size_t chain = scheme_of<started_codes<Bits>, 8>::max_steps * gemm_tile::kr / k_step * k_step;
        const k_layout_view& layout = job.weights.layout;
        for (std::size_t r = rows.begin; r < rows.end; ++r, out += layout.packed) {
            const std::int8_t* const codes = job.activations.codes + r * job.activations.stride;
            for (std::size_t i = 0; i < layout.run_count; ++i) {
                for (std::size_t k = layout.runs[i].begin, end = layout.runs[i].end; k < end; k += chain) {
                    ops::template store_start<started_codes<Bits>::center>(codes + k, end - k < chain ? end - k : chain, out + k);
                }
            }
        }
    }
};

}  // namespace AQ_ISA
}  // namespace aq
