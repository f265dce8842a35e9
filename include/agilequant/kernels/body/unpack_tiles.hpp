// From packed codes to the bytes of a matrix tile: 64 positions of one panel in 1 KiB, a step of the tile a row.
// Compiled for instruction sets with matrix tiles, by dispatch/foreach.hpp; AQ_ISA names the namespace.

namespace aq {
namespace AQ_ISA {

inline constexpr std::size_t tile_depth = 64;  // positions
inline constexpr std::size_t tile_size = tile_depth * gemm_tile::nr;

/// Tiles that a run takes; the last may be filled up with zeros.
AQ_INLINE std::size_t tiles_of(const k_run& run) { return (run.end - run.begin + tile_depth - 1) / tile_depth; }

/// Tiles of the whole depth.
inline std::size_t tiles_of(const k_layout_view& layout) {
    std::size_t tiles = 0;
    for (std::size_t i = 0; i < layout.run_count; ++i) tiles += tiles_of(layout.runs[i]);
    return tiles;
}

/// Makes bytes of the codes of one panel in one group: m (code - zero), or, for 8 bits, the code as it is.
template <int Stored, bool IsSigned>
struct tile_unpacker {
    const std::uint8_t* codes;  ///< of the panel
    ops::codes offset, multiplier;
    bool multiplies;

    static AQ_INLINE tile_unpacker make(const packed_weights& w, std::size_t panel, std::size_t group) {
        const std::size_t place = (panel * w.layout.groups + group) * gemm_tile::nr;
        tile_unpacker u;
        u.codes = w.codes + panel * w.panel_bytes();
        u.multiplies = w.multipliers != nullptr;
        u.multiplier = u.multiplies ? ops::spread_words(w.multipliers + place) : ops::zero_i32();
        std::uint8_t zeros[gemm_tile::nr];
        for (std::size_t c = 0; c < gemm_tile::nr; ++c) {
            const unsigned zero = w.zeros == nullptr ? static_cast<unsigned>(w.symmetric_zero()) : w.zeros[place + c];
            zeros[c] = static_cast<std::uint8_t>(zero);
        }
        u.offset = ops::spread_bytes(zeros);
        return u;
    }

    /// Positions begin .. end, at most 64 of them, to `out` [1024]; what is missing of 64 becomes 0.
    AQ_INLINE void run(std::size_t begin, std::size_t end, std::uint8_t* AQ_RESTRICT out) const {
        constexpr int planes = 8 / Stored;
        constexpr std::size_t step = gemm_tile::nr * gemm_tile::kr;  // bytes
        const std::uint8_t* from = codes + begin * gemm_tile::nr * Stored / 8;
        const std::size_t bytes = (end - begin) * gemm_tile::nr;
        for (std::size_t b = 0; b < bytes; b += step * planes, from += step) {
            const ops::codes raw = ops::load_codes(from);
            AQ_UNROLL for (int p = 0; p < planes; ++p) {
                ops::codes bytes_of_step = ops::template plane<Stored>(raw, p);
                if constexpr (IsSigned) {
                    bytes_of_step = ops::sub_bytes(bytes_of_step, offset);
                    if (multiplies) bytes_of_step = ops::mul_bytes(bytes_of_step, multiplier);
                }
                ops::store_codes(out + b + static_cast<std::size_t>(p) * step, bytes_of_step);
            }
        }
        for (std::size_t b = bytes; b < tile_size; b += step) ops::store_codes(out + b, ops::zero_i32());
    }
};

}  // namespace AQ_ISA
}  // namespace aq
