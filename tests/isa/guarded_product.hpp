/// \file
/// A product whose every buffer lies between two unreadable pages, and in whose padding every bit is set.
#pragma once

#include <limits>

#include "support/gemm_case.hpp"

namespace aq_test {

/// The packed weights of a case, copied.
struct guarded_weights {
    std::size_t lanes;
    guarded<std::uint8_t> codes, zeros, multipliers;
    guarded<float> scales, offsets;
    guarded<aq::k_run> runs;
    guarded<std::uint32_t> order;
    aq::packed_weights view;

    guarded_weights(const aq::packed_weights& w, guard side)
        : lanes(w.panels() * 16),
          codes(w.codes, w.panels() * w.panel_bytes(), side),
          zeros(w.zeros, w.zeros == nullptr ? 0 : lanes * w.layout.groups, side),
          multipliers(w.multipliers, w.multipliers == nullptr ? 0 : lanes * w.layout.groups, side),
          scales(w.scales,
                 w.multipliers == nullptr ? lanes * w.layout.groups
                 : w.layout.groups == 0   ? 0
                                          : lanes,
                 side),
          offsets(w.offsets, lanes, side),
          runs(w.layout.runs, w.layout.run_count, side),
          order(w.layout.order, w.layout.order == nullptr ? 0 : w.layout.packed, side),
          view(w) {
        poison();
        view.codes = codes.data();
        view.scales = scales.data();
        view.offsets = offsets.data();
        if (w.zeros != nullptr) view.zeros = zeros.data();
        if (w.multipliers != nullptr) view.multipliers = multipliers.data();
        view.layout.runs = runs.data();
        if (w.layout.order != nullptr) view.layout.order = order.data();
    }

private:
    /// Rows that are not there: NaN for floats, 255 for zero points, for multipliers what does not overflow with 50 channels; positions
    /// that are not there: every bit set.
    void poison() {
        constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
        const std::size_t groups = view.layout.groups;
        for (std::size_t i = 0; i < lanes * groups; ++i) {
            if (i / 16 / groups * 16 + i % 16 < view.n) continue;
            if (zeros.size() != 0) zeros[i] = 0xFF;
            if (multipliers.size() != 0) multipliers[i] = 5;
            else scales[i] = not_a_number;
        }
        for (std::size_t i = view.n; i < lanes; ++i) {
            offsets[i] = not_a_number;
            if (multipliers.size() != 0) scales[i] = not_a_number;
        }
        for (std::size_t r = 0; r < lanes; ++r) {
            for (std::size_t p = 0; p < view.layout.packed; ++p) {
                if (r < view.n && view.layout.channel(p) != aq::padding) continue;
                aq::pack_code(codes.data(), aq::portable_tile::at(r, p, view.layout.packed, view.bits),
                              (1 << aq::storage_bits(view.bits)) - 1);
            }
        }
    }
};

/// Quantizes and multiplies with `kernels`; every buffer touches its guard page on `side`.
inline outcome guarded_outcome(const gemm_setup& setup, const aq::kernel_table& kernels, guard side, bool has_scratch) {
    const gemm_case& c = setup.what;
    const guarded_weights weights(setup.weights(), side);
    const aq::packed_weights& w = weights.view;
    guarded<float> x(c.m * c.k, side), y(c.m * c.n, side);
    for (std::size_t i = 0; i < c.m * c.k; ++i) x[i] = setup.x.at(i / c.k, i % c.k);
    const std::size_t stride = aq::activation_stride(w.layout.packed);
    guarded<std::int8_t> codes(c.m * stride, side);
    guarded<float> scales(c.m, side), arranged(aq::quantize_scratch_bytes(w.layout) / sizeof(float), side);
    guarded<std::int32_t> zeros(c.m, side), sums(c.m * w.layout.groups, side);
    guarded<std::byte> scratch(aq::round_up(aq::gemm_scratch_bytes(kernels, w), aq::cache_line_bytes), side);
    const aq::activations_view a{c.activation_bits, c.m,           stride,       w.layout.id,
                                 codes.data(),      scales.data(), zeros.data(), sums.data()};
    REQUIRE(aq::quantize_rows(kernels, {x.data(), c.m, c.k}, w.layout, setup.format, {0, c.m}, arranged.data(),
                              arranged.size() * sizeof(float), a) == aq::status::ok);
    REQUIRE(aq::gemm(kernels, {w, a, {y.data(), c.m, c.n}, {}}, has_scratch ? scratch.data() : nullptr, scratch.size()) ==
            aq::status::ok);
    matrix result(c.m, c.n);
    for (std::size_t i = 0; i < c.m * c.n; ++i) result.at(i / c.n, i % c.n) = y[i];
    return gemm_setup::collect(a, w.layout, result);
}

/// `count` random cases between guard pages: no byte beyond any buffer is touched, and padding is of no account.
inline void guarded_products(const kernel_list& tables, std::uint64_t first, std::size_t count) {
    for (std::uint64_t i = first; i < first + count; ++i) {
        gemm_case c = random_case(i, 50);
        c.m = i % 4 == 0 ? 30 + i % 40 : i % 9;
        const gemm_setup setup(c);
        const outcome expected = setup.run(aq::scalar::table);
        for (const aq::kernel_table* kernels : tables) {
            INFO(std::string(kernels->isa) << ": " << text(c));
            for (guard side : {guard::before, guard::after}) {
                CHECK(differing(guarded_outcome(setup, *kernels, side, false), expected) == 0);
                CHECK(differing(guarded_outcome(setup, *kernels, side, true), expected) == 0);
            }
        }
    }
}

}  // namespace aq_test
