/// \file
/// The grammar of names: everything that is measured has one, and --filter chooses by it.
///
///     gemm/<isa>/w<bits><granularity>a<bits>/m<M>/n<N>/k<K>/t<threads>     pc: a scale a channel; g128: a float
///                                                                          scale for 128; t128: two levels
///     packed_multiplier/<isa>/w4<granularity>a4/m<M>/n<N>/k<K>/t<threads>
///     peer/<library>/<format>/m<M>/n<N>/k<K>/t<threads>
///     baseline/<format>/m<M>/n<N>/k<K>/t<threads>
///     attention/<isa>/<coding>/kv<bits>/<prompt|step>/t<tokens>/h<heads>x<head_dim>/t<threads>
///     peer/<library>/<format>/<prompt|step>/t<tokens>/h<heads>x<head_dim>/t<threads>
///     quantize/<isa>/a<bits>[trip]/m<M>/k<K>/t<threads>
///     limit/<isa>/<what>/t<threads>
#pragma once

#include <initializer_list>
#include <string>

#include "agilequant/kernels/jobs.hpp"
#include "agilequant/quant/log2.hpp"
#include "peers/attention_peer.hpp"
#include "peers/peer.hpp"

namespace aq_bench {

/// "gemm", "avx2" -> "gemm/avx2".
[[nodiscard]] inline std::string joined(std::initializer_list<std::string> parts) {
    std::string name;
    for (const std::string& part : parts) name += (name.empty() ? "" : "/") + part;
    return name;
}

[[nodiscard]] inline std::string numbered(const char* letter, std::size_t number) { return letter + std::to_string(number); }

/// "m512/n4096/k4096/t1".
[[nodiscard]] inline std::string name_of(const product_shape& s) {
    return joined(
        {numbered("m", s.m), numbered("n", s.n), numbered("k", s.k), numbered("t", static_cast<std::size_t>(s.threads))});
}

/// "prompt/t512/h32x128/t1".
[[nodiscard]] inline std::string name_of(const attention_shape& s) {
    const std::string heads = numbered("h", s.heads) + numbered("x", s.head_dim);
    return joined(
        {s.is_prompt ? "prompt" : "step", numbered("t", s.length), heads, numbered("t", static_cast<std::size_t>(s.threads))});
}

/// As the library calls them.
[[nodiscard]] inline std::string name_of(aq::probability_coding coding) {
    switch (coding) {
        case aq::probability_coding::softmax: break;
        case aq::probability_coding::log2_paper: return "log2_paper";
        case aq::probability_coding::log2_normalized: return "log2_normalized";
        case aq::probability_coding::log2_maximum: return "log2_maximum";
        case aq::probability_coding::log2_ceiling: return "log2_ceiling";
        case aq::probability_coding::log2_half_maximum: return "log2_half_maximum";
        case aq::probability_coding::log2_half_ceiling: return "log2_half_ceiling";
    }
    return "softmax";
}

/// "w4g128", "w4pc", "w4t128".
[[nodiscard]] inline std::string name_of(const aq::weight_format& f) {
    const std::string bits = numbered("w", static_cast<std::size_t>(f.bits));
    if (f.group == 0) return bits + "pc";
    return bits + numbered(f.scales == aq::group_scales::integers ? "t" : "g", f.group);
}

/// "a8". Whether activations are symmetric follows from their bits: see activations_of.
[[nodiscard]] inline std::string name_of(const aq::activation_format& f) {
    return numbered("a", static_cast<std::size_t>(f.bits));
}

/// As the models use them: 8 bits symmetric, fewer with a zero point.
[[nodiscard]] inline aq::activation_format activations_of(int bits) {
    aq::activation_format f;
    f.bits = bits;
    f.is_asymmetric = bits < 8;
    return f;
}

}  // namespace aq_bench
