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
template <int Rows, int Panels>
struct block_place {
    std::size_t row, rows;      ///< of y; 1 <= rows <= Rows
    std::size_t panel, panels;  ///< 1 <= panels <= Panels
    std::size_t apart = 1;      ///< from one panel to the next

    [[nodiscard]] AQ_INLINE std::size_t row_of(int r) const { return row + at_most(static_cast<std::size_t>(r), rows - 1); }
    [[nodiscard]] AQ_INLINE std::size_t panel_of(int p) const {
        return panel + at_most(static_cast<std::size_t>(p), panels - 1) * apart;
    }

private:
    static AQ_INLINE std::size_t at_most(std::size_t i, std::size_t last) { return i < last ? i : last; }
};

/// The results of a block, and the step from a group's integers to them.
template <int Rows, int Panels>
struct block_results {
    static constexpr int columns = Panels * vectors;
    ops::f32 scaled[Rows][columns];
    ops::i32 totals[Rows][columns];  ///< with multipliers

    AQ_INLINE void clear(bool has_totals) {
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            AQ_UNROLL for (int v = 0; v < columns; ++v) scaled[r][v] = ops::broadcast_f32(0.0F);
        }
        if (!has_totals) return;
        AQ_UNROLL for (int r = 0; r < Rows; ++r) { AQ_UNROLL for (int v = 0; v < columns; ++v) totals[r][v] = ops::zero_i32(); }
    }

    AQ_INLINE void add_group(const gemm_job& job, const block_place<Rows, Panels>& place, std::size_t group,
                             const block_sums<Rows, Panels>& sums) {
        constexpr std::uint64_t most = 32767 / activation_magnitude(8);  // channels whose codes add up to 16 bits for certain
        if (job.weights.layout.depth <= most) add<true>(job, place, group, sums);
        else add<false>(job, place, group, sums);
    }

    AQ_INLINE void finish(const gemm_job& job, const block_place<Rows, Panels>& place, float* values) {
        const packed_weights& w = job.weights;
        AQ_UNROLL for (int v = 0; v < columns; ++v) {
            const std::size_t lane =
                place.panel_of(v / vectors) * gemm_tile::nr + static_cast<std::size_t>(v % vectors * ops::lanes);
            const ops::f32 offset = ops::load_f32(w.offsets + lane);
            if (w.multipliers != nullptr) {
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
    /// `IsShort`: sums of activations fit 16 bits, which multiply faster.
    template <bool IsShort>
    AQ_INLINE void add(const gemm_job& job, const block_place<Rows, Panels>& place, std::size_t group,
                       const block_sums<Rows, Panels>& sums) {
        const packed_weights& w = job.weights;
        ops::i32 row_sums[Rows];
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            row_sums[r] = ops::broadcast_i32(job.activations.sums[place.row_of(r) * w.layout.groups + group]);
        }
        AQ_UNROLL for (int v = 0; v < columns; ++v) {
            const std::size_t lane = (place.panel_of(v / vectors) * w.layout.groups + group) * gemm_tile::nr +
                                     static_cast<std::size_t>(v % vectors * ops::lanes);
            const ops::i32 zero =
                w.zeros == nullptr ? ops::broadcast_i32(w.symmetric_zero()) : ops::load_u8_as_i32(w.zeros + lane);
            const auto exact = [&](int r) {
                if constexpr (IsShort) return ops::sub_product16(sums.at[r][v], zero, row_sums[r]);
                else return ops::sub(sums.at[r][v], ops::mul(zero, row_sums[r]));
            };
            if (w.multipliers == nullptr) {
                const ops::f32 scale = ops::load_f32(w.scales + lane);
                AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                    scaled[r][v] = ops::add(scaled[r][v], ops::mul(scale, ops::to_float(exact(r))));
                }
            } else {
                const ops::i32 multiplier = ops::load_u8_as_i32(w.multipliers + lane);
                AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                    totals[r][v] = ops::add(totals[r][v], ops::mul(multiplier, exact(r)));
                }
            }
        }
    }
};

/// One block of y. `unpacked` holds the block's panels in bytes, or is null.
template <class Scheme, int Stored, int Rows, int Panels>
void gemm_block(const gemm_job& job, const block_place<Rows, Panels>& place, const std::uint8_t* unpacked) {
    constexpr std::size_t cols = static_cast<std::size_t>(Panels) * gemm_tile::nr;
    const packed_weights& w = job.weights;
    block_inputs<Rows, Panels> in;
    AQ_UNROLL for (int r = 0; r < Rows; ++r) in.a[r] = job.activations.codes + place.row_of(r) * job.activations.stride;
    AQ_UNROLL for (int p = 0; p < Panels; ++p) {
        const std::size_t panel = place.panel_of(p);
        in.w[p] = unpacked == nullptr ? w.codes + panel * w.panel_bytes()
                                      : unpacked + (panel - place.panel) * w.layout.packed * gemm_tile::nr;
    }
    if constexpr (Rows > 1) fetch_block(job.y, place.row, place.rows, place.panel * gemm_tile::nr, cols);
    block_results<Rows, Panels> results;
    block_sums<Rows, Panels> sums;
    results.clear(w.multipliers != nullptr);
    sums.clear();
    std::size_t group = 0;
    for (std::size_t i = 0; i < w.layout.run_count; ++i) {
        const k_run run = w.layout.runs[i];
        micro_kernel<Scheme, Stored, Rows, Panels>::run(in, run.begin, run.end, sums);
        if (run.shift != 0) sums.shift_left(run.shift);
        if (!run.ends_group) continue;
        results.add_group(job, place, group++, sums);
        sums.clear();
    }
    float values[static_cast<std::size_t>(Rows) * cols];
    results.finish(job, place, values);
    const std::size_t blocks = place.apart == 1 ? 1 : place.panels, width = place.panels / blocks * gemm_tile::nr;
    for (std::size_t b = 0; b < blocks; ++b) {
        const std::size_t col = (place.panel + b * place.apart) * gemm_tile::nr, left = w.n - col;
        store_block({values + b * width, cols, place.row, place.rows, col, left < width ? left : width}, job.epilogue, job.y);
    }
}

