/// \file
/// The MLPs: y = x + down(silu(gate(norm(x))) * up(norm(x))), and y = x + down(activation(up(norm(x)))).
#pragma once

#include "agilequant/model/block_scratch.hpp"
#include "agilequant/model/linear.hpp"

namespace aq {

template <class Family>
struct gated_mlp {
    static constexpr bool is_gated = true;
    norm_weights norm;
    linear gate, up, down;  ///< [hidden,dim], [hidden,dim], [dim,hidden]

    /// x [m,dim] += down(silu(gate(n)) * up(n)) with n = norm(x), in place.
    [[nodiscard]] status forward(run_context& context, const block_settings& settings, block_scratch& scratch,
                                 matrix_view<float> x) const noexcept {
        AQ_TRY(prepare_site(context, settings, scratch, site::mlp, Family::normalized(settings, norm, x), scratch.normed(x.rows),
                            gate));
        const matrix_view<float> gates = scratch.gates(x.rows), middle = scratch.middle(x.rows);
        {
            const part_timer timed(context.times, part::mlp);
            AQ_TRY(apply(context, scratch.input, gate, gates));
            AQ_TRY(apply(context, scratch.input, up, middle));
        }
        AQ_TRY(prepare_site(context, settings, scratch, site::mlp_middle, row_source::silu_gate(gates, middle), middle, down));
        const part_timer timed(context.times, part::mlp);
        return apply(context, scratch.input, down, x, add_residual{x});
    }

    [[nodiscard]] std::size_t bytes() const noexcept { return norm.bytes() + gate.bytes() + up.bytes() + down.bytes(); }
};

template <class Family>
struct plain_mlp {
    static constexpr bool is_gated = false;
    norm_weights norm;
    linear up, down;  ///< [hidden,dim], [dim,hidden]

    /// x [m,dim] += down(activation(up(n))) with n = norm(x), in place.
    [[nodiscard]] status forward(run_context& context, const block_settings& settings, block_scratch& scratch,
                                 matrix_view<float> x) const noexcept {
        AQ_TRY(prepare_site(context, settings, scratch, site::mlp, Family::normalized(settings, norm, x), scratch.normed(x.rows),
                            up));
        const matrix_view<float> middle = scratch.middle(x.rows);
        {
            const part_timer timed(context.times, part::mlp);
            AQ_TRY(apply(context, scratch.input, up, middle));
        }
        AQ_TRY(prepare_site(context, settings, scratch, site::mlp_middle, Family::activated(middle), middle, down));
        const part_timer timed(context.times, part::mlp);
        return apply(context, scratch.input, down, x, add_residual{x});
    }

    [[nodiscard]] std::size_t bytes() const noexcept { return norm.bytes() + up.bytes() + down.bytes(); }
};

}  // namespace aq
