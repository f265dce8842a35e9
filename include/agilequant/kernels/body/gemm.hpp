// Integer GEMM over packed weights: blocks of rows and panels, and what is made ready for them.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.
//
// For many rows panels are unpacked to bytes once, into scratch, and the loops read that.

namespace aq {
namespace AQ_ISA {

/// All of `rows` by one block of panels.
template <class Scheme, class Codes, int Rows, int Panels, int Parts>
void gemm_rows(const gemm_job& job, index_range rows, index_range panels, const block_source& source) {
    constexpr block_size few = ops::block_of_few_rows;
    for (std::size_t row = rows.begin; row < rows.end; row += Rows) {
        const std::size_t left = rows.end - row, count = left < Rows ? left : Rows;
        if constexpr (Codes::is_packed && few.rows != 0 && few.rows < Rows) {
            if (count <= few.rows)
                return gemm_rows<Scheme, Codes, few.rows, few.panels, few.parts>(job, {row, rows.end}, panels, source);
        }
        for (std::size_t lane = 0; lane < gemm_tile::nr; lane += gemm_tile::nr / Parts) {
            gemm_block<Scheme, Codes, Rows, Panels, Parts>(job, {row, count, panels.begin, panels.size(), 1, lane}, source);
        }
    }
}

/// All of `rows` by all of `panels`: for each block of panels all rows; or, where something has to be prepared of a block of rows, for
/// each of those all panels.
template <class Codes, int ActivationBits, int Rows, int Panels, int Parts>
void gemm_panels(const gemm_job& job, index_range rows, index_range panels, block_source source, std::int8_t* prepared) {
    constexpr bool prepares = row_preparer<Codes>::is_needed;
    const std::size_t height = prepares ? Rows : rows.size();
    for (std::size_t row = rows.begin; row < rows.end; row += height) {
        const index_range block{row, rows.end - row < height ? rows.end : row + height};
        if constexpr (prepares) {
            row_preparer<Codes>::run(job, block, prepared);
            source.prepared = prepared;
        }
        for (std::size_t panel = panels.begin; panel < panels.end; panel += Panels) {
            const index_range some{panel, panels.end - panel < Panels ? panels.end : panel + Panels};
            gemm_rows<scheme_of<Codes, ActivationBits>, Codes, Rows, Panels, Parts>(job, block, some, source);
        }
    }
    static_cast<void>(prepared);
}

/// One row by all of `panels`: as many streams as a block has panels, each through a share of the panels that is contiguous in memory,
/// so that a stream does not end with its panel.
template <class Codes, int ActivationBits, int Streams>
void gemm_one_row(const gemm_job& job, std::size_t row, index_range panels) {
    const std::size_t share = (panels.size() + Streams - 1) / Streams;
    for (std::size_t i = 0; i < share; ++i) {
        const std::size_t panel = panels.begin + i, streams = (panels.end - panel + share - 1) / share;
        gemm_block<scheme_of<Codes, ActivationBits>, Codes, 1, Streams, 1>(job, {row, 1, panel, streams, share}, {});
    }
}

/// Whether unpacking a panel once ever pays for codes of this width, and from how many rows on.
template <int Stored>
inline constexpr bool may_unpack = Stored != 8 && ops::row_blocks_worth_unpacking != 0;
inline constexpr std::size_t rows_worth_unpacking = static_cast<std::size_t>(ops::block.rows) * ops::row_blocks_worth_unpacking;

inline constexpr block_size unpacked_block = ops::unpacked_block.rows != 0 ? ops::unpacked_block : ops::block;
/// Panels that are unpacked at a time.
inline constexpr std::size_t unpacked_panels = ops::unpacked_panels != 0 ? ops::unpacked_panels : ops::block.panels;

/// All of `rows` by all of `panels`, a few of which are unpacked to scratch at a time.
template <int Stored, int ActivationBits>
void gemm_unpacked(const gemm_job& job, index_range rows, index_range panels, std::byte* scratch) {
    using codes = unpacked<Stored>;
    constexpr block_size block = unpacked_block;
    const std::size_t panel_size = job.weights.layout.packed * gemm_tile::nr;
    auto* const bytes = reinterpret_cast<std::uint8_t*>(scratch);
    auto* const prepared = reinterpret_cast<std::int8_t*>(scratch) + unpacked_panels * panel_size;
    for (std::size_t panel = panels.begin; panel < panels.end; panel += unpacked_panels) {
        const index_range some{panel, panels.end - panel < unpacked_panels ? panels.end : panel + unpacked_panels};
        for (std::size_t p = some.begin; p < some.end; ++p) {
            std::uint8_t* const out = bytes + (p - panel) * panel_size;
            if constexpr (codes::is_value) unpack_values<Stored>(job.weights, p, out);
            else unpack_codes<Stored>(job.weights, p, out);
        }
        gemm_panels<codes, ActivationBits, block.rows, block.panels, block.parts>(job, rows, some, {bytes, panel, nullptr},
                                                                                  prepared);
    }
}

/// The kernel of the table. One row has a block of its own, of more panels.
template <int WeightBits, int ActivationBits>
void gemm(const gemm_job& job, index_range rows, index_range panels, std::byte* scratch) {
    using codes = packed_codes<WeightBits>;
    using prepared_codes = with_preparation<WeightBits, ActivationBits>;
    constexpr block_size block = WeightBits == 8 && ops::block_of_bytes.rows != 0 ? ops::block_of_bytes : ops::block;
    constexpr bool is_other = WeightBits != 4 && ops::streams_of_other_widths != 0;
    constexpr int streams = is_other ? ops::streams_of_other_widths : ops::block_of_one_row.panels;
    auto* const prepared = reinterpret_cast<std::int8_t*>(scratch);
    if constexpr (may_unpack<WeightBits>) {
        if (scratch != nullptr && rows.size() >= rows_worth_unpacking)
            return gemm_unpacked<WeightBits, ActivationBits>(job, rows, panels, scratch);
    }
    if constexpr (row_preparer<prepared_codes>::is_needed) {
        if (scratch != nullptr && rows.size() == 1)
            return gemm_panels<prepared_codes, ActivationBits, 1, streams, 1>(job, rows, panels, {}, prepared);
        if (scratch != nullptr)
            return gemm_panels<prepared_codes, ActivationBits, block.rows, block.panels, block.parts>(job, rows, panels, {},
                                                                                                      prepared);
    }
    if (rows.size() == 1) return gemm_one_row<codes, ActivationBits, streams>(job, rows.begin, panels);
    gemm_panels<codes, ActivationBits, block.rows, block.panels, block.parts>(job, rows, panels, {}, nullptr);
    static_cast<void>(prepared);
}

/// Where to cut panels for threads.
inline constexpr std::size_t panel_step = unpacked_panels > ops::block.panels ? unpacked_panels : ops::block.panels;

/// Bytes of scratch that gemm can use.
inline std::size_t gemm_scratch_bytes(const packed_weights& w) {
    const bool unpacks = w.bits <= 4 ? may_unpack<4> : may_unpack<8>;
    const std::size_t rows_prepared = row_preparer<unpacked<4>>::is_needed ? unpacked_block.rows : 0;
    return unpacks ? w.layout.packed * (unpacked_panels * gemm_tile::nr + rows_prepared) : 0;
}

}  // namespace AQ_ISA
}  // namespace aq
