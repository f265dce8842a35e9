/// \file
/// Rotary position embedding (Su et al. 2021, eq. 34) by a table of cosines and sines.
#pragma once

#include <cstddef>

#include "agilequant/core/matrix_view.hpp"
#include "agilequant/core/status.hpp"
#include "agilequant/elementwise/loops.hpp"
#include "agilequant/elementwise/portable_math.hpp"

namespace aq {

/// Which two channels of a head rotate together: c and c + head_dim/2 (Hugging Face), or 2c and 2c + 1 (the original
/// LLaMA and llama2.c).
enum class rope_pairing { halves, interleaved };

/// Fills table [max_length, head_dim]: row p holds cos(p f_c) for every pair c, then sin(p f_c), with
/// f_c = theta^(-2c / head_dim). Angles are double, rounded once to float, with the same bits everywhere; programs that keep
/// f_c in float differ from it at large p. bad_shape: head_dim is odd; bad_argument: theta is not positive.
[[nodiscard]] inline status make_rope_table(float theta, matrix_view<float> table) noexcept {
    if (table.cols % 2 != 0) return status::bad_shape;
    if (!(theta > 0.0F)) return status::bad_argument;
    AQ_TRY(check(table));
    const std::size_t half = table.cols / 2;
    for (std::size_t c = 0; c < half; ++c) {
        const double frequency = portable::power(theta, -static_cast<double>(c) / static_cast<double>(half));
        for (std::size_t p = 0; p < table.rows; ++p) {
            const auto [cosine, sine] = portable::cosine_and_sine(rounded(static_cast<double>(p) * frequency));
            table.row(p)[c] = static_cast<float>(cosine);
            table.row(p)[half + c] = static_cast<float>(sine);
        }
    }
    return status::ok;
}

namespace lanes {
template <class Lane>
AQ_INLINE void rotate(Lane& a, Lane& b, Lane cosine, Lane sine) noexcept {
    const Lane turned = lanes::rounded(a * cosine) - lanes::rounded(b * sine);
    b = lanes::rounded(a * sine) + lanes::rounded(b * cosine);
    a = turned;
}
}  // namespace lanes

/// Rotates the heads of one token, at `position`, in place. table: [max_length, head_dim] of make_rope_table; x: [heads,
/// head_dim]. bad_shape: the head_dims differ or are odd; bad_argument: position >= max_length. Interleaved pairs are rotated
/// one by one: a model whose rows of q and k are permuted to halves on loading is faster.
template <class Lane = lanes::native>
[[nodiscard]] status rope(matrix_view<const float> table, std::size_t position, rope_pairing pairing,
                          matrix_view<float> x) noexcept {
    if (table.cols != x.cols || x.cols % 2 != 0) return status::bad_shape;
    if (x.empty()) return status::ok;
    if (position >= table.rows) return status::bad_argument;
    AQ_TRY(check(table));
    AQ_TRY(check(x));
    const std::size_t half = x.cols / 2;
    const float *cosine = table.row(position), *sine = cosine + half;
    for (std::size_t h = 0; h < x.rows; ++h) {
        float* head = x.row(h);
        if (pairing == rope_pairing::interleaved) {
            for (std::size_t c = 0; c < half; ++c) lanes::rotate(head[2 * c], head[2 * c + 1], cosine[c], sine[c]);
            continue;
        }
        lanes::for_each<Lane>(half, [=](auto tag, std::size_t c) {
            using L = typename decltype(tag)::lane;
            L a = lanes::load<L>(head + c), b = lanes::load<L>(head + half + c);
            lanes::rotate(a, b, lanes::load<L>(cosine + c), lanes::load<L>(sine + c));
            lanes::store(head + c, a);
            lanes::store(head + half + c, b);
        });
    }
    return status::ok;
}

}  // namespace aq