/// All of `rows` by one block of panels.
template <class Scheme, int Stored, int Rows, int Panels>
void gemm_rows(const gemm_job& job, index_range rows, index_range panels, const std::uint8_t* unpacked) {
    for (std::size_t row = rows.begin; row < rows.end; row += Rows) {
        const std::size_t left = rows.end - row;
        gemm_block<Scheme, Stored, Rows, Panels>(job, {row, left < Rows ? left : Rows, panels.begin, panels.size()}, unpacked);
    }
}

/// The codes of one panel, a byte each, in steps of the tile: what 8-bit weights would look like.
template <int Stored>
void unpack_codes(const std::uint8_t* AQ_RESTRICT codes, std::size_t packed, std::uint8_t* AQ_RESTRICT out) {
    constexpr int planes = 8 / Stored;
    constexpr std::size_t register_bytes = ops::lanes * gemm_tile::kr, step_bytes = gemm_tile::nr * gemm_tile::kr;
    const std::size_t bytes = packed * gemm_tile::nr * Stored / 8;
    for (std::size_t block = 0; block < bytes; block += step_bytes) {
        for (std::size_t v = 0; v < step_bytes; v += register_bytes) {
            const ops::codes raw = ops::load_codes(codes + block + v);
            AQ_UNROLL for (int p = 0; p < planes; ++p) {
                ops::store_codes(out + block * planes + static_cast<std::size_t>(p) * step_bytes + v,
                                 ops::template plane<Stored>(raw, p));
            }
        }
    }
}

/// One row by all of `panels`: as many streams as a block has panels, each through a share of the panels that is contiguous in memory,
/// so that a stream does not end with its panel.
template <class Scheme, int Stored, int Streams>
void gemm_one_row(const gemm_job& job, std::size_t row, index_range panels) {
    const std::size_t share = (panels.size() + Streams - 1) / Streams;
    for (std::size_t i = 0; i < share; ++i) {
        const std::size_t panel = panels.begin + i, streams = (panels.end - panel + share - 1) / share;
        gemm_block<Scheme, Stored, 1, Streams>(job, {row, 1, panel, streams, share}, nullptr);
    }
}

/// Whether unpacking a panel once ever pays for codes of this width, and from how many rows on.
template <int Stored>
inline constexpr bool may_unpack = Stored != 8 && ops::row_blocks_worth_unpacking != 0;
inline constexpr std::size_t rows_worth_unpacking = static_cast<std::size_t>(ops::block.rows) * ops::row_blocks_worth_unpacking;

/// All of `rows` by one block of panels that is unpacked to scratch before.
template <class Scheme, int Stored, int Rows, int Panels>
void gemm_unpacked(const gemm_job& job, index_range rows, index_range panels, std::byte* scratch) {
    const packed_weights& w = job.weights;
    auto* const bytes = reinterpret_cast<std::uint8_t*>(scratch);
    for (std::size_t p = 0; p < panels.size(); ++p) {
        unpack_codes<Stored>(w.codes + (panels.begin + p) * w.panel_bytes(), w.layout.packed,
                             bytes + p * w.layout.packed * gemm_tile::nr);
    }
    gemm_rows<Scheme, 8, Rows, Panels>(job, rows, panels, bytes);
}

/// The kernel of the table: blocks of panels, for each of them all rows. One row has a block of its own, of more panels.
template <int WeightBits, int ActivationBits>
void gemm(const gemm_job& job, index_range rows, index_range panels, std::byte* scratch) {
    using scheme = typename scheme_of<WeightBits, ActivationBits>::type;
    constexpr int tall = ops::block.rows, wide = ops::block.panels, streams = ops::block_of_one_row.panels;
    if (rows.size() == 1) return gemm_one_row<scheme, WeightBits, streams>(job, rows.begin, panels);
    for (std::size_t panel = panels.begin; panel < panels.end; panel += wide) {
        const index_range block{panel, panels.end - panel < wide ? panels.end : panel + wide};
        if constexpr (may_unpack<WeightBits>) {
            if (scratch != nullptr && rows.size() >= rows_worth_unpacking) {
                gemm_unpacked<scheme, WeightBits, tall, wide>(job, rows, block, scratch);
                continue;
            }
        }
        gemm_rows<scheme, WeightBits, tall, wide>(job, rows, block, nullptr);
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
