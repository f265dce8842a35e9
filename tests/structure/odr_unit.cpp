// The whole library in one unit, for odr.py to read: what is inline is kept by a flag of the compiler or used here.
#include <agilequant/agilequant.hpp>

aq::status use_library(const aq::model_config& config, const aq::model_options& options, const aq::weight_source& source, std::uint32_t token) {
    const aq::kernel_table* kernels = nullptr;
    AQ_TRY(aq::choose_kernels(kernels));
    aq::llama model;
    aq::llama_session session;
    aq::forward_result result;
    AQ_TRY(model.load(config, options, source));
    AQ_TRY(session.reset(model, *kernels, aq::executor{}));
    return session.forward(&token, 1, aq::logits_of::last, result);
}
