#include "limits/limit_for.hpp"

#include "agilequant/core/bits.hpp"
#include "agilequant/isa/cpu.hpp"
#include "data.hpp"
#include "names.hpp"

namespace aq_bench {

namespace {

/// The instruction of the kernels: dot products of bytes, or pairs of bytes in 16 bits for as long as these hold.
std::string integer_instruction(const std::string& isa, int weight_bits, int activation_bits) {
    if (isa == "amx") return "limit/amx/tdpbusd";
    if (isa == "avx512vnni" || isa == "avxvnni") return "limit/" + isa + "/vpdpbusd";
    if (isa != "avx2" && isa != "sse41") return {};  // scalar is a definition, not a kernel to be fast
    const std::int64_t steps = aq::pair_sums_in_16_bits(weight_bits, activation_bits);
    const char* const what = steps >= 72 ? "pmaddubsw_w4a4" : steps >= 8 ? "pmaddubsw_w4a8" : "pmaddwd";
    return "limit/" + isa + "/" + what;
}

}  // namespace

bool limit_reference::takes(const std::string& name) const {
    const std::string ending = "/" + numbered("t", static_cast<std::size_t>(threads));
    const bool ends = name.size() >= ending.size() && name.compare(name.size() - ending.size(), ending.size(), ending) == 0;
    return !stem.empty() && ends && name.compare(0, stem.size(), stem) == 0;
}

limit_reference memory_limit(int threads) { return {"limit/avx2/read_memory", threads, true}; }

limit_reference read_limit(double bytes) {
    for (const int level : {1, 2, 3}) {
        if (bytes <= static_cast<double>(cache_bytes(level))) {
            return {"limit/avx2/read_" + numbered("l", static_cast<std::size_t>(level)), 1, true};
        }
    }
    return memory_limit(1);
}

limit_reference gemm_limit(const std::string& isa, int weight_bits, int activation_bits, const product_shape& shape) {
    if (shape.m == 1) return memory_limit(shape.threads);
    const std::string instruction = integer_instruction(isa, weight_bits, activation_bits);
    return instruction.empty() ? limit_reference{} : limit_reference{instruction, shape.threads, false};
}

limit_reference float_limit(const std::string& isa, const product_shape& shape) {
    if (shape.m == 1) return memory_limit(shape.threads);
    return {"limit/" + isa + "/fma", shape.threads, false};
}

limit_reference peer_limit(const std::string& format, const product_shape& shape) {
    const aq::isa::cpu cpu = aq::isa::this_cpu();
    const bool has_avx512 = cpu.has(aq::isa::feature::avx512vnni);
    if (format[0] == 'f' || format[0] == 'b') return float_limit(has_avx512 ? "avx512" : "avx2", shape);
    const bool has_avxvnni = cpu.has(aq::isa::feature::avxvnni);
    return gemm_limit(has_avx512 ? "avx512vnni" : has_avxvnni ? "avxvnni" : "avx2", 4, 8, shape);
}

}  // namespace aq_bench
