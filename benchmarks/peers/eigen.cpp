// peer/eigen/f32: Eigen's own product, compiled for the machine that it is built on.
#include <Eigen/Dense>

#include "peers/copies.hpp"
#include "peers/tolerance.hpp"

namespace aq_bench {

namespace {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using view = Eigen::Map<const matrix>;

void multiply(const product_shape& s, const float* x, const float* w, float* y) {
    const auto m = static_cast<Eigen::Index>(s.m), n = static_cast<Eigen::Index>(s.n), k = static_cast<Eigen::Index>(s.k);
    Eigen::setNbThreads(s.threads);
    const view weights(w, n, k);
    if (m == 1) {  // Eigen takes its path for vectors only when the type says so
        Eigen::Map<Eigen::VectorXf>(y, n).noalias() = weights * Eigen::Map<const Eigen::VectorXf>(x, k);
    } else {
        Eigen::Map<matrix>(y, m, n).noalias() = view(x, m, k) * weights.transpose();
    }
}

}  // namespace

std::vector<peer> eigen_peers() {
    return {
        {"eigen", "f32", float_error(), [](const product_input& in) { return std::make_unique<float_product>(in, multiply); }}};
}

}  // namespace aq_bench
