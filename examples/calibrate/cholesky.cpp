// Eigen would cut sums by the number of threads.
#define EIGEN_DONT_PARALLELIZE

#include "calibrate/cholesky.hpp"

#include <Eigen/Cholesky>
#include <new>

namespace aq::example {

namespace {

using matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using matrix_map = Eigen::Map<matrix, Eigen::Unaligned, Eigen::OuterStride<>>;
using matrix_ref = Eigen::Ref<matrix, Eigen::Unaligned, Eigen::OuterStride<>>;

/// Rows and columns from the last to the first, in place.
void reverse(matrix_map& m) {
    for (Eigen::Index i = 0; i < m.rows() / 2; ++i) m.row(i).swap(m.row(m.rows() - 1 - i));
    for (Eigen::Index i = 0; i < m.cols() / 2; ++i) m.col(i).swap(m.col(m.cols() - 1 - i));
}

/// With J h J = L L^T, where J reverses, h = (J L J) (J L J)^T, and U = (J L J)^-1 = J L^-1 J: one factorization, and no inverse of h.
status factor(void*, matrix_view<double> h) {
    const auto k = static_cast<Eigen::Index>(h.rows);
    matrix_map m(h.data, k, k, Eigen::OuterStride<>(static_cast<Eigen::Index>(h.stride)));
    try {
        matrix inverse = matrix::Identity(k, k);
        reverse(m);
        const Eigen::LLT<matrix_ref> lower(m);  // in place
        // a pivot that is no number passes Eigen's test, which asks whether it is negative
        if (lower.info() != Eigen::Success || !m.diagonal().allFinite()) return status::not_positive_definite;
        lower.matrixL().solveInPlace(inverse);
        m = inverse.reverse();
    } catch (const std::bad_alloc&) {
        return status::out_of_memory;
    }
    return status::ok;
}

}  // namespace

inverse_cholesky eigen_cholesky() noexcept { return {nullptr, factor}; }

}  // namespace aq::example
