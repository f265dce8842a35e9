/// \file
/// ONNX Runtime's products: MatMulNBits, which quantizes activations by blocks where accuracy level 4 allows it 8-bit
/// products; DynamicQuantizeMatMul, whose activations share one scale; MatMul in float.
#include <utility>

#include "peers/grouped_codes.hpp"
#include "peers/onnx_model.hpp"
#include "peers/onnx_session.hpp"
#include "peers/peer.hpp"
#include "peers/tolerance.hpp"

namespace aq_bench {
namespace {

using onnx::api;
using onnx::handle;
using onnx::succeeded;

/// A session for each copy of the weights, each of which arranges its own for the kernels.
class onnxruntime_product final : public prepared_product {
public:
    explicit onnxruntime_product(const product_shape& shape) : result_(shape.m * shape.n) {}

    bool prepare(const product_input& in, const onnx::node& node) {
        const product_shape& s = in.shape;
        const std::string model = onnx::model(node, {s.m, s.k}, {s.m, s.n});
        for (const onnx::message& c : node.constants) weight_bytes_ += static_cast<double>(c.bytes().size());
        if (!keep(environment_, [](OrtEnv** out) { return api()->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "peer", out); }))
            return false;
        const handle<OrtSessionOptions> options = onnx::make_options(s.threads);
        sessions_.resize(options ? in.copies : 0);
        for (handle<OrtSession>& session : sessions_) {
            if (!keep(session, [&](OrtSession** out) {
                    return api()->CreateSessionFromArray(environment_.get(), model.data(), model.size(), options.get(), out);
                }))
                return false;
        }
        x_ = onnx::make_tensor(in.x, s.m, s.k);
        y_ = onnx::make_tensor(result_.data(), s.m, s.n);
        return !sessions_.empty() && x_ && y_;
    }

    void run(std::size_t copy) override {
        const char* const names[2] = {"x", "y"};
        const OrtValue* x = x_.get();
        OrtValue* y = y_.get();
        if (!succeeded(api()->Run(sessions_[copy].get(), nullptr, &names[0], &x, 1, &names[1], 1, &y)))
            result_.assign(result_.size(), 0.0F);
    }
    [[nodiscard]] const float* y() const override { return result_.data(); }
    [[nodiscard]] double weight_bytes() const override { return weight_bytes_; }

private:
    std::vector<float> result_;
    double weight_bytes_ = 0.0;
    handle<OrtEnv> environment_;
    std::vector<handle<OrtSession>> sessions_;
    handle<OrtValue> x_, y_;
};

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// x codes are bytes with a scale for each `block`, w codes have 4 or 8 bits, of which the middle value is zero.
onnx::node blockwise(const product_input& in, std::size_t bits, std::size_t block) {
    const auto [n, k] = std::pair(in.shape.n, in.shape.k);
    const grouped_codes w = round_to_codes(in.w, n, k, block, bits == 4 ? 7 : 127);
    std::string packed(n * k * bits / 8, '\0');
    for (std::size_t i = 0; i < n * k; ++i) {
        const unsigned code = static_cast<unsigned>(w.codes[i] + (bits == 4 ? 8 : 128));
        char& byte = packed[i * bits / 8];
        byte = static_cast<char>(static_cast<unsigned char>(byte) | (bits == 4 && i % 2 == 1 ? code << 4U : code));
    }
    return {"MatMulNBits",
            "com.microsoft",
            {"codes", "scales"},
            {onnx::constant("codes", onnx::element::uint8, {n, k / block, block * bits / 8}, packed),
             onnx::constant("scales", onnx::element::float32, {n, k / block}, bytes_of(w.scales))},
            {onnx::integer_attribute("K", k), onnx::integer_attribute("N", n), onnx::integer_attribute("bits", bits),
             onnx::integer_attribute("block_size", block), onnx::integer_attribute("accuracy_level", 4)}};
}

template <typename T>
std::vector<T> transposed(const T* w, std::size_t n, std::size_t k) {
    std::vector<T> result(n * k);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < k; ++j) result[j * n + i] = w[i * k + j];
    return result;
}

onnx::node per_channel(const product_input& in) {
    const auto [n, k] = std::pair(in.shape.n, in.shape.k);
    const grouped_codes w = round_to_codes(in.w, n, k, k, 127);
    return {"DynamicQuantizeMatMul",
            "com.microsoft",
            {"codes", "scales"},
            {onnx::constant("codes", onnx::element::int8, {k, n}, bytes_of(transposed(w.codes.data(), n, k))),
             onnx::constant("scales", onnx::element::float32, {n}, bytes_of(w.scales))},
            {}};
}

onnx::node in_float(const product_input& in) {
    const auto [n, k] = std::pair(in.shape.n, in.shape.k);
    return {"MatMul", "", {"w"}, {onnx::constant("w", onnx::element::float32, {k, n}, bytes_of(transposed(in.w, n, k)))}, {}};
}

using node_maker = std::function<onnx::node(const product_input&)>;

peer make_peer(const char* format, std::size_t group, double tolerance, const node_maker& make) {
    return {"onnxruntime", format, tolerance, [=](const product_input& in) -> std::unique_ptr<prepared_product> {
                if (!api() || in.shape.k % group != 0) return nullptr;
                auto product = std::make_unique<onnxruntime_product>(in.shape);
                if (!product->prepare(in, make(in))) return nullptr;
                return product;
            }};
}

peer make_blockwise(const char* format, std::size_t bits, std::size_t block) {
    const double group = static_cast<double>(block);
    const double tolerance = product_error(rounding_error(group, 127), rounding_error(group, bits == 4 ? 7 : 127));
    return make_peer(format, block, tolerance, [=](const product_input& in) { return blockwise(in, bits, block); });
}

}  // namespace

/// The largest of all activations counts for w8pca8: 512 rows of 11008 at most.
std::vector<peer> onnxruntime_peers() {
    const double w8pca8 = product_error(rounding_error(512 * 11008, 127), rounding_error(11008, 127));
    return {make_blockwise("w4g32a8", 4, 32), make_blockwise("w4g128a8", 4, 128), make_blockwise("w8g128a8", 8, 128),
            make_peer("w8pca8", 1, w8pca8, per_channel), make_peer("f32", 1, float_error(), in_float)};
}

}  // namespace aq_bench
