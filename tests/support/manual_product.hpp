/// \file
/// A product whose codes are set by hand, and whose integers therefore are known.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "support/gemm_case.hpp"

namespace aq_test {

/// Weights and activations from functions of their row and channel; one zero point for all weights, none for activations, scales 1,
/// and where group scales are integers the largest multiplier that codes from 0 on allow.
struct manual_product {
    aq::packed_storage<> packed;
    aq::packed_weights w;
    std::vector<std::int8_t> codes;
    std::vector<float> scales;
    std::vector<std::int32_t> zeros, sums;
    aq::activations_view a;

    template <class Weight, class Activation>
    manual_product(std::size_t m, std::size_t n, std::size_t k, aq::weight_format format, int activation_bits, Weight&& weight,
                   Activation&& activation, const std::uint8_t* exponents = nullptr, int zero = 0) {
        aq::coded_matrix coded;
        REQUIRE(coded.reset(format, n, k) == aq::status::ok);
        for (std::size_t r = 0; r < n; ++r) {
            for (std::size_t c = 0; c < k; ++c) coded.codes[r * k + c] = static_cast<std::uint8_t>(weight(r, c));
        }
        for (float& s : coded.scales) s = 1.0F;
        for (std::uint8_t& z : coded.zeros) z = static_cast<std::uint8_t>(zero);
        for (std::uint8_t& v : coded.multipliers) v = static_cast<std::uint8_t>(multiplier(format.bits));
        aq::k_layout layout;
        REQUIRE(layout.make(k, format.group, exponents) == aq::status::ok);
        REQUIRE(packed.assign(coded, std::move(layout)) == aq::status::ok);
        w = packed.view();
        const std::size_t stride = aq::activation_stride(w.layout.packed);
        codes.assign(m * stride + 1, 0);
        scales.assign(m, 1.0F);
        zeros.assign(m, 0);
        sums.assign(m * w.layout.groups + 1, 0);
        a = {activation_bits, m, stride, w.layout.id, codes.data(), scales.data(), zeros.data(), sums.data()};
        for (std::size_t r = 0; r < m; ++r) set_row(r, activation);
    }
    manual_product(const manual_product&) = delete;
    manual_product& operator=(const manual_product&) = delete;

    static int multiplier(int bits) { return aq::largest_multiplier(aq::unsigned_codes(bits), 0); }

    matrix product(const aq::kernel_table& kernels, bool has_scratch = false) const {
        return product(kernels, {has_scratch, 0, {0, a.m}, {0, w.panels()}});
    }
    matrix product(const aq::kernel_table& kernels, const gemm_request& request) const {
        return aq_test::product(kernels, w, a, request);
    }

private:
    template <class Activation>
    void set_row(std::size_t r, Activation&& activation) {
        std::size_t channel = 0, group = 0;
        for (std::size_t i = 0; i < w.layout.run_count; ++i) {
            const aq::k_run run = w.layout.runs[i];
            for (std::size_t p = run.begin; p < run.end && w.layout.channel(p) != aq::padding; ++p) {
                const int code = activation(r, channel++);
                codes[r * a.stride + p] = static_cast<std::int8_t>(code);
                sums[r * w.layout.groups + group] += code * (1 << run.exponent);
            }
            group += run.ends_group ? 1 : 0;
        }
    }
};

}  // namespace aq_test
