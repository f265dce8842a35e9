// peer/openblas/f32: sgemm, and sgemv for one row.
#include <cblas.h>
#include <openblas_config.h>

#include <algorithm>

#include "peers/copies.hpp"
#include "peers/peer.hpp"
#include "peers/tolerance.hpp"

namespace aq_bench {

namespace {

class openblas_product final : public prepared_product {
public:
    explicit openblas_product(const product_input& in)
        : in_(in), weights_(in.w, in.shape.n * in.shape.k, in.copies), y_(in.shape.m * in.shape.n) {}
    void run(std::size_t copy) override {
        const auto m = static_cast<blasint>(in_.shape.m), n = static_cast<blasint>(in_.shape.n),
                   k = static_cast<blasint>(in_.shape.k);
        openblas_set_num_threads(in_.shape.threads);
        if (m == 1) {
            cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1.0F, weights_.at(copy), k, in_.x, 1, 0.0F, y_.data(), 1);
        } else {
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, m, n, k, 1.0F, in_.x, k, weights_.at(copy), k, 0.0F, y_.data(),
                        n);
        }
    }
    [[nodiscard]] const float* y() const override { return y_.data(); }
    [[nodiscard]] double weight_bytes() const override { return weights_.bytes_of_one(); }

private:
    product_input in_;
    copies<float> weights_;
    std::vector<float> y_;
};

}  // namespace

std::vector<peer> openblas_peers() {
    return {{"openblas", "f32", float_error(), [](const product_input& in) { return std::make_unique<openblas_product>(in); }}};
}

}  // namespace aq_bench
