// The loops of the baseline, compiled in half/kernels.cpp once for each form, inside its target region; `ops` are its instructions.

/// y (+)= x w^T for Rows rows and Panels panels over `depth` channels. Weights are halves or already floats. `ahead`, where it is
/// not 0, is the address of as many halves that will be needed soon; what lies behind the last panel is asked for, never read.
template <int Rows, int Panels, class Weight>
void multiply_block(const float* x, const Weight* w, std::size_t panel_stride, std::size_t depth, float* y, std::size_t stride,
                    bool is_first, std::uintptr_t ahead) {
    constexpr int vectors = Panels * ops::vectors;
    typename ops::f32 sums[Rows][vectors];
    AQ_UNROLL for (int r = 0; r < Rows; ++r) {
        AQ_UNROLL for (int v = 0; v < vectors; ++v) {
            sums[r][v] = is_first ? ops::zero() : ops::load(y + static_cast<std::size_t>(r) * stride + v * ops::lanes);
        }
    }
    for (std::size_t i = 0; i < depth; ++i) {
        if (ahead != 0) __builtin_prefetch(reinterpret_cast<const void*>(ahead + i * ops::width * sizeof(std::uint16_t)));
        typename ops::f32 columns[vectors];
        AQ_UNROLL for (int v = 0; v < vectors; ++v) {
            const Weight* const panel = w + static_cast<std::size_t>(v / ops::vectors) * panel_stride;
            columns[v] = ops::load(panel + i * ops::width + v % ops::vectors * ops::lanes);
        }
        AQ_UNROLL for (int r = 0; r < Rows; ++r) {
            const typename ops::f32 value = ops::broadcast(x + i * Rows + r);
            AQ_UNROLL for (int v = 0; v < vectors; ++v) sums[r][v] = ops::multiply_add(value, columns[v], sums[r][v]);
        }
    }
    AQ_UNROLL for (int r = 0; r < Rows; ++r) {
        AQ_UNROLL for (int v = 0; v < vectors; ++v) {
            ops::store(y + static_cast<std::size_t>(r) * stride + v * ops::lanes, sums[r][v]);
        }
    }
}

inline std::uintptr_t address_of(const std::uint16_t* p) { return reinterpret_cast<std::uintptr_t>(p); }

template <class Weight>
using block_function = void (*)(const float*, const Weight*, std::size_t, std::size_t, float*, std::size_t, bool, std::uintptr_t);

template <class Weight, std::size_t... Rows>
constexpr std::array<block_function<Weight>, sizeof...(Rows)> block_functions(std::index_sequence<Rows...>) {
    return {{multiply_block<static_cast<int>(Rows) + 1, 1, Weight>...}};
}

/// By number of rows - 1.
template <class Weight>
inline constexpr auto blocks_of = block_functions<Weight>(std::make_index_sequence<ops::rows>());

inline std::size_t block_count(std::size_t m) { return (m + ops::rows - 1) / ops::rows; }

inline void pack(const float* x, std::size_t m, std::size_t k, float* packed) {
    const std::size_t blocks = block_count(m);
    for (std::size_t b = 0; b < blocks; ++b) {
        const aq::index_range rows = aq::piece(m, blocks, b);
        // a tile of the block at a time, so that what is written is still in the first cache when its next row comes
        for (std::size_t first = 0; first < k; first += 64) {
            for (std::size_t r = rows.begin; r < rows.end; ++r) {
                float* const out = packed + rows.begin * k + r - rows.begin;
                for (std::size_t i = first; i < std::min(first + 64, k); ++i) out[i * rows.size()] = x[r * k + i];
            }
        }
    }
}

inline void multiply_row(const half_job& job, std::size_t first, std::size_t last) {
    constexpr int at_once = 4;
    const std::size_t stride = job.k * ops::width;
    std::size_t panel = first;
    for (; panel + at_once <= last; panel += at_once) {
        multiply_block<1, at_once>(job.packed_x, job.weights + panel * stride, stride, job.k, job.y + panel * ops::width, 0, true,
                                   0);
    }
    for (; panel < last; ++panel) {
        multiply_block<1, 1>(job.packed_x, job.weights + panel * stride, stride, job.k, job.y + panel * ops::width, 0, true, 0);
    }
}

/// All blocks of rows by one panel, channels from .. from + depth.
template <class Weight>
void multiply_rows(const half_job& job, const Weight* w, std::size_t panel, std::size_t from, std::size_t depth,
                   std::uintptr_t ahead) {
    const std::size_t blocks = block_count(job.m);
    for (std::size_t b = 0; b < blocks; ++b) {
        const aq::index_range rows = aq::piece(job.m, blocks, b);
        const float* const x = job.packed_x + rows.begin * job.k + from * rows.size();
        float* const y = job.y + rows.begin * job.n + panel * ops::width;
        blocks_of<Weight>[rows.size() - 1](x, w, 0, depth, y, job.n, from == 0, b == 0 ? ahead : 0);
    }
}

/// How far ahead memory is asked for weights that are converted as they come.
inline constexpr std::size_t halves_ahead = 2048;

inline void multiply(const half_job& job, std::size_t first, std::size_t last, float* scratch) {
    if (job.m == 1) return multiply_row(job, first, last);
    const bool converts_once = block_count(job.m) > 2;
    const std::size_t step = converts_once ? half_depth : job.k;
    for (std::size_t from = 0; from < job.k; from += step) {
        const std::size_t depth = std::min(step, job.k - from);
        for (std::size_t panel = first; panel < last; ++panel) {
            const std::uint16_t* const w = job.weights + (panel * job.k + from) * ops::width;
            if (!converts_once) {
                multiply_rows(job, w, panel, from, depth, address_of(w) + halves_ahead * sizeof *w);
                continue;
            }
            for (std::size_t i = 0; i < depth * ops::width; i += ops::lanes) ops::store(scratch + i, ops::load(w + i));
            multiply_rows(job, static_cast<const float*>(scratch), panel, from, depth,
                          address_of(w) + job.k * ops::width * sizeof *w);
        }
    }
}
