// Quantizes rows of activations into the layout of the weights they will meet, with the sums of codes that zero points need.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace. Equals quant/uniform.hpp to the bit.

namespace aq {
namespace AQ_ISA {

/// row[p] = x[order[p]]. x is fetched ahead: moves of single floats are too slow a stream for the CPU to do so by itself.
inline void move_channels(const float* AQ_RESTRICT x, const std::uint32_t* order, std::size_t count, float* AQ_RESTRICT row) {
    constexpr std::size_t ahead = 1024;
    std::size_t p = 0;
    for (; p + k_step <= count; p += k_step) {
        __builtin_prefetch(x + order[p] + ahead);
        AQ_UNROLL for (std::size_t i = 0; i < k_step; ++i) row[p + i] = x[order[p + i]];
    }
    for (; p < count; ++p) row[p] = x[order[p]];
}

/// x[k] in the layout's order, each channel divided by 2^exponent (exact), 0 at padding.
inline void arrange_row(const float* x, const k_layout_view& layout, float* row) {
    for (std::size_t i = 0; i < layout.run_count; ++i) {
        const k_run run = layout.runs[i];
        std::size_t end = run.end;
        while (end > run.begin && layout.order[end - 1] == padding) row[--end] = 0.0F;
        move_channels(x, layout.order + run.begin, end - run.begin, row + run.begin);
        if (run.exponent == 0) continue;
        const float factor = power_of_two(-static_cast<int>(run.exponent));
        for (std::size_t p = run.begin; p < end; ++p) row[p] = made_finite(row[p]) * factor;
    }
}

/// Scale and zero point of one arranged row, and whether it is tame (rows.hpp).
inline affine fit_row(const float* row, std::size_t packed, const activation_format& format, code_range codes, bool& is_tame) {
    is_tame = false;
    if (format.is_static) return format.fixed;
    const value_range range = range_of_row(row, packed, is_tame);
    is_tame = is_tame && format.clip >= least_tame_clip;
    return fit_token(range, format, codes);
}

/// Sets padding to 0, then adds up the codes of each group.
inline void sum_groups(const k_layout_view& layout, std::int8_t* codes, std::int32_t* AQ_RESTRICT sums) {
    std::size_t group = 0;
    std::int32_t sum = 0;
    for (std::size_t i = 0; i < layout.run_count; ++i) {
        const k_run run = layout.runs[i];
        for (std::size_t p = run.end; layout.order != nullptr && p > run.begin && layout.order[p - 1] == padding; --p)
            codes[p - 1] = 0;
        sum += ops::sum_of(codes + run.begin, run.end - run.begin) * (1 << run.exponent);
        if (!run.ends_group) continue;
        sums[group++] = sum;
        sum = 0;
    }
}

/// Row r as the layout has it: where it is, or in scratch.
inline const float* source_row(const quantize_job& job, std::size_t r) {
    const float* row = job.source.x.row(r);
    float* scratch = job.row_scratch;
    if (!job.source.is_plain()) {
        write_source_row(job.source, r, scratch);
        row = scratch;
        scratch += round_up(job.layout.k, cache_line_bytes / sizeof(float));
    }
    if (job.layout.order == nullptr) return row;
    arrange_row(row, job.layout, scratch);
    return scratch;
}

/// The kernel of the table.
inline void quantize(const quantize_job& job, index_range rows) {
    const code_range codes = activation_codes(job.format.bits, job.format.is_asymmetric);
    for (std::size_t r = rows.begin; r < rows.end; ++r) {
        const float* const row = source_row(job, r);
        bool is_tame = false;
        const affine a = fit_row(row, job.layout.packed, job.format, codes, is_tame);
        std::int8_t* const out = job.out.codes + r * job.out.stride;
        encode_row(row, job.layout.packed, 1.0F / a.scale, a.zero, codes, is_tame, out);
        std::memset(out + job.layout.packed, 0, job.out.stride - job.layout.packed);
        sum_groups(job.layout, out, job.out.sums + r * job.layout.groups);
        job.out.scales[r] = a.scale;
        job.out.zeros[r] = a.zero;
    }
}

/// `others` with this quantizer, and the rows that it computes.
constexpr kernel_table with_quantize(kernel_table others) {
    others.quantize = quantize;
    others.write_rows = write_rows;
    return others;
}

}  // namespace AQ_ISA
}  // namespace aq
