// peer/onednn/...: matmul in float, in bfloat16, and with 8-bit weights (a scale a channel) and 8-bit activations (a scale a token). The
// weights are in the layout that oneDNN chooses.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <dnnl.hpp>

#include "peers/copies.hpp"
#include "peers/peer.hpp"
#include "peers/tolerance.hpp"

namespace aq_bench {

namespace {

using type = dnnl::memory::data_type;
using tag = dnnl::memory::format_tag;

/// Largest magnitude of `count` values over 127, or 1. As integers, which compilers make vectors of.
float scale_of(const float* values, std::size_t count) {
    std::uint32_t largest = 0;
    for (std::size_t i = 0; i < count; ++i) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, values + i, sizeof bits);
        largest = std::max(largest, bits & 0x7FFFFFFFU);
    }
    float magnitude = 0.0F;
    std::memcpy(&magnitude, &largest, sizeof magnitude);
    return magnitude > 0.0F ? magnitude / 127.0F : 1.0F;
}

void encode(const float* values, std::size_t count, float scale, std::int8_t* codes) {
    const float inverse = 1.0F / scale;
    for (std::size_t i = 0; i < count; ++i) codes[i] = static_cast<std::int8_t>(std::rint(values[i] * inverse));
}

class onednn_product final : public prepared_product {
public:
    onednn_product(const product_input& in, type precision)
        : in_(in),
          is_integer_(precision == type::s8),
          engine_(dnnl::engine::kind::cpu, 0),
          stream_(engine_),
          y_(in.shape.m * in.shape.n),
          x_scales_(in.shape.m),
          w_scales_(in.shape.n) {
        omp_set_num_threads(in.shape.threads);
        m_ = static_cast<dnnl::memory::dim>(in.shape.m);
        n_ = static_cast<dnnl::memory::dim>(in.shape.n);
        k_ = static_cast<dnnl::memory::dim>(in.shape.k);
        if (is_integer_) quantize_weights();
        make(precision);
        dnnl::memory plain = is_integer_ ? dnnl::memory({{k_, n_}, type::s8, tag::ba}, engine_, w_codes_.data())
                                         : dnnl::memory({{k_, n_}, type::f32, tag::ba}, engine_, const_cast<float*>(in.w));
        for (std::size_t i = 0; i < in.copies; ++i) {
            weights_.emplace_back(primitive_description_.weights_desc(), engine_);
            dnnl::reorder(plain, weights_.back()).execute(stream_, plain, weights_.back());
        }
        stream_.wait();
        w_codes_ = {};
    }

    void run(std::size_t copy) override {
        omp_set_num_threads(in_.shape.threads);
        if (is_integer_) {
            auto* const codes = static_cast<std::int8_t*>(x_.get_data_handle());
            for (std::size_t r = 0; r < in_.shape.m; ++r) {
                const float* const row = in_.x + r * in_.shape.k;
                x_scales_[r] = scale_of(row, in_.shape.k);
                encode(row, in_.shape.k, x_scales_[r], codes + r * in_.shape.k);
            }
        } else if (x_.get_desc() != plain_x_.get_desc()) {
            convert_x_.execute(stream_, plain_x_, x_);
        }
        primitive_.execute(stream_, {{DNNL_ARG_SRC, x_}, {DNNL_ARG_WEIGHTS, weights_[copy]}, {DNNL_ARG_DST, result_}});
        stream_.wait();
        // as a stage of oneDNN (a binary post-operation) the rows' scales would cost a thousand times the product
        for (std::size_t r = 0; is_integer_ && r < in_.shape.m; ++r) {
            const float scale = x_scales_[r];
            for (std::size_t c = r * in_.shape.n; c < (r + 1) * in_.shape.n; ++c) y_[c] *= scale;
        }
    }
    [[nodiscard]] const float* y() const override { return y_.data(); }
    [[nodiscard]] double weight_bytes() const override { return static_cast<double>(weights_[0].get_desc().get_size()); }

private:
    void quantize_weights() {
        w_codes_.resize(in_.shape.n * in_.shape.k);
        for (std::size_t c = 0; c < in_.shape.n; ++c) {
            const float* const row = in_.w + c * in_.shape.k;
            w_scales_[c] = scale_of(row, in_.shape.k);
            encode(row, in_.shape.k, w_scales_[c], w_codes_.data() + c * in_.shape.k);
        }
    }
    void make(type precision) {
        const dnnl::memory::desc x({m_, k_}, precision, tag::ab), w({k_, n_}, precision, tag::any),
            y({m_, n_}, type::f32, tag::ab);
        dnnl::primitive_attr attributes;
        if (is_integer_) attributes.set_output_scales(1 << 1, w_scales_);
        primitive_description_ = dnnl::matmul::primitive_desc(dnnl::matmul::desc(x, w, y), attributes, engine_);
        primitive_ = dnnl::matmul(primitive_description_);
        plain_x_ = dnnl::memory({{m_, k_}, type::f32, tag::ab}, engine_, const_cast<float*>(in_.x));
        x_ = precision == type::f32 ? plain_x_ : dnnl::memory(x, engine_);
        if (precision == type::bf16) convert_x_ = dnnl::reorder(plain_x_, x_);
        result_ = dnnl::memory(y, engine_, y_.data());
    }

    product_input in_;
    bool is_integer_;
    dnnl::engine engine_;
    dnnl::stream stream_;
    std::vector<float> y_, x_scales_, w_scales_;
    std::vector<std::int8_t> w_codes_;
    dnnl::memory::dim m_ = 0, n_ = 0, k_ = 0;
    dnnl::matmul::primitive_desc primitive_description_;
    dnnl::matmul primitive_;
    dnnl::reorder convert_x_;
    dnnl::memory plain_x_, x_, result_;
    std::vector<dnnl::memory> weights_;
};

template <type Precision>
std::unique_ptr<prepared_product> prepare(const product_input& in) {
    try {
        return std::make_unique<onednn_product>(in, Precision);
    } catch (const dnnl::error&) {
        return nullptr;  // no implementation of this type on this CPU
    }
}

}  // namespace

std::vector<peer> onednn_peers() {
    // rows of some thousands share a scale on both sides; a value in bfloat16 is off by 2^-9 of itself at most
    const double codes = rounding_error(16384, 127);
    return {{"onednn", "f32", float_error(), prepare<type::f32>},
            {"onednn", "bf16", 0x1p-8, prepare<type::bf16>},
            {"onednn", "w8a8", product_error(codes, codes), prepare<type::s8>}};
}

}  // namespace aq_bench
