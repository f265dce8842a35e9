// peer/openblas/f32: sgemm, and sgemv for one row.
#include <cblas.h>
#include <openblas_config.h>

#include "peers/copies.hpp"
#include "peers/tolerance.hpp"

namespace aq_bench {

namespace {

void multiply(const product_shape& s, const float* x, const float* w, float* y) {
    const auto m = static_cast<blasint>(s.m), n = static_cast<blasint>(s.n), k = static_cast<blasint>(s.k);
    openblas_set_num_threads(s.threads);
    if (m == 1) cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1.0F, w, k, x, 1, 0.0F, y, 1);
    else cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0F, x, k, w, k, 0.0F, y, n);
}

}  // namespace

std::vector<peer> openblas_peers() {
    return {{"openblas", "f32", float_error(),
             [](const product_input& in) { return std::make_unique<float_product>(in, multiply); }}};
}

}  // namespace aq_bench
