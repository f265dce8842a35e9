// Integer GEMM on matrix tiles (AMX): the same products as body/gemm.hpp, for more than a few rows. For those, and where no
// scratch is given, AQ_PARENT's kernels are called.
// Compiled for instruction sets with matrix tiles, by dispatch/foreach.hpp; AQ_ISA names the namespace.
//
// A panel of 16 columns by 64 positions, a byte each, is a tile as it stands in memory. Panels are unpacked once into scratch,
// while the first block of rows is computed, and used by all others. Zero points and multipliers are applied in unpacking, so that
// tiles add up along the whole depth; only float group scales, and TRIP's shifts, take the sums out of them in between.

namespace aq {
namespace AQ_ISA {

/// Which sums a block of tiles has: RowTiles by ColTiles tiles; tile r * ColTiles + c.
template <int RowTiles, int ColTiles>
struct tile_block {
    static_assert(RowTiles * ColTiles == 4, "aq: there are four tiles of sums, 2 x 2 or 1 x 4.");
    static constexpr int max_rows = RowTiles * ops::tile_rows, cols = ColTiles * gemm_tile::nr;
    std::size_t row, rows;  ///< of y
    std::size_t panel, panels;

    [[nodiscard]] AQ_INLINE std::size_t panel_of(int c) const {
        const std::size_t i = static_cast<std::size_t>(c);
        return panel + (i < panels ? i : panels - 1);
    }
};

/// The sums of a block in memory: integers on their way out of tiles, and what has been scaled.
template <class Block>
struct tile_sums {
    alignas(64) std::int32_t exact[Block::max_rows][Block::cols];
    alignas(64) float scaled[Block::max_rows][Block::cols];
};

template <class Block, int T = 0>
AQ_INLINE void move_sums(std::int32_t (&at)[Block::max_rows][Block::cols], bool to_memory) {
    constexpr int per_row = Block::cols / gemm_tile::nr, row = T / per_row * ops::tile_rows, col = T % per_row * gemm_tile::nr;
    constexpr std::size_t stride = Block::cols * sizeof(std::int32_t);
    if (to_memory) ops::template tile_store<T>(&at[row][col], stride);
    else ops::template tile_load<T>(&at[row][col], stride);
    if constexpr (T < 3) move_sums<Block, T + 1>(at, to_memory);
}

AQ_INLINE void clear_tiles() {
    ops::template tile_zero<0>();
    ops::template tile_zero<1>();
    ops::template tile_zero<2>();
    ops::template tile_zero<3>();
}

/// sums += one step: 64 positions of activations from `a` by ColTiles tiles of weights, `apart` bytes from each other.
template <bool IsSigned, int RowTiles, int ColTiles>
AQ_INLINE void tile_step(const std::int8_t* a, std::size_t stride, const std::uint8_t* w, std::size_t apart) {
    if constexpr (RowTiles == 2) {
        ops::template tile_load<4>(a, stride);
        ops::template tile_load<6>(w, ops::tile_bytes);
        ops::template tile_dot<IsSigned, 0, 4, 6>();
        ops::template tile_load<7>(w + apart, ops::tile_bytes);
        ops::template tile_dot<IsSigned, 1, 4, 7>();
        ops::template tile_load<5>(a + ops::tile_rows * stride, stride);
        ops::template tile_dot<IsSigned, 2, 5, 6>();
        ops::template tile_dot<IsSigned, 3, 5, 7>();
    } else {
        ops::template tile_load<4>(a, stride);
        ops::template tile_load<5>(w, ops::tile_bytes);
        ops::template tile_dot<IsSigned, 0, 4, 5>();
        ops::template tile_load<6>(w + apart, ops::tile_bytes);
        ops::template tile_dot<IsSigned, 1, 4, 6>();
        ops::template tile_load<7>(w + 2 * apart, ops::tile_bytes);
        ops::template tile_dot<IsSigned, 2, 4, 7>();
        ops::template tile_load<5>(w + 3 * apart, ops::tile_bytes);
        ops::template tile_dot<IsSigned, 3, 4, 5>();
    }
}

/// exact <<= count, by way of memory.
template <class Block>
void shift_tiles(tile_sums<Block>& sums, std::size_t rows, int count) {
    move_sums<Block>(sums.exact, true);
    for (std::size_t r = 0; r < rows; ++r) {
        for (int c = 0; c < Block::cols; c += ops::lanes) {
            std::int32_t* const at = &sums.exact[r][c];
            ops::store_i32(at, ops::shift_left(ops::load_i32(at), count));
        }
    }
    move_sums<Block>(sums.exact, false);
}

/// scaled += scale * (exact - zero * sum of activations); the second term only where tiles hold raw codes.
template <bool IsSigned, class Block>
void add_tiles(const gemm_job& job, const Block& block, std::size_t group, tile_sums<Block>& sums) {
    const packed_weights& w = job.weights;
    const bool is_two_level = w.multipliers != nullptr;
    move_sums<Block>(sums.exact, true);
    for (int c = 0; c < Block::cols; c += ops::lanes) {
        const std::size_t panel = block.panel_of(c / gemm_tile::nr);
        const std::size_t lane = (panel * w.layout.groups + group) * gemm_tile::nr;
        const ops::f32 scale = ops::load_f32(w.scales + (is_two_level ? panel * gemm_tile::nr : lane));
        ops::i32 zero = ops::zero_i32();
        if constexpr (!IsSigned) {
            zero = w.zeros == nullptr ? ops::broadcast_i32(w.symmetric_zero()) : ops::load_u8_as_i32(w.zeros + lane);
        }
        for (std::size_t r = 0; r < block.rows; ++r) {
            ops::i32 exact = ops::load_i32(&sums.exact[r][c]);
            if constexpr (!IsSigned) {
                const std::int32_t sum = job.activations.sums[(block.row + r) * w.layout.groups + group];
                exact = ops::sub(exact, ops::mul(zero, ops::broadcast_i32(sum)));
            }
            float* const at = &sums.scaled[r][c];
            ops::store_f32(at, ops::add(ops::load_f32(at), ops::mul(scale, ops::to_float(exact))));
        }
    }
}

/// values = scale_a (scaled - zero_a offset), in place.
template <class Block>
void finish_tiles(const gemm_job& job, const Block& block, tile_sums<Block>& sums) {
    for (int c = 0; c < Block::cols; c += ops::lanes) {
        const ops::f32 offset = ops::load_f32(job.weights.offsets + block.panel_of(c / gemm_tile::nr) * gemm_tile::nr);
        for (std::size_t r = 0; r < block.rows; ++r) {
            const ops::f32 zero = ops::broadcast_f32(static_cast<float>(job.activations.zeros[block.row + r]));
            float* const at = &sums.scaled[r][c];
            const ops::f32 value = ops::sub(ops::load_f32(at), ops::mul(zero, offset));
            ops::store_f32(at, ops::mul(value, ops::broadcast_f32(job.activations.scales[block.row + r])));
        }
    }
}

/// Unpacked tiles of a block of panels: tile t of panel p at bytes + (p * tiles + t) * tile_size. Where nothing will read them
/// again, chunks of the depth take each other's place, so that they stay in the first-level cache.
struct tile_cache {
    std::uint8_t* bytes;
    std::size_t first_panel, tiles;
    bool is_filled, is_kept;

