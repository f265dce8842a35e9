/// \file
/// The loops of elementwise/: for each, map, reduce. The results do not depend on the lane type: a map has no order, and
/// a reduction has 16 sums whatever the width. Nothing outside `count` elements is touched. Internal.
#pragma once

#include <cstddef>

#include "agilequant/core/config.hpp"
#include "agilequant/core/exact_float.hpp"
#include "agilequant/elementwise/lanes.hpp"

namespace aq::lanes {

/// Hands a lane type to a generic lambda: `using L = typename decltype(tag)::lane`.
template <class Lane>
struct tag {
    using lane = Lane;
};

/// body(tag, i) at steps of one register, then of one float for the rest.
template <class Lane, class Body>
AQ_INLINE void for_each(std::size_t count, Body body) noexcept {
    const std::size_t whole = count - count % width<Lane>;
    for (std::size_t i = 0; i < whole; i += width<Lane>) body(tag<Lane>{}, i);
    for (std::size_t i = whole; i < count; ++i) body(tag<float>{}, i);
}

struct identity {
    template <class L>
    AQ_INLINE L operator()(L v) const noexcept {
        return v;
    }
};

/// y[i] = f(x[i]...). y may be one of the x.
template <class Lane, class F, class... X>
AQ_INLINE void map(std::size_t count, float* y, F f, const X*... x) noexcept {
    for_each<Lane>(count, [&](auto tag, std::size_t i) {
        using L = typename decltype(tag)::lane;
        lanes::store(y + i, f(load<L>(x + i)...));
    });
}

inline constexpr std::size_t reduction_lanes = 16;

/// Reduces f(x[i]...) with `combine`, beginning with `start`. Element i goes to sum i mod 16 in order of i; then sum l takes
/// sum l + 8, then l + 4, l + 2, l + 1. 16 because that is the widest register, and enough sums in flight for a narrow one.
template <class Lane, class Combine, class F, class... X>
[[nodiscard]] AQ_INLINE float reduce(std::size_t count, float start, Combine combine, F f, const X*... x) noexcept {
    static_assert(reduction_lanes % width<Lane> == 0, "aq: a register must hold a part of the 16 sums of a reduction.");
    constexpr std::size_t registers = reduction_lanes / width<Lane>;
    Lane wide[registers];
    for (Lane& sum : wide) sum = Lane(start);
    const std::size_t rest = count % reduction_lanes, whole = count - rest;
    for (std::size_t i = 0; i < whole; i += reduction_lanes)
        for (std::size_t r = 0; r < registers; ++r) wide[r] = combine(wide[r], f(load<Lane>(x + i + r * width<Lane>)...));

    float sums[reduction_lanes];
    for (std::size_t r = 0; r < registers; ++r) lanes::store(sums + r * width<Lane>, wide[r]);
    for (std::size_t l = 0; l < rest; ++l) sums[l] = combine(sums[l], f(x[whole + l]...));
    for (std::size_t half = reduction_lanes / 2; half > 0; half /= 2)
        for (std::size_t l = 0; l < half; ++l) sums[l] = combine(sums[l], sums[l + half]);
    return sums[0];
}

/// The sum of f(x[i]...).
template <class Lane, class F, class... X>
[[nodiscard]] AQ_INLINE float sum(std::size_t count, F f, const X*... x) noexcept {
    const auto plus = [](auto a, auto b) { return a + b; };
    return reduce<Lane>(count, 0.0F, plus, f, x...);
}

/// The greatest x[i], -infinity where there is none. A NaN is never greater: it is passed over.
template <class Lane>
[[nodiscard]] AQ_INLINE float maximum(std::size_t count, const float* x) noexcept {
    const auto greater = [](auto best, auto v) { return lanes::select(v > best, v, best); };
    return reduce<Lane>(count, float_of(0xFF800000U), greater, identity{}, x);
}

}  // namespace aq::lanes
