// Integer GEMM over packed weights: y[m,n] = epilogue(scale_a (sum over groups scale_w (sum w a - zero_w sum a) - zero_a offset)).
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace.
//
// A block of ops::rows rows by one panel of columns is kept in registers while the depth is walked run by run. A group's sum is an exact
// integer; scaled sums are added in float in the order of groups, product rounded first. So neither the number of rows in a
// block nor the width of a register can be seen in the result.

namespace aq {
namespace AQ_ISA {

/// The integer sums of a block of rows by one panel.
template <int Rows>
struct block_sums {
    ops::i32 at[Rows][vectors];

    AQ_INLINE void clear() {
        AQ_UNROLL for (int r = 0; r < Rows; ++r) { AQ_UNROLL for (int v = 0; v < vectors; ++v) at[r][v] = ops::zero_i32(); }
    }
    AQ_INLINE void shift_left(int count) {
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            AQ_UNROLL for (int v = 0; v < vectors; ++v) at[r][v] = ops::shift_left(at[r][v], count);
        }
    }
};

template <int WeightBits, int ActivationBits, int Rows>
struct micro_kernel {
    using scheme = typename scheme_of<WeightBits, ActivationBits>::type;
    using partial = typename scheme::partial;
    static constexpr int planes = 8 / WeightBits;
    static constexpr std::size_t step_bytes = gemm_tile::nr * gemm_tile::kr;  // one step of codes in bytes
    static constexpr std::size_t k_step_bytes = k_step * gemm_tile::nr * WeightBits / 8;
    static constexpr int steps_in_k_step = static_cast<int>(k_step) / gemm_tile::kr;
    // partial sums are widened after a whole number of k_steps
    static constexpr std::size_t k_steps_before_widening = scheme::max_steps / steps_in_k_step;
    static_assert(k_steps_before_widening >= 1, "aq: a scheme must hold the sums of one k_step.");

    /// sums += w a over `count` k_steps from `codes` (of one panel) and from a[0..Rows).
    static AQ_INLINE void run(const std::uint8_t* AQ_RESTRICT codes, const std::int8_t* const (&a)[Rows], std::size_t count,
                              block_sums<Rows>& sums) {
        for (std::size_t done = 0; done < count;) {
            const std::size_t rest = count - done;
            const std::size_t last = done + (rest < k_steps_before_widening ? rest : k_steps_before_widening);
            partial partials[Rows][vectors];
            AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                AQ_UNROLL for (int v = 0; v < vectors; ++v) partials[r][v] = scheme::zero();
            }
            for (; done < last; ++done) one_k_step(codes + done * k_step_bytes, a, done * k_step, partials);
            AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                AQ_UNROLL for (int v = 0; v < vectors; ++v) sums.at[r][v] = scheme::widened(sums.at[r][v], partials[r][v]);
            }
        }
    }

private:
    static AQ_INLINE void one_k_step(const std::uint8_t* AQ_RESTRICT codes, const std::int8_t* const (&a)[Rows],
                                     std::size_t position, partial (&partials)[Rows][vectors]) {
        AQ_UNROLL for (int step = 0; step < steps_in_k_step; ++step) {
            const std::uint8_t* const bytes = codes + static_cast<std::size_t>(step / planes) * step_bytes;
            ops::codes w[vectors];
            AQ_UNROLL for (int v = 0; v < vectors; ++v) {
                w[v] = ops::template plane<WeightBits>(ops::load_codes(bytes + v * ops::lanes * gemm_tile::kr), step % planes);
            }
            AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                const ops::quads quads = ops::broadcast_quad(a[r] + position + static_cast<std::size_t>(step) * gemm_tile::kr);
                AQ_UNROLL for (int v = 0; v < vectors; ++v) partials[r][v] = scheme::step(partials[r][v], w[v], quads);
            }
        }
    }
};

/// The float sums of a block, and the step from a group's integers to them.
template <int Rows>
struct block_results {
    ops::f32 at[Rows][vectors];

