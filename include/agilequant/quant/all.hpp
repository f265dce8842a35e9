/// \file
/// The list of quantizers with scale and zero point, for tests and benchmarks to go through. A new one is a header and a row
/// here. Not in it: log2 codes of probabilities (quant/log2.hpp), which have neither.
#pragma once

#include <tuple>

#include "agilequant/quant/trip.hpp"
#include "agilequant/quant/uniform.hpp"

namespace aq {
namespace quant {

/// Every width and symmetry of the uniform quantizer.
using uniforms = std::tuple<uniform<2>, uniform<3>, uniform<4>, uniform<5>, uniform<6>, uniform<7>, uniform<8>,
                            uniform<2, symmetric>, uniform<3, symmetric>, uniform<4, symmetric>, uniform<5, symmetric>,
                            uniform<6, symmetric>, uniform<7, symmetric>, uniform<8, symmetric>>;

/// TRIP at the widths of activations that the paper uses, at the limits of K, and in both symmetries.
using trips = std::tuple<trip<4, 0>, trip<8, 0>, trip<4, 3>, trip<8, 3>, trip<4, 6>, trip<2, 6>, trip<4, 3, symmetric>,
                         trip<8, 3, symmetric>>;

/// All of them. Each has width, codes, is_asymmetric, granularity; fit(value_range) -> affine; encode(x, affine) -> code;
/// decode(code, affine) -> x.
using all = decltype(std::tuple_cat(uniforms{}, trips{}));

}  // namespace quant
}  // namespace aq
