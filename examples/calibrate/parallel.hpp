/// \file
/// Loops of the calibration on several threads. Whatever their number, the results have the same bits.
#pragma once

#include <agilequant/model/run_context.hpp>
#include <agilequant/quant/refit.hpp>

namespace aq::example {

/// work(i) -> status for all i; one of the failures comes back, if there are any.
template <class Work>
[[nodiscard]] status over(const executor& threads, std::size_t count, const Work& work) {
    task_status result;
    threads.for_each(count, [&](std::size_t i, std::size_t) { result.note(work(i)); });
    return result.get();
}

/// work(index_range) -> status for the pieces of 0 .. count.
template <class Work>
[[nodiscard]] status over_pieces(const executor& threads, std::size_t count, const Work& work) {
    const std::size_t pieces = piece_count(threads, count);
    return over(threads, pieces, [&](std::size_t i) { return work(piece(count, pieces, i)); });
}

/// hessian::add. Row i of H has channels - i sums: there are enough pieces for the long ones not to keep a thread busy alone.
[[nodiscard]] inline status add_in_parallel(const executor& threads, hessian& sums, matrix_view<const float> x) {
    return over_pieces(threads, x.cols, [&](index_range r) { return sums.add(x, r.begin, r.end); });
}

/// coding_loss::add.
[[nodiscard]] inline status add_in_parallel(const executor& threads, coding_loss& sums, matrix_view<const float> x,
                                            matrix_view<const float> coded) {
    return over_pieces(threads, x.cols, [&](index_range r) { return sums.add(x, coded, r.begin, r.end); });
}

}  // namespace aq::example
