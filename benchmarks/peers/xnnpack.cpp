/// \file
/// XNNPACK's fully connected layers: activations quantized by rows at each product, weights of 4 bits by channels or blocks or
/// of 8 bits by channels; and float. Through graphs, because those choose the kernels for the processor.
#include <pthreadpool.h>
#include <xnnpack.h>

#include <algorithm>
#include <array>

#include "peers/peer.hpp"
#include "peers/tolerance.hpp"
#include "peers/xnnpack_graph.hpp"

namespace aq_bench {
namespace {

using xnnpack::handle;
using xnnpack::weights;

bool initialize() {
    static const bool value = xnn_initialize(nullptr) == xnn_status_success;
    return value;
}

/// A runtime for each copy of the weights, each of which packs its own.
class xnnpack_product final : public prepared_product {
public:
    /// The kernels read beyond the end of x, and of nothing else that they are given.
    explicit xnnpack_product(const product_input& in)
        : x_(in.shape.m * in.shape.k + XNN_EXTRA_BYTES / sizeof(float)), y_(in.shape.m * in.shape.n) {
        std::copy_n(in.x, in.shape.m * in.shape.k, x_.begin());
        if (in.shape.threads > 1) pool_.reset(pthreadpool_create(static_cast<std::size_t>(in.shape.threads)));
    }

    bool prepare(const product_input& in, weights kind, std::size_t block) {
        const xnnpack::static_weights from = xnnpack::make_weights(in, kind, block);
        const handle<xnn_subgraph> graph = xnnpack::graph_builder(in).build(kind, block, from);
        if (!graph) return false;
        set_weight_bytes(in, kind, block);
        const std::array<xnn_external_value, 2> values{xnn_external_value{0, x_.data()}, xnn_external_value{1, y_.data()}};
        for (std::size_t copy = 0; copy < in.copies; ++copy) {
            xnn_runtime_t made = nullptr;
            if (xnn_create_runtime_v2(graph.get(), pool_.get(), 0, &made) != xnn_status_success) return false;
            runtimes_.emplace_back(made);
            if (xnn_reshape_runtime(made) != xnn_status_success) return false;
            if (xnn_setup_runtime_v2(made, values.size(), values.data()) != xnn_status_success) return false;
        }
        return true;
    }

    void run(std::size_t copy) override { xnn_invoke_runtime(runtimes_[copy].get()); }
    [[nodiscard]] const float* y() const override { return y_.data(); }
    [[nodiscard]] double weight_bytes() const override { return weight_bytes_; }

private:
    /// With the sum of each channel's codes, for the activations' zero point.
    void set_weight_bytes(const product_input& in, weights kind, std::size_t block) {
        const double n = static_cast<double>(in.shape.n), k = static_cast<double>(in.shape.k);
        switch (kind) {
            case weights::float32: weight_bytes_ = n * k * 4; break;
            case weights::channels_8: weight_bytes_ = n * (k + 8); break;
            case weights::channels_4: weight_bytes_ = n * (k / 2 + 8); break;
            case weights::blocks_4: weight_bytes_ = n * (k / 2 + k / static_cast<double>(block) * 2 + 4); break;
        }
    }

    std::vector<float> x_, y_;
    double weight_bytes_ = 0.0;
    handle<pthreadpool> pool_;
    std::vector<handle<xnn_runtime>> runtimes_;
};

peer make_peer(const char* format, weights kind, std::size_t block, double tolerance) {
    return {"xnnpack", format, tolerance, [=](const product_input& in) -> std::unique_ptr<prepared_product> {
                if (!initialize() || in.shape.k % block != 0) return nullptr;
                auto product = std::make_unique<xnnpack_product>(in);
                if (!product->prepare(in, kind, block)) return nullptr;
                return product;
            }};
}

}  // namespace

/// Scales of activations and of channels cover a row: 11008 values at most.
std::vector<peer> xnnpack_peers() {
    constexpr double row = 11008;
    const double a8 = rounding_error(row, 127);
    return {make_peer("w4pca8", weights::channels_4, 2, product_error(a8, rounding_error(row, 7))),
            make_peer("w4g128a8", weights::blocks_4, 128, product_error(a8, rounding_error(128, 7))),
            make_peer("w4g32a8", weights::blocks_4, 32, product_error(a8, rounding_error(32, 7))),
            make_peer("w8pca8", weights::channels_8, 1, product_error(a8, a8)),
            make_peer("f32", weights::float32, 1, float_error())};
}

}  // namespace aq_bench
