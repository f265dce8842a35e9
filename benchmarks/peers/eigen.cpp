// peer/eigen/f32: Eigen's own product, compiled for the machine that it is built on.
#include <Eigen/Dense>

#include "peers/copies.hpp"
#include "peers/peer.hpp"
#include "peers/tolerance.hpp"

namespace aq_bench {

namespace {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using view = Eigen::Map<const matrix>;

class eigen_product final : public prepared_product {
public:
    explicit eigen_product(const product_input& in)
        : in_(in), weights_(in.w, in.shape.n * in.shape.k, in.copies), y_(in.shape.m * in.shape.n) {}
    void run(std::size_t copy) override {
        const auto m = static_cast<Eigen::Index>(in_.shape.m), n = static_cast<Eigen::Index>(in_.shape.n),
                   k = static_cast<Eigen::Index>(in_.shape.k);
        Eigen::setNbThreads(in_.shape.threads);
        const view w(weights_.at(copy), n, k);
        if (m == 1) {  // Eigen takes its path for vectors only when the type says so
            Eigen::Map<Eigen::VectorXf>(y_.data(), n).noalias() = w * Eigen::Map<const Eigen::VectorXf>(in_.x, k);
        } else {
            Eigen::Map<matrix>(y_.data(), m, n).noalias() = view(in_.x, m, k) * w.transpose();
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

std::vector<peer> eigen_peers() {
    return {{"eigen", "f32", float_error(), [](const product_input& in) { return std::make_unique<eigen_product>(in); }}};
}

}  // namespace aq_bench
