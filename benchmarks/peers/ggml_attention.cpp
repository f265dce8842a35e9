/// \file
/// ggml's flash attention, on caches of halves and of blocks of 32 codes with a half-precision scale, laid out as its programs do:
/// a row a token, the heads one after the other.
#include <cmath>
#include <cstdint>
#include <limits>

#include "peers/attention_peer.hpp"
#include "peers/ggml_parts.hpp"
#include "peers/tolerance.hpp"

namespace aq_bench {
namespace {

/// [head_dim, heads, tokens] as the operation wants it: [head_dim, tokens, heads].
ggml_tensor* by_heads(ggml_context* context, ggml_tensor* t) { return ggml_permute(context, t, 0, 2, 1, 3); }

class ggml_attention final : public prepared_attention {
public:
    explicit ggml_attention(const attention_input& in)
        : caches_(make_ggml_context(4 * in.copies, 0)),
          queries_(make_ggml_context(3, 0)),
          results_(make_ggml_context(in.copies, in.copies)),
          processor_(in.shape.threads) {}

    /// False: there is no room.
    bool prepare(const attention_input& in, ggml_type type) {
        const attention_shape& s = in.shape;
        const auto dim = static_cast<std::int64_t>(s.head_dim), heads = static_cast<std::int64_t>(s.heads);
        const auto rows = static_cast<std::int64_t>(s.rows()), length = static_cast<std::int64_t>(s.length);
        q_ = ggml_new_tensor_3d(queries_.get(), GGML_TYPE_F32, dim, heads, rows);
        mask_ = ggml_new_tensor_2d(queries_.get(), GGML_TYPE_F16, length, rows);
        ggml_tensor* const q = by_heads(queries_.get(), q_);
        for (std::size_t i = 0; i < in.copies; ++i) {
            k_.push_back(ggml_new_tensor_3d(caches_.get(), type, dim, heads, length));
            v_.push_back(ggml_new_tensor_3d(caches_.get(), type, dim, heads, length));
            ggml_tensor* const k = by_heads(caches_.get(), k_.back());
            ggml_tensor* const v = by_heads(caches_.get(), v_.back());
            const float scale = 1.0F / std::sqrt(static_cast<float>(s.head_dim));
            out_.push_back(ggml_flash_attn_ext(results_.get(), q, k, v, mask_, scale, 0.0F, 0.0F));
            graphs_.push_back(make_ggml_graph(results_.get(), out_.back()));
        }
        return place(in, type);
    }

    void run(std::size_t copy) override { ggml_backend_graph_compute(processor_.get(), graphs_[copy]); }
    [[nodiscard]] const float* out() const override {
        return static_cast<const float*>(ggml_backend_buffer_get_base(out_buffer_.get()));
    }
    [[nodiscard]] double cache_bytes() const override { return static_cast<double>(ggml_nbytes(k_[0]) + ggml_nbytes(v_[0])); }

private:
    /// All copies share one result, so that only caches are cold.
    bool place(const attention_input& in, ggml_type type) {
        cache_buffer_.reset(ggml_backend_alloc_ctx_tensors(caches_.get(), processor_.get()));
        query_buffer_.reset(ggml_backend_alloc_ctx_tensors(queries_.get(), processor_.get()));
        out_buffer_.reset(ggml_backend_alloc_buffer(processor_.get(), ggml_nbytes(out_.front())));
        if (!cache_buffer_ || !query_buffer_ || !out_buffer_) return false;
        for (ggml_tensor* out : out_)
            ggml_backend_tensor_alloc(out_buffer_.get(), out, ggml_backend_buffer_get_base(out_buffer_.get()));
        ggml_backend_tensor_set(q_, in.q, 0, ggml_nbytes(q_));
        fill(k_, in.k, in.shape, type);
        fill(v_, in.v, in.shape, type);
        fill_mask(in.shape);
        return true;
    }

    static void fill(const std::vector<ggml_tensor*>& tensors, const float* values, const attention_shape& s, ggml_type type) {
        std::vector<std::uint8_t> codes(ggml_nbytes(tensors[0]));
        const auto rows = static_cast<std::int64_t>(s.length), width = static_cast<std::int64_t>(s.width());
        ggml_quantize_chunk(type, values, codes.data(), 0, rows, width, nullptr);
        for (ggml_tensor* t : tensors) ggml_backend_tensor_set(t, codes.data(), 0, codes.size());
    }

    void fill_mask(const attention_shape& s) {
        const ggml_fp16_t hidden = ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity());
        std::vector<ggml_fp16_t> mask(s.rows() * s.length, hidden);
        for (std::size_t r = 0; r < s.rows(); ++r) {
            for (std::size_t j = 0; j < s.keys_of(r); ++j) mask[r * s.length + j] = ggml_fp32_to_fp16(0.0F);
        }
        ggml_backend_tensor_set(mask_, mask.data(), 0, ggml_nbytes(mask_));
    }

    ggml_context_ptr caches_, queries_, results_;
    ggml_processor processor_;
    ggml_backend_buffer_ptr cache_buffer_, query_buffer_, out_buffer_;
    ggml_tensor *q_ = nullptr, *mask_ = nullptr;
    std::vector<ggml_tensor*> k_, v_, out_;
    std::vector<ggml_cgraph*> graphs_;
};

attention_peer make_peer(const char* format, ggml_type type, double tolerance) {
    return {"ggml", format, tolerance, [=](const attention_input& in) -> std::unique_ptr<prepared_attention> {
                auto attention = std::make_unique<ggml_attention>(in);
                if (!attention->prepare(in, type)) return nullptr;
                return attention;
            }};
}

}  // namespace

/// Queries become what the cache's products take: halves, or codes of 8 bits. A step over halves adds its values up in halves, each sum
/// rounded by 2^-11 at most, as many as there are keys, taken as a random walk. Scores have variance 1, so that their relative
/// error is that of the weights; the values' comes beside it.
std::vector<attention_peer> ggml_attention_peers() {
    ggml_log_set(print_errors_only, nullptr);
    const double half = std::ldexp(1.0, -11) * std::sqrt(static_cast<double>(most_keys));
    const double a8 = rounding_error(32, 127), q4 = rounding_error(32, 8);
    return {make_peer("flash_f16", GGML_TYPE_F16, half),
            make_peer("flash_q8_0", GGML_TYPE_Q8_0, product_error(product_error(a8, a8), a8)),
            make_peer("flash_q4_0", GGML_TYPE_Q4_0, product_error(product_error(a8, q4), q4))};
}

}  // namespace aq_bench
