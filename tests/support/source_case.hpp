/// \file
/// Rows that are computed on the way to whoever takes them: random sources of every stage, and what elementwise/ says that they are.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "agilequant/elementwise/activation.hpp"
#include "agilequant/elementwise/norm.hpp"
#include "agilequant/kernels/write_rows.hpp"
#include "elementwise/samples.hpp"
#include "support/gemm_case.hpp"

namespace aq_test {

inline constexpr aq::row_stage row_stages[] = {aq::row_stage::none,      aq::row_stage::rms_norm, aq::row_stage::layer_norm,
                                               aq::row_stage::silu_gate, aq::row_stage::relu,     aq::row_stage::gelu};

/// A source of a seed's stage and shape, whose matrices lie `gap` floats apart in their rows and touch a guard page on `side`.
class source_case {
public:
    std::size_t m, k;
    aq::row_stage stage;
    float eps;

    explicit source_case(std::uint64_t seed, guard side = guard::after) : source_case(seed, random_source(seed * 7919), side) {}

    aq::row_source source() const {
        const aq::matrix_view<const float> x(x_.data(), m, k, k + gap_), gate(gate_.data(), m, k, k + gap_);
        switch (stage) {
            case aq::row_stage::none: break;
            case aq::row_stage::rms_norm: return aq::row_source::rms_norm(x, gain_.data(), eps);
            case aq::row_stage::layer_norm: return aq::row_source::layer_norm(x, gain_.data(), bias_.data(), eps);
            case aq::row_stage::silu_gate: return aq::row_source::silu_gate(gate, x);
            case aq::row_stage::relu: return aq::row_source::relu(x);
            case aq::row_stage::gelu: return aq::row_source::gelu(x);
        }
        return aq::row_source::plain(x);
    }

    /// [m,k] by the definitions of elementwise/.
    std::vector<float> defined() const {
        const aq::row_source s = source();
        std::vector<float> y(m * k);
        const aq::matrix_view<float> out(y.data(), m, k);
        for (std::size_t r = 0; r < m && k != 0; ++r) {
            if (stage == aq::row_stage::none) std::copy(s.x.row(r), s.x.row(r) + k, out.row(r));
            if (stage == aq::row_stage::silu_gate) aq::silu_gate<definition>(s.gate.row(r), s.x.row(r), k, out.row(r));
            if (stage == aq::row_stage::relu) aq::relu<definition>(s.x.row(r), k, out.row(r));
            if (stage == aq::row_stage::gelu) aq::gelu<definition>(s.x.row(r), k, out.row(r));
        }
        if (stage == aq::row_stage::rms_norm) REQUIRE(aq::rms_norm<definition>(s.x, s.gain, eps, out) == aq::status::ok);
        if (stage == aq::row_stage::layer_norm)
            REQUIRE(aq::layer_norm<definition>(s.x, s.gain, s.bias, eps, out) == aq::status::ok);
        return y;
    }

    /// [m,k] as `kernels` write it, next to a guard page.
    std::vector<float> written(const aq::kernel_table& kernels, guard side = guard::after) const {
        guarded<float> y(m * k, side);
        REQUIRE(aq::write_rows(kernels, source(), {0, m}, {y.data(), m, k}) == aq::status::ok);
        return {y.data(), y.data() + m * k};
    }

private:
    source_case(std::uint64_t seed, random_source random, guard side)
        : m(random.below(4)),
          k(random.below(seed % 20 == 0 ? 1500 : 80) / (seed % 3 == 0 ? 16 : 1) *
            (seed % 3 == 0 ? 16 : 1)),  // some without a tail
          stage(row_stages[random.below(std::size(row_stages))]),
          eps(random.below(4) == 0 ? 0.0F : 1e-5F),
          gap_(random.below(3)),
          x_(size(), side),
          gate_(size(), side),
          gain_(k, side),
          bias_(k, side) {
        numbers values(static_cast<std::uint32_t>(seed));
        const std::size_t kind = random.below(3);  // ordinary, with special values, with NaN too
        for (guarded<float>* rows : {&x_, &gate_}) {
            for (std::size_t r = 0; r < m; ++r) {
                const std::vector<float> row = kind == 0 ? values.take(k, 9.0F) : values.take_mixed(k, 120.0F, kind == 2);
                std::copy(row.begin(), row.end(), rows->data() + r * (k + gap_));
            }
        }
        for (guarded<float>* row : {&gain_, &bias_}) {
            const std::vector<float> of_row = values.take(k, 2.0F);
            std::copy(of_row.begin(), of_row.end(), row->data());
        }
    }
    /// The gap behind the last row is not there.
    std::size_t size() const { return m == 0 ? 0 : m * (k + gap_) - gap_; }

    std::size_t gap_;
    guarded<float> x_, gate_, gain_, bias_;
};

inline std::string text(const source_case& c) {
    std::ostringstream s;
    s << "stage " << static_cast<int>(c.stage) << " m " << c.m << " k " << c.k;
    return s.str();
}

}  // namespace aq_test
