/// \file
/// The gated MLP: y = x + down(silu(gate(norm(x))) * up(norm(x))).
#pragma once

#include "agilequant/kernels/epilogue.hpp"
#include "agilequant/model/block_scratch.hpp"
#include "agilequant/model/linear.hpp"

namespace aq {

template <class Family>
struct gated_mlp {
    aligned_buffer<float> norm;  ///< gains [dim]
    linear gate, up, down;       ///< [hidden,dim], [hidden,dim], [dim,hidden]

    /// x [m,dim] += down(silu(gate(n)) * up(n)) with n = norm(x), in place.
    [[nodiscard]] status forward(run_context& context, const block_settings& settings, block_scratch& scratch,
                                 matrix_view<float> x) const noexcept {
        AQ_TRY(prepare_site(context, settings, scratch, site::mlp, Family::normalized(settings, norm.data(), x),
                            scratch.normed(x.rows), gate));
        const matrix_view<float> gates = scratch.gates(x.rows), middle = scratch.middle(x.rows);
        {
            const part_timer timed(context.times, part::mlp);
            AQ_TRY(multiply(context, scratch.input, gate, gates));
            AQ_TRY(multiply(context, scratch.input, up, middle));
        }
        AQ_TRY(prepare_site(context, settings, scratch, site::mlp_middle, row_source::silu_gate(gates, middle), middle, down));
        const part_timer timed(context.times, part::mlp);
        const epilogue add_to_x{add_residual{x}};
        return multiply(context, scratch.input, down, x, add_to_x.ref());
    }

    [[nodiscard]] std::size_t bytes() const noexcept { return norm.size_bytes() + gate.bytes() + up.bytes() + down.bytes(); }
};

}  // namespace aq
