/// \file
/// Oracles: what quantized operands stand for and what their product is, in double and in the plainest loops. For tests, and for
/// whoever doubts a kernel. Not fast, and never called by a kernel.
///
/// The product is y = x^ w^T with x^ = 2^exponent scale (code - zero) and w^ = scale (code - zero). The integer path rounds only in its
/// float epilogue, so its distance from the oracle has a bound that follows from the operands: gemm_error_bound.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agilequant/kernels/jobs.hpp"

namespace aq {
namespace reference {

/// The integer sums that one group of depth contributes to one output: a row of activations against a row of weights.
struct group_sums {
    std::int64_t products = 0;   ///< sum of 2^exponent (w - zero_w) a, raw activation codes
    std::int64_t weights = 0;    ///< sum of 2^exponent (w - zero_w)
    std::int64_t magnitude = 0;  ///< sum of 2^exponent |w - zero_w| |a - zero_a|
    double scale = 0.0;          ///< of the weights
};

/// Calls visit(group_sums) for each group of row r of a [m,k] against row c of w [n,k], in order.
template <class Tile = portable_tile, class Visit>
void for_each_group(const packed_weights& w, const activations_view& a, std::size_t r, std::size_t c, Visit&& visit) {
    std::size_t group = 0;
    group_sums sums;
    for (std::size_t i = 0; i < w.layout.run_count; ++i) {
        const k_run run = w.layout.runs[i];
        const packed_weights::group_affine fit = w.affine_of(c, group);
        for (std::size_t p = run.begin; p < run.end; ++p) {
            if (w.layout.channel(p) == padding) continue;
            const std::int64_t centred = unpack_code(w.codes, Tile::at(c, p, w.layout.packed, w.bits), w.bits) - fit.zero;
            const std::int64_t code = a.codes[r * a.stride + p], power = std::int64_t{1} << run.exponent;
            const std::int64_t product = centred * (code - a.zeros[r]);
            sums.products += power * centred * code;
            sums.weights += power * centred;
            sums.magnitude += power * (product < 0 ? -product : product);
        }
        if (!run.ends_group) continue;
        sums.scale = static_cast<double>(fit.scale) * fit.multiplier;
        visit(sums);
        sums = {};
        ++group;
    }
}

/// What packed weights [n,k] stand for -> out [n,k], columns in the order of channels. Exact.
template <class Tile = portable_tile>
void dequantize(const packed_weights& w, matrix_view<double> out) {
    for (std::size_t r = 0; r < w.n; ++r) {
        std::size_t group = 0;
        for (std::size_t i = 0; i < w.layout.run_count; ++i) {
            const k_run run = w.layout.runs[i];
            const packed_weights::group_affine fit = w.affine_of(r, group);
            for (std::size_t p = run.begin; p < run.end; ++p) {
                if (w.layout.channel(p) == padding) continue;
                const int code = unpack_code(w.codes, Tile::at(r, p, w.layout.packed, w.bits), w.bits);
                out.row(r)[w.layout.channel(p)] = static_cast<double>(fit.scale) * (fit.multiplier * (code - fit.zero));
            }
            group += run.ends_group ? 1 : 0;
        }
    }
}

/// What quantized activations [m,k] stand for -> out [m,k], columns in the order of channels. Exact.
inline void dequantize(const activations_view& a, const k_layout_view& layout, matrix_view<double> out) {
    for (std::size_t r = 0; r < a.m; ++r) {
        for (std::size_t i = 0; i < layout.run_count; ++i) {
            const k_run run = layout.runs[i];
            const double step = static_cast<double>(a.scales[r]) * (1 << run.exponent);
            for (std::size_t p = run.begin; p < run.end; ++p) {
                if (layout.channel(p) == padding) continue;
                out.row(r)[layout.channel(p)] = step * (a.codes[r * a.stride + p] - a.zeros[r]);
            }
        }
    }
}

/// x [m,k], w [n,k] -> y [m,n] = x w^T.
inline void matmul(matrix_view<const double> x, matrix_view<const double> w, matrix_view<double> y) {
    for (std::size_t r = 0; r < x.rows; ++r) {
        for (std::size_t c = 0; c < w.rows; ++c) {
            double sum = 0.0;
            for (std::size_t i = 0; i < x.cols; ++i) sum += x.row(r)[i] * w.row(c)[i];
            y.row(r)[c] = sum;
        }
    }
}

/// How far y[r,c] of aq::gemm may be from the oracle, underflow and overflow aside. With G groups and u = 2^-24 a group's exact integer is
/// rounded to float, multiplied, and passes at most G - 1 additions, a subtraction and a multiplication; the offset of an activation
/// zero point one multiplication more. So, with gamma = (G+4) u / (1 - (G+4) u) (Higham, Accuracy and Stability, lemma 3.1),
///     |error| <= gamma scale_a (sum_g scale_g |products_g| + |zero_a| sum_g scale_g |weights_g|)
/// and the oracle's own k roundings in double, with 2^-52 (k+2) of the sum of magnitudes.
template <class Tile = portable_tile>
[[nodiscard]] double gemm_error_bound(const packed_weights& w, const activations_view& a, std::size_t r, std::size_t c) {
    double products = 0.0, offsets = 0.0, magnitude = 0.0;
    for_each_group<Tile>(w, a, r, c, [&](const group_sums& g) {
        products += g.scale * static_cast<double>(g.products < 0 ? -g.products : g.products);
        offsets += g.scale * static_cast<double>(g.weights < 0 ? -g.weights : g.weights);
        magnitude += g.scale * static_cast<double>(g.magnitude);
    });
    const double zero = a.zeros[r] < 0 ? -static_cast<double>(a.zeros[r]) : static_cast<double>(a.zeros[r]);
    const double roundings = static_cast<double>(w.layout.groups + 4) * 0x1p-24;
    const double in_float = roundings / (1.0 - roundings) * (products + zero * offsets);
    const double in_double = 0x1p-52 * static_cast<double>(w.layout.k + 2) * magnitude;
    return static_cast<double>(a.scales[r]) * (in_float + in_double);
}

}  // namespace reference
}  // namespace aq
