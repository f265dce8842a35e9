// Unpacks a panel once, for many rows: a byte for every position of every row, in steps of the tile.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.

namespace aq {
namespace AQ_ISA {

inline constexpr std::size_t step_bytes = gemm_tile::nr * gemm_tile::kr;  // of one step of codes of 8 bits in one panel

/// To codes, less what unpacked codes are centered on: what 8-bit weights would look like.
template <int Stored>
void unpack_codes(const packed_weights& w, std::size_t panel, std::uint8_t* AQ_RESTRICT out) {
    constexpr int planes = 8 / Stored;
    constexpr std::size_t register_bytes = ops::lanes * gemm_tile::kr;
    const std::uint8_t* AQ_RESTRICT const codes = w.codes + panel * w.panel_bytes();
    for (std::size_t block = 0; block < w.panel_bytes(); block += step_bytes) {
        for (std::size_t v = 0; v < step_bytes; v += register_bytes) {
            const ops::codes raw = ops::load_codes(codes + block + v);
            AQ_UNROLL for (int p = 0; p < planes; ++p) {
                ops::store_codes(out + block * planes + static_cast<std::size_t>(p) * step_bytes + v,
                                 unpacked_codes<Stored>::of(packed_codes<Stored>::plane(raw, p)));
            }
        }
    }
}

/// Makes values of the codes of one panel in one group.
template <int Stored, class Ops>
struct value_unpacker {
    typename Ops::codes offsets[vectors], multipliers[vectors];

    AQ_INLINE value_unpacker(const packed_weights& w, std::size_t panel, std::size_t group) {
        const std::size_t place = (panel * w.layout.groups + group) * gemm_tile::nr;
        AQ_UNROLL for (int v = 0; v < vectors; ++v) {
            const std::size_t lane = place + static_cast<std::size_t>(v * Ops::lanes);
            offsets[v] = w.zeros == nullptr ? Ops::broadcast_byte(w.symmetric_zero()) : Ops::spread_bytes(w.zeros + lane);
            multipliers[v] = w.multipliers == nullptr ? Ops::broadcast_byte(1) : Ops::spread_bytes(w.multipliers + lane);
        }
    }

    /// Codes of positions begin .. end of the panel; `out` is the panel's.
    template <bool Multiplies>
    AQ_INLINE void run(const std::uint8_t* AQ_RESTRICT codes, std::size_t begin, std::size_t end,
                       std::uint8_t* AQ_RESTRICT out) const {
        constexpr int planes = 8 / Stored;
        const std::uint8_t* from = codes + begin * gemm_tile::nr * Stored / 8;
        std::uint8_t* to = out + begin * gemm_tile::nr;
        for (; to < out + end * gemm_tile::nr; from += step_bytes, to += step_bytes * planes) {
            AQ_UNROLL for (int v = 0; v < vectors; ++v) {
                const typename Ops::codes raw = Ops::load_codes(from + v * Ops::lanes * gemm_tile::kr);
                AQ_UNROLL for (int p = 0; p < planes; p += 2) {
                    Ops::store_two_steps(to + static_cast<std::size_t>(p) * step_bytes, v, value<Multiplies>(raw, p, v),
                                         value<Multiplies>(raw, p + 1, v));
                }
            }
        }
    }

private:
    template <bool Multiplies>
    AQ_INLINE typename Ops::codes value(typename Ops::codes raw, int p, int v) const {
        const typename Ops::codes difference = Ops::sub_bytes(Ops::template plane<Stored>(raw, p), offsets[v]);
        if constexpr (Multiplies) return Ops::mul_bytes(difference, multipliers[v]);
        else return difference;
    }
};

/// To values.
template <int Stored, class Ops = ops>
void unpack_values(const packed_weights& w, std::size_t panel, std::uint8_t* out) {
    const std::uint8_t* const codes = w.codes + panel * w.panel_bytes();
    std::size_t group = 0;
    for (std::size_t i = 0; i < w.layout.run_count; ++i) {
        const k_run run = w.layout.runs[i];
        const value_unpacker<Stored, Ops> unpack(w, panel, group);
        if (w.multipliers == nullptr) unpack.template run<false>(codes, run.begin, run.end, out);
        else unpack.template run<true>(codes, run.begin, run.end, out);
        group += run.ends_group ? 1 : 0;
    }
}

}  // namespace AQ_ISA
}  // namespace aq
