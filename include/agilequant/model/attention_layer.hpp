/// \file
/// The attention of a block: x += o(attend(q(n), k(n), v(n))) with n = norm(x), on the layer's own cache.
#pragma once

#include "agilequant/model/block_scratch.hpp"
#include "agilequant/model/kv_cache.hpp"

namespace aq {

template <class Family>
struct attention_layer {
    norm_weights norm;
    linear q, k, v, o;  ///< [dim,dim], [kv_dim,dim], [kv_dim,dim], [dim,dim]

    /// x [m,dim] += attention, in place. Row i stands at position cache.length() + i of this layer and sees all before it.
    /// `importance`: also leave the attention to the first token, summed over heads, in scratch.importance(m).
    /// cache_full where the rows do not fit; x is unchanged then.
    [[nodiscard]] status forward(run_context& context, const block_settings& settings, block_scratch& scratch, kv_cache& cache,
                                 bool importance, matrix_view<float> x) const noexcept {
        const std::size_t m = x.rows;
        if (cache.length() + m > cache.capacity()) return status::cache_full;
        const matrix_view<float> queries = scratch.queries(m), keys = scratch.keys(m), values = scratch.values(m),
                                 attended = scratch.attended(m);
        AQ_TRY(prepare_site(context, settings, scratch, site::attention, Family::normalized(settings, norm, x), scratch.normed(m),
                            q));
        {
            const part_timer timed(context.times, part::projections);
            AQ_TRY(apply(context, scratch.input, q, queries));
            AQ_TRY(apply(context, scratch.input, k, keys));
            AQ_TRY(apply(context, scratch.input, v, values));
        }
        const std::size_t past = cache.length();
        AQ_TRY(over_rows(context, m, [&](std::size_t r) { return place(settings, past + r, queries.row(r), keys.row(r)); }));
        AQ_TRY(attend(context, settings, scratch, cache, importance, m));
        AQ_TRY(prepare_site(context, settings, scratch, site::attention_output, attended, o));
        const part_timer timed(context.times, part::projections);
        return apply(context, scratch.input, o, x, add_residual{x});
    }

    /// Queries and keys of one token, turned to their position where it is rotary; rotated by a Hadamard matrix where keys are, which leaves their products.
    [[nodiscard]] static status place(const block_settings& settings, [[maybe_unused]] std::size_t position, float* queries,
                                      float* keys) noexcept {
        const model_config& c = settings.config;
        if constexpr (Family::positions == position_kind::rotary) {
            AQ_TRY(rope(settings.rope_table, position, c.rope, {queries, c.heads, c.head_dim()}));
            AQ_TRY(rope(settings.rope_table, position, c.rope, {keys, c.kv_heads, c.head_dim()}));
        }
        if (!settings.rotates_keys) return status::ok;
        AQ_TRY(hadamard(matrix_view<float>(queries, c.heads, c.head_dim())));
        return hadamard(matrix_view<float>(keys, c.kv_heads, c.head_dim()));
    }

    /// Appends the keys and values of m rows to the cache, then lets their queries see it: scratch.attended(m), head by head.
    [[nodiscard]] static status attend(run_context& context, const block_settings& settings, block_scratch& scratch,
                                       kv_cache& cache, bool importance, std::size_t m) noexcept {
        const part_timer timed(context.times, part::attention);
        const auto for_each = [&](std::size_t heads, auto&& task) { return context.for_each(heads, task); };
        AQ_TRY(cache.append(*context.kernels, scratch.keys(m), scratch.values(m), for_each));
        attention_job job;
        job.q = scratch.queries(m);
        job.cache = cache.view();
        job.out = scratch.attended(m);
        job.heads = settings.config.heads;
        job.coding = settings.coding;
        job.slopes = settings.slopes;
        job.importance = importance ? scratch.first_column(m).data : nullptr;
        AQ_TRY(context.scratch.reserve(context.threads.workers, attention_scratch_bytes(job.cache, job.coding)));
        // Heads that share keys and values read them once, unless there are too few such groups to keep everybody busy.
        const std::size_t group = job.heads / job.cache.kv_heads;
        const std::size_t together = job.cache.kv_heads >= context.threads.workers ? group : 1;
        return context.for_each(job.heads / together, [&](std::size_t i, std::size_t worker) {
            const index_range heads{i * together, (i + 1) * together};
            return aq::attention(*context.kernels, job, heads, context.scratch.of(worker), context.scratch.bytes());
        });
    }

    [[nodiscard]] std::size_t bytes() const noexcept { return norm.bytes() + q.bytes() + k.bytes() + v.bytes() + o.bytes(); }
};

}  // namespace aq
