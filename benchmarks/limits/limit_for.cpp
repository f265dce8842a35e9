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

bool has(aq::isa::feature f) { return aq::isa::this_cpu().has(f); }

/// The best that this CPU has, of those with a limit.
std::string best_integer_isa() {
    return has(aq::isa::feature::avx512vnni) ? "avx512vnni" : has(aq::isa::feature::avxvnni) ? "avxvnni" : "avx2";
}
std::string best_float_isa() { return has(aq::isa::feature::avx512vnni) ? "avx512" : "avx2"; }

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
    if (format[0] == 'f' || format[0] == 'b') return float_limit(best_float_isa(), shape);
    return gemm_limit(best_integer_isa(), 4, 8, shape);
}

limit_reference attention_limit(const std::string& isa, int cache_bits, const attention_shape& shape) {
    if (!shape.is_prompt) return memory_limit(shape.threads);
    if (cache_bits != 32) {
        const std::string instruction = integer_instruction(isa, cache_bits, 8);
        return instruction.empty() ? limit_reference{} : limit_reference{instruction, shape.threads, false};
    }
    if (isa == "avx2" || isa == "avxvnni") return {"limit/avx2/fma", shape.threads, false};
    if (isa == "avx512vnni" || isa == "amx") return {"limit/avx512/fma", shape.threads, false};
    return {};
}

limit_reference peer_limit(const std::string& format, const attention_shape& shape) {
    const std::string ending = format.size() < 3 ? format : format.substr(format.size() - 3);
    const bool is_float = ending == "f16" || ending == "f32";
    return attention_limit(best_integer_isa(), is_float ? 32 : 8, shape);
}

}  // namespace aq_bench
