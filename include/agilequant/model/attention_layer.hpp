/// \file
/// The attention of a block: x += o(attend(q(n), k(n), v(n))) with n = norm(x), on the layer's own cache.
#pragma once

#include "agilequant/kernels/epilogue.hpp"
#include "agilequant/model/block_scratch.hpp"
#include "agilequant/model/kv_cache.hpp"

namespace aq {

template <class Family>
struct attention_layer {
    aligned_buffer<float> norm;  ///< gains [dim]
    linear q, k, v, o;           ///< [dim,dim], [kv_dim,dim], [kv_dim,dim], [dim,dim]

    /// x [m,dim] += attention, in place. Row i stands at position cache.length() + i of this layer and sees all before it.
    /// `importance`: also leave the attention to the first token, summed over heads, in scratch.importance(m).
    /// cache_full where the rows do not fit; x is unchanged then.
    [[nodiscard]] status forward(run_context& context, const block_settings& settings, block_scratch& scratch, kv_cache& cache,
                                 bool importance, matrix_view<float> x) const noexcept {
        const std::size_t m = x.rows;
        if (cache.length() + m > cache.capacity()) return status::cache_full;
        const matrix_view<float> queries = scratch.queries(m), keys = scratch.keys(m), values = scratch.values(m),
                                 attended = scratch.attended(m);
        AQ_TRY(prepare_site(context, settings, scratch, site::attention, Family::normalized(settings, norm.data(), x),
                            scratch.normed(m), q));
        {
            const part_timer timed(context.times, part::projections);
            AQ_TRY(multiply(context, scratch.input, q, queries));
            AQ_TRY(multiply(context, scratch.input, k, keys));
            AQ_TRY(multiply(context, scratch.input, v, values));
        }
        const std::size_t past = cache.length();
        AQ_TRY(
            over_rows(context, m, [&](std::size_t r) { return Family::place(settings, past + r, queries.row(r), keys.row(r)); }));
        AQ_TRY(attend(context, settings, scratch, cache, importance, m));
        settings.observe(site::attention_output, attended);
        AQ_TRY(scratch.input.prepare(context, attended, settings.format(site::attention_output), o));
        const part_timer timed(context.times, part::projections);
        const epilogue add_to_x{add_residual{x}};
        return multiply(context, scratch.input, o, x, add_to_x.ref());
    }

    /// Appends the keys and values of m rows to the cache, then lets their queries see it: scratch.attended(m), head by head.
    [[nodiscard]] static status attend(run_context& context, const block_settings& settings, block_scratch& scratch,
                                       kv_cache& cache, bool importance, std::size_t m) noexcept {
        const part_timer timed(context.times, part::attention);
        AQ_TRY(cache.append(scratch.keys(m), scratch.values(m)));
        attention_job job;
        job.q = scratch.queries(m);
        job.cache = cache.view();
        job.out = scratch.attended(m);
        job.heads = settings.config.heads;
        job.coding = settings.coding;
        job.importance = importance ? scratch.first_column(m).data : nullptr;
        AQ_TRY(context.scratch.reserve(context.threads.workers, attention_scratch_bytes(job.cache)));
        return context.for_each(job.heads, [&](std::size_t head, std::size_t worker) {
            return aq::attention(*context.kernels, job, {head, head + 1}, context.scratch.of(worker), context.scratch.bytes());
        });
    }

    [[nodiscard]] std::size_t bytes() const noexcept { return norm.size_bytes() + q.bytes() + k.bytes() + v.bytes() + o.bytes(); }
};

}  // namespace aq
