// Quantizes rows of activations into the layout of the weights they will meet, with the sums of codes that zero points need.
// Compiled once per instruction set, by dispatch/foreach.hpp; AQ_ISA names the namespace. Equals quant/uniform.hpp to the bit.

namespace aq {
namespace AQ_ISA {

/// x[k] in the layout's order, each channel divided by 2^exponent (exact), 0 at padding.
inline void arrange_row(const float* AQ_RESTRICT x, const k_layout_view& layout, float* AQ_RESTRICT row) {
    for (std::size_t i = 0; i < layout.run_count; ++i) {
        const k_run run = layout.runs[i];
        std::size_t p = run.begin, end = run.end;
        while (end > p && layout.order[end - 1] == padding) row[--end] = 0.0F;
        if (run.exponent == 0) {
            for (; p < end; ++p) row[p] = x[layout.order[p]];
        } else {
            const float factor = power_of_two(-static_cast<int>(run.exponent));
            for (; p < end; ++p) row[p] = made_finite(x[layout.order[p]]) * factor;
        }
    }
}

/// Scale and zero point of one arranged row, and whether it is tame (rows.hpp).
inline affine fit_row(const float* row, std::size_t packed, const activation_format& format, code_range codes, bool& is_tame) {
    is_tame = false;
    if (format.is_static) return format.fixed;
    const value_range range = range_of_row(row, packed, is_tame);
    return format.is_asymmetric ? fit_asymmetric(range, codes) : fit_symmetric(range, codes);
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

/// The kernel of the table.
inline void quantize(const quantize_job& job, index_range rows) {
    const code_range codes = activation_codes(job.format.bits, job.format.is_asymmetric);
    for (std::size_t r = rows.begin; r < rows.end; ++r) {
        const float* row = job.x.row(r);
        if (job.layout.order != nullptr) {
            arrange_row(row, job.layout, job.row_scratch);
            row = job.row_scratch;
        }
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

/// `others` with this quantizer.
constexpr kernel_table with_quantize(kernel_table others) {
    others.quantize = quantize;
    return others;
}

}  // namespace AQ_ISA
}  // namespace aq
