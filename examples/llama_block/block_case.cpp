#include "llama_block/block_case.hpp"

#include <agilequant/dispatch/dispatch.hpp>
#include <algorithm>
#include <cstdlib>
#include <thread>

#include "llama/failure.hpp"

namespace aq::example {

model_options options_of(const block_options& o, int activation_bits) {
    model_options m;
    m.float_weights = activation_bits > 8;
    m.weights.group = o.group;
    m.kv_bits = activation_bits > 8 ? 32 : 8;
    m.coding = activation_bits > 8 ? probability_coding::softmax : probability_coding::log2_ceiling;
    for (std::size_t i = 0; i < site_count; ++i) {
        site_format& f = m.sites[i];
        f.is_float = activation_bits > 8;
        f.activations.bits = static_cast<site>(i) == site::attention && !o.all_sites ? 8 : activation_bits;
        f.activations.is_asymmetric = f.activations.bits < 8;
    }
    return m;
}

model_config shapes_of(const block_options& o) {
    model_config c;
    c.vocabulary = 1;
    c.layers = 1;
    c.dim = o.dim;
    c.hidden = o.hidden;
    c.heads = o.heads;
    c.kv_heads = o.kv_heads;
    c.max_length = std::max(o.prompt, o.past + 1);
    if (c.dim % c.heads != 0)
        throw failure("--heads " + std::to_string(c.heads) + " does not divide --dim " + std::to_string(c.dim));
    if (c.heads % c.kv_heads != 0)
        throw failure("--kv-heads " + std::to_string(c.kv_heads) + " does not divide --heads " + std::to_string(c.heads));
    const std::string head = "a head of " + std::to_string(c.head_dim()) + " channels (--dim / --heads)";
    if (c.head_dim() % 2 != 0 || c.head_dim() > max_head_dim)
        throw failure(head + " is odd or has more than " + std::to_string(max_head_dim));
    require(validate(c), "the sizes of the block");
    return c;
}

void choose(const block_options& o, run_context& context) {
    const char* const wanted = std::getenv("AQ_ISA");
    if (o.isa.empty()) require(choose_kernels(context.kernels), "AQ_ISA=" + std::string(wanted == nullptr ? "" : wanted));
    else require(find_kernels(o.isa.c_str(), isa::this_cpu(), context.kernels), "--isa " + o.isa);
#if AQ_OPENMP
    context.threads = openmp_executor(o.threads == 0 ? std::max(1U, std::thread::hardware_concurrency()) : o.threads);
#endif
}

}  // namespace aq::example