    AQ_INLINE void clear() {
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            AQ_UNROLL for (int v = 0; v < vectors; ++v) at[r][v] = ops::broadcast_f32(0.0F);
        }
    }

    AQ_INLINE void add_group(const gemm_job& job, std::size_t panel, std::size_t group, std::size_t row,
                             const block_sums<Rows>& sums) {
        const packed_weights& w = job.weights;
        const std::size_t place = (panel * w.layout.groups + group) * gemm_tile::nr;
        AQ_UNROLL for (int v = 0; v < vectors; ++v) {
            const std::size_t lane = place + static_cast<std::size_t>(v * ops::lanes);
            const ops::f32 scale = ops::load_f32(w.scales + lane);
            const ops::i32 zero =
                w.zeros == nullptr ? ops::broadcast_i32(w.symmetric_zero()) : ops::load_u8_as_i32(w.zeros + lane);
            AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                const std::int32_t sum = job.activations.sums[(row + static_cast<std::size_t>(r)) * w.layout.groups + group];
                const ops::i32 exact = ops::sub(sums.at[r][v], ops::mul(zero, ops::broadcast_i32(sum)));
                at[r][v] = ops::add(at[r][v], ops::mul(scale, ops::to_float(exact)));
            }
        }
    }

    AQ_INLINE void finish(const gemm_job& job, std::size_t panel, std::size_t row, float (&values)[Rows][gemm_tile::nr]) {
        AQ_UNROLL for (int v = 0; v < vectors; ++v) {
            const ops::f32 offset =
                ops::load_f32(job.weights.offsets + panel * gemm_tile::nr + static_cast<std::size_t>(v * ops::lanes));
            AQ_UNROLL for (int r = 0; r < Rows; ++r) {
                const std::size_t m = row + static_cast<std::size_t>(r);
                const ops::f32 zero = ops::broadcast_f32(static_cast<float>(job.activations.zeros[m]));
                const ops::f32 value = ops::sub(at[r][v], ops::mul(zero, offset));
                ops::store_f32(&values[r][v * ops::lanes], ops::mul(value, ops::broadcast_f32(job.activations.scales[m])));
            }
        }
    }
};

/// Rows row .. row + Rows of y, the columns of one panel.
template <int WeightBits, int ActivationBits, int Rows>
void gemm_block(const gemm_job& job, std::size_t row, std::size_t panel) {
    const packed_weights& w = job.weights;
    const std::uint8_t* const codes = w.codes + panel * w.panel_bytes();
    block_results<Rows> results;
    block_sums<Rows> sums;
    results.clear();
    sums.clear();
    std::size_t group = 0;
    for (std::size_t i = 0; i < w.layout.run_count; ++i) {
        const k_run run = w.layout.runs[i];
        const std::int8_t* a[Rows];
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            a[r] = job.activations.codes + (row + static_cast<std::size_t>(r)) * job.activations.stride + run.begin;
        }
        using kernel = micro_kernel<WeightBits, ActivationBits, Rows>;
        kernel::run(codes + run.begin / k_step * kernel::k_step_bytes, a, (run.end - run.begin) / k_step, sums);
        if (run.shift != 0) sums.shift_left(run.shift);
        if (!run.ends_group) continue;
        results.add_group(job, panel, group, row, sums);
        sums.clear();
        ++group;
    }
    float values[Rows][gemm_tile::nr];
    results.finish(job, panel, row, values);
    const std::size_t col = panel * gemm_tile::nr, left = w.n - col;
    store_block({&values[0][0], gemm_tile::nr, row, Rows, col, left < gemm_tile::nr ? left : gemm_tile::nr}, job.epilogue, job.y);
}

/// The kernel of the table: rows by panels, in blocks of ops::rows rows and single rows for what is left.
template <int WeightBits, int ActivationBits>
void gemm(const gemm_job& job, index_range rows, index_range panels) {
    for (std::size_t panel = panels.begin; panel < panels.end; ++panel) {
        std::size_t row = rows.begin;
        for (; row + ops::rows <= rows.end; row += ops::rows) gemm_block<WeightBits, ActivationBits, ops::rows>(job, row, panel);
        if constexpr (ops::rows > 1) {
            for (; row < rows.end; ++row) gemm_block<WeightBits, ActivationBits, 1>(job, row, panel);
        }
    }
}

}  // namespace AQ_ISA
}  // namespace aq
