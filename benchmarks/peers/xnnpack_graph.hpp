/// \file
/// A graph of XNNPACK that holds one product: x, quantized if the weights are, by weights that the graph does not own.
#pragma once

#include <pthreadpool.h>
#include <xnnpack.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "peers/grouped_codes.hpp"
#include "peers/peer.hpp"

namespace aq_bench::xnnpack {

enum class weights { float32, channels_8, channels_4, blocks_4 };

struct deleter {
    void operator()(xnn_subgraph* p) const { xnn_delete_subgraph(p); }
    void operator()(xnn_runtime* p) const { xnn_delete_runtime(p); }
    void operator()(pthreadpool* p) const { pthreadpool_destroy(p); }
};
template <typename T>
using handle = std::unique_ptr<T, deleter>;

/// What a graph reads while runtimes pack weights from it.
struct static_weights {
    std::vector<std::uint8_t> codes;
    std::vector<float> scales;
    std::vector<std::uint16_t> scales_bf16;
};

/// Two codes a byte, the first in the low half, 8 as zero.
[[nodiscard]] inline std::vector<std::uint8_t> nibbles(const std::vector<std::int8_t>& codes) {
    std::vector<std::uint8_t> result(codes.size() / 2);
    for (std::size_t i = 0; i < result.size(); ++i)
        result[i] = static_cast<std::uint8_t>((codes[2 * i] + 8) | (codes[2 * i + 1] + 8) << 4);
    return result;
}

[[nodiscard]] inline std::uint16_t bfloat16(float value) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<std::uint16_t>((bits + 0x8000U) >> 16U);
}

[[nodiscard]] inline static_weights make_weights(const product_input& in, weights kind, std::size_t block) {
    static_weights result;
    const std::size_t n = in.shape.n, k = in.shape.k;
    if (kind == weights::float32) return result;
    grouped_codes from = round_to_codes(in.w, n, k, kind == weights::blocks_4 ? block : k, kind == weights::channels_8 ? 127 : 7);
    if (kind == weights::channels_8) {
        result.codes.resize(n * k);
        std::memcpy(result.codes.data(), from.codes.data(), n * k);
    } else {
        result.codes = nibbles(from.codes);
    }
    for (const float scale : from.scales) result.scales_bf16.push_back(bfloat16(scale));
    result.scales = std::move(from.scales);
    return result;
}

/// x and y are the external values 0 and 1.
class graph_builder {
public:
    explicit graph_builder(const product_input& in) : in_(in) {
        xnn_subgraph_t made = nullptr;
        check(xnn_create_subgraph(2, 0, &made));
        graph_.reset(made);
    }

    [[nodiscard]] handle<xnn_subgraph> build(weights kind, std::size_t block, const static_weights& from) {
        const std::array<std::size_t, 2> x{in_.shape.m, in_.shape.k}, y{in_.shape.m, in_.shape.n};
        std::uint32_t x_id = 0, y_id = 1;
        check(xnn_define_tensor_value(graph_.get(), xnn_datatype_fp32, 2, x.data(), nullptr, 0, XNN_VALUE_FLAG_EXTERNAL_INPUT,
                                      &x_id));
        check(xnn_define_tensor_value(graph_.get(), xnn_datatype_fp32, 2, y.data(), nullptr, 1, XNN_VALUE_FLAG_EXTERNAL_OUTPUT,
                                      &y_id));
        const std::uint32_t w_id = define_weights(kind, block, from);
        if (kind != weights::float32) x_id = define_quantization(x_id, x);
        const float limit = std::numeric_limits<float>::infinity();
        check(xnn_define_fully_connected(graph_.get(), -limit, limit, x_id, w_id, XNN_INVALID_VALUE_ID, y_id, 0));
        return good_ ? std::move(graph_) : nullptr;
    }

private:
    void check(xnn_status status) { good_ = good_ && status == xnn_status_success; }

    std::uint32_t define_quantization(std::uint32_t x_id, const std::array<std::size_t, 2>& x) {
        std::uint32_t id = XNN_INVALID_VALUE_ID;
        check(xnn_define_dynamically_quantized_tensor_value(graph_.get(), xnn_datatype_qdint8, 2, 1, x.data(),
                                                            XNN_INVALID_VALUE_ID, 0, &id));
        check(xnn_define_unary(graph_.get(), xnn_unary_convert, nullptr, x_id, id, 0));
        return id;
    }

    std::uint32_t define_weights(weights kind, std::size_t block, const static_weights& from) {
        const std::array<std::size_t, 2> w{in_.shape.n, in_.shape.k};
        xnn_subgraph_t graph = graph_.get();
        constexpr std::uint32_t none = XNN_INVALID_VALUE_ID;
        std::uint32_t id = none;
        switch (kind) {
            case weights::float32:
                check(xnn_define_tensor_value(graph, xnn_datatype_fp32, 2, w.data(), in_.w, none, 0, &id));
                break;
            case weights::channels_8:
                check(xnn_define_channelwise_quantized_tensor_value(graph, xnn_datatype_qcint8, from.scales.data(), 2, 0,
                                                                    w.data(), from.codes.data(), none, 0, &id));
                break;
            case weights::channels_4:
                check(xnn_define_channelwise_quantized_tensor_value_v2(graph, xnn_datatype_qcint4, 8, from.scales.data(), 2, 0,
                                                                       w.data(), from.codes.data(), none, 0, &id));
                break;
            case weights::blocks_4:
                check(xnn_define_blockwise_quantized_tensor_value(graph, xnn_datatype_qbint4, 8, from.scales_bf16.data(), 2, 0,
                                                                  block, w.data(), from.codes.data(), none, 0, &id));
                break;
        }
        return id;
    }

    const product_input& in_;
    handle<xnn_subgraph> graph_;
    bool good_ = true;
};

}  // namespace aq_bench::xnnpack
