/// \file
/// ggml's products: blocks of 32 weights with a half-precision scale against activations that it quantizes to Q8_0 at each
/// product, as they are stored in its files and, where it has them, repacked for its wide kernels; half, bfloat16 and float.
#include <cstdint>

#include "peers/ggml_parts.hpp"
#include "peers/peer.hpp"
#include "peers/tolerance.hpp"

namespace aq_bench {
namespace {

/// The places for weights that rearrange them for the kernels of this CPU, ended by null; null where there are none.
ggml_backend_buffer_type_t* repacking_places(ggml_backend_dev_t device) {
    ggml_backend_reg_t registry = ggml_backend_dev_backend_reg(device);
    void* address = ggml_backend_reg_get_proc_address(registry, "ggml_backend_dev_get_extra_bufts");
    return address ? reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(address)(device) : nullptr;
}

class ggml_product final : public prepared_product {
public:
    explicit ggml_product(const product_input& in)
        : weights_(make_ggml_context(in.copies, 0)),
          products_(make_ggml_context(in.copies + 1, in.copies)),
          processor_(in.shape.threads) {}

    /// False: there are no kernels for weights of this type in this place.
    bool prepare(const product_input& in, ggml_type type, bool repacked) {
        const auto n = static_cast<std::int64_t>(in.shape.n), k = static_cast<std::int64_t>(in.shape.k);
        if (k % ggml_blck_size(type) != 0) return false;
        for (std::size_t i = 0; i < in.copies; ++i) ggml_new_tensor_2d(weights_.get(), type, k, n);
        make_graphs(in.shape);
        if (!place_weights(repacked)) return false;
        fill_weights(in, type);
        return place_activations(in.x);
    }

    void run(std::size_t copy) override { ggml_backend_graph_compute(processor_.get(), graphs_[copy]); }
    [[nodiscard]] const float* y() const override {
        return static_cast<const float*>(ggml_backend_buffer_get_base(y_buffer_.get()));
    }
    [[nodiscard]] double weight_bytes() const override { return static_cast<double>(ggml_nbytes(first_weight())); }

private:
    ggml_tensor* first_weight() const { return ggml_get_first_tensor(weights_.get()); }

    void make_graphs(const product_shape& shape) {
        const auto m = static_cast<std::int64_t>(shape.m), k = static_cast<std::int64_t>(shape.k);
        x_ = ggml_new_tensor_2d(products_.get(), GGML_TYPE_F32, k, m);
        for (ggml_tensor* w = first_weight(); w; w = ggml_get_next_tensor(weights_.get(), w)) {
            y_.push_back(ggml_mul_mat(products_.get(), w, x_));
            graphs_.push_back(make_ggml_graph(products_.get(), y_.back()));
        }
    }

    bool place_weights(bool repacked) {
        if (!repacked) {
            w_buffer_.reset(ggml_backend_alloc_ctx_tensors(weights_.get(), processor_.get()));
            return w_buffer_ != nullptr;
        }
        ggml_backend_dev_t device = ggml_backend_get_device(processor_.get());
        for (ggml_backend_buffer_type_t* place = repacking_places(device); place && *place; ++place) {
            forget_place();
            w_buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(weights_.get(), *place));
            if (w_buffer_ && ggml_backend_dev_supports_op(device, y_.front())) return true;
        }
        return false;
    }

    void forget_place() {
        for (ggml_tensor* w = first_weight(); w; w = ggml_get_next_tensor(weights_.get(), w)) {
            w->buffer = nullptr;
            w->data = nullptr;
            w->extra = nullptr;
        }
    }

    void fill_weights(const product_input& in, ggml_type type) {
        std::vector<std::uint8_t> codes(ggml_nbytes(first_weight()));
        const auto n = static_cast<std::int64_t>(in.shape.n), k = static_cast<std::int64_t>(in.shape.k);
        ggml_quantize_chunk(type, in.w, codes.data(), 0, n, k, nullptr);
        for (ggml_tensor* w = first_weight(); w; w = ggml_get_next_tensor(weights_.get(), w))
            ggml_backend_tensor_set(w, codes.data(), 0, codes.size());
    }

    /// All products share one result, so that only weights are cold.
    bool place_activations(const float* x) {
        x_buffer_.reset(ggml_backend_alloc_buffer(processor_.get(), ggml_nbytes(x_)));
        y_buffer_.reset(ggml_backend_alloc_buffer(processor_.get(), ggml_nbytes(y_.front())));
        if (!x_buffer_ || !y_buffer_) return false;
        ggml_backend_tensor_alloc(x_buffer_.get(), x_, ggml_backend_buffer_get_base(x_buffer_.get()));
        ggml_backend_tensor_set(x_, x, 0, ggml_nbytes(x_));
        for (ggml_tensor* y : y_) ggml_backend_tensor_alloc(y_buffer_.get(), y, ggml_backend_buffer_get_base(y_buffer_.get()));
        return true;
    }

    ggml_context_ptr weights_, products_;
    ggml_processor processor_;
    ggml_backend_buffer_ptr w_buffer_, x_buffer_, y_buffer_;
    ggml_tensor* x_ = nullptr;
    std::vector<ggml_tensor*> y_;
    std::vector<ggml_cgraph*> graphs_;
};

peer make_peer(const char* format, ggml_type type, bool repacked, double tolerance) {
    return {"ggml", format, tolerance, [=](const product_input& in) -> std::unique_ptr<prepared_product> {
                auto product = std::make_unique<ggml_product>(in);
                if (!product->prepare(in, type, repacked)) return nullptr;
                return product;
            }};
}

}  // namespace

/// Q4_0 has the codes -8..7, of which the largest value of a block takes -8; Q4_K and Q8_0 have a scale for each 32 values too.
std::vector<peer> ggml_peers() {
    ggml_log_set(print_errors_only, nullptr);
    const double a8 = rounding_error(32, 127), a8_of_256 = rounding_error(256, 127);
    const double q4 = product_error(a8, rounding_error(32, 8)), q8 = product_error(a8, a8);
    const double q4_k = product_error(a8_of_256, rounding_error(32, 7.5));
    const double half = std::ldexp(1.0, -11), bfloat = std::ldexp(1.0, -8);
    return {make_peer("q4_0", GGML_TYPE_Q4_0, false, q4),
            make_peer("q4_0_repacked", GGML_TYPE_Q4_0, true, q4),
            make_peer("q4_k_repacked", GGML_TYPE_Q4_K, true, q4_k),
            make_peer("q8_0", GGML_TYPE_Q8_0, false, q8),
            make_peer("q8_0_repacked", GGML_TYPE_Q8_0, true, q8),
            make_peer("f16", GGML_TYPE_F16, false, product_error(half, half)),
            make_peer("bf16", GGML_TYPE_BF16, false, product_error(bfloat, bfloat)),
            make_peer("f32", GGML_TYPE_F32, false, float_error())};
}

}  // namespace aq_bench
