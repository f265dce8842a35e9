/// \file
/// One block of a transformer: attention, pruning of tokens where the plan says so, MLP.
#pragma once

#include <limits>

#include "agilequant/model/attention_layer.hpp"
#include "agilequant/prune/compact.hpp"
#include "agilequant/prune/importance.hpp"
#include "agilequant/prune/select.hpp"

namespace aq {

template <class Family>
struct block {
    attention_layer<Family> attention;
    typename Family::mlp mlp;

    /// x [m,dim] through the block, in place; `rows` is how many are left of it. A prune_ratio above 0 drops that share of the rows
    /// between attention and MLP (Agile-Quant section 3); `tokens` [m] is carried along, whatever it numbers. `keep_last`: the last
    /// row survives beside the first, whatever its importance and the ratio, because the next token is predicted from it (ours).
    [[nodiscard]] status forward(run_context& context, const block_settings& settings, block_scratch& scratch, kv_cache& cache,
                                 double prune_ratio, bool keep_last, matrix_view<float> x, std::uint32_t* tokens,
                                 std::size_t& rows) const noexcept {
        rows = kept_rows(x.rows, prune_ratio);
        if (keep_last && rows == 1 && x.rows > 1) rows = 2;
        const bool prunes = rows != x.rows;
        AQ_TRY(attention.forward(context, settings, scratch, cache, prunes, x));
        if (prunes) {
            const part_timer timed(context.times, part::pruning);
            float* const importance = scratch.importance(x.rows);
            AQ_TRY(token_importance(scratch.first_column(x.rows), importance));
            if (keep_last) importance[x.rows - 1] = std::numeric_limits<float>::infinity();
            AQ_TRY(select_rows(importance, x.rows, rows, scratch.kept()));
            AQ_TRY(compact_rows(x, scratch.kept(), rows));
            AQ_TRY(compact_rows(matrix_view<std::uint32_t>(tokens, x.rows, 1), scratch.kept(), rows));
        }
        return mlp.forward(context, settings, scratch, x.rows_from(0, rows));
    }

    [[nodiscard]] std::size_t bytes() const noexcept { return attention.bytes() + mlp.bytes(); }
};

}  // namespace aq