    static constexpr std::size_t chunk = 4;  ///< tiles of one panel that are unpacked before they are used

    [[nodiscard]] AQ_INLINE std::uint8_t* at(std::size_t panel, std::size_t tile) const {
        return is_kept ? bytes + ((panel - first_panel) * tiles + tile) * tile_size
                       : bytes + ((panel - first_panel) % 4 * chunk) * tile_size;
    }
    [[nodiscard]] AQ_INLINE std::size_t apart() const { return (is_kept ? tiles : chunk) * tile_size; }
};

/// The products of one run, chunk by chunk: unpack where that has not been done, then multiply. `tile` is the run's first.
template <int Stored, bool IsSigned, int RowTiles, int ColTiles>
void run_tiles(const gemm_job& job, const tile_block<RowTiles, ColTiles>& block, const k_run& run, std::size_t group,
               std::size_t tile, const tile_cache& cache) {
    using unpacker = tile_unpacker<Stored, IsSigned>;
    const std::size_t stride = job.activations.stride, count = tiles_of(run);
    const std::int8_t* const a = job.activations.codes + block.row * stride + run.begin;
    unpacker unpack[ColTiles];
    if (!cache.is_filled) {
        for (int c = 0; c < ColTiles; ++c) unpack[c] = unpacker::make(job.weights, block.panel_of(c), group);
    }
    for (std::size_t done = 0; done < count; done += tile_cache::chunk) {
        const std::size_t last = count - done < tile_cache::chunk ? count : done + tile_cache::chunk;
        std::uint8_t* const w = cache.at(block.panel, tile + done);
        for (int c = 0; !cache.is_filled && c < ColTiles && static_cast<std::size_t>(c) < block.panels; ++c) {
            for (std::size_t t = done; t < last; ++t) {
                const std::size_t begin = run.begin + t * tile_depth, end = begin + tile_depth;
                unpack[c].run(begin, end < run.end ? end : run.end,
                              w + static_cast<std::size_t>(c) * cache.apart() + (t - done) * tile_size);
            }
        }
        for (std::size_t t = done; t < last; ++t) {
            tile_step<IsSigned, RowTiles, ColTiles>(a + t * tile_depth, stride, w + (t - done) * tile_size, cache.apart());
        }
    }
}

/// One block of y.
template <int Stored, bool IsSigned, int RowTiles, int ColTiles>
void gemm_tiles(const gemm_job& job, const tile_block<RowTiles, ColTiles>& block, const tile_cache& cache) {
    using block_type = tile_block<RowTiles, ColTiles>;
    const packed_weights& w = job.weights;
    tile_sums<block_type> sums;
    for (std::size_t r = 0; r < block.rows; ++r) {
        for (int c = 0; c < block_type::cols; ++c) sums.scaled[r][c] = 0.0F;
    }
    clear_tiles();
    const bool is_one_sum = w.multipliers != nullptr || w.layout.groups == 1;
    std::size_t group = 0, tile = 0;
    for (std::size_t i = 0; i < w.layout.run_count; ++i) {
        const k_run run = w.layout.runs[i];
        run_tiles<Stored, IsSigned>(job, block, run, group, tile, cache);
        tile += tiles_of(run);
        const bool is_last = i + 1 == w.layout.run_count;
        // Exponents fall along the whole depth, so one sum over all groups is a Horner sum too.
        const int next = is_last ? 0 : w.layout.runs[i + 1].exponent;
        const int shift = is_one_sum ? run.exponent - next : run.shift;
        if (shift != 0) shift_tiles(sums, block.rows, shift);
        if (is_one_sum ? is_last : run.ends_group) {
            add_tiles<IsSigned>(job, block, is_one_sum ? 0 : group, sums);
            clear_tiles();
        }
        group += run.ends_group ? 1 : 0;
    }
    finish_tiles(job, block, sums);
    const std::size_t col = block.panel * gemm_tile::nr, width = block.panels * gemm_tile::nr, left = w.n - col;
    store_block({&sums.scaled[0][0], block_type::cols, block.row, block.rows, col, left < width ? left : width}, job.epilogue,
                job.y);
}

/// All of `panels`, whose tiles are in `cache` or go there, by one block of rows.
template <int Stored, bool IsSigned, int RowTiles, int ColTiles>
void gemm_tile_rows(const gemm_job& job, std::size_t row, std::size_t rows, index_range panels, const tile_cache& cache) {
    constexpr std::size_t step = ColTiles;
    const int top = static_cast<int>(rows < 16 ? rows : 16), bottom = RowTiles == 1 ? top : static_cast<int>(rows) - 16;
    if (RowTiles == 1) ops::configure({{top, top, top, top, top, 16, 16, 16}});
    else ops::configure({{top, top, bottom, bottom, top, bottom, 16, 16}});
    for (std::size_t panel = panels.begin; panel < panels.end; panel += step) {
        const std::size_t left = panels.end - panel;
        gemm_tiles<Stored, IsSigned, RowTiles, ColTiles>(job, {row, rows, panel, left < step ? left : step}, cache);
    }
}

/// How many panels are unpacked at once: 8 where they fit 768 KiB of the second-level cache (2 MiB where there are tiles), else 4.
inline std::size_t cached_panels(const packed_weights& w) {
    return tiles_of(w.layout) * tile_size * 8 <= std::size_t{768} << 10 ? 8 : 4;
}

template <int Stored, bool IsSigned>
void gemm_with_tiles(const gemm_job& job, index_range rows, index_range panels, std::byte* scratch) {
    constexpr std::size_t tall = 2 * ops::tile_rows;
    const std::size_t step = cached_panels(job.weights), tiles = tiles_of(job.weights.layout);
    for (std::size_t panel = panels.begin; panel < panels.end; panel += step) {
        const index_range block{panel, panels.end - panel < step ? panels.end : panel + step};
        tile_cache cache{reinterpret_cast<std::uint8_t*>(scratch), panel, tiles, false, rows.size() > tall};
        for (std::size_t row = rows.begin; row < rows.end; row += tall) {
            const std::size_t left = rows.end - row, count = left < tall ? left : tall;
            if (count > ops::tile_rows) gemm_tile_rows<Stored, IsSigned, 2, 2>(job, row, count, block, cache);
            else gemm_tile_rows<Stored, IsSigned, 1, 4>(job, row, count, block, cache);
            cache.is_filled = true;
        }
    }
    ops::release();
}

/// From this many rows on a tile is faster than dot products.
inline constexpr std::size_t rows_worth_tiles = 5;

/// The kernel of the table.
template <int WeightBits, int ActivationBits>
void gemm(const gemm_job& job, index_range rows, index_range panels, std::byte* scratch) {
    if (scratch == nullptr || rows.size() < rows_worth_tiles)
        return AQ_PARENT::gemm<WeightBits, ActivationBits>(job, rows, panels, scratch);
    if (WeightBits == 8 && job.weights.bits == 8) gemm_with_tiles<WeightBits, false>(job, rows, panels, scratch);
    else gemm_with_tiles<WeightBits, true>(job, rows, panels, scratch);
}

/// Where to cut panels for threads.
inline constexpr std::size_t panel_step = 8;

/// Bytes of scratch that gemm can use.
inline std::size_t gemm_scratch_bytes(const packed_weights& w) {
    const std::size_t tiles = cached_panels(w) * tiles_of(w.layout), streamed = 4 * tile_cache::chunk;
    const std::size_t own = (tiles < streamed ? streamed : tiles) * tile_size, others = AQ_PARENT::gemm_scratch_bytes(w);
    return own < others ? others : own;
}

}  // namespace AQ_ISA
}  // namespace aq
