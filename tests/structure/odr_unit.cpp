// The whole library in one unit, for odr.py to read: what is inline is kept by a flag of the compiler or used here.
#include <agilequant/agilequant.hpp>

template <class Family>
static aq::status use_family(const aq::model_config& config, const aq::model_options& options, const aq::weight_source& source,
                             std::uint32_t token) {
    const aq::kernel_table* kernels = nullptr;
    AQ_TRY(aq::choose_kernels(kernels));
    aq::transformer<Family> model;
    aq::session<Family> session;
    aq::forward_result result;
    AQ_TRY(model.load(config, options, source));
    AQ_TRY(session.reset(model, *kernels, aq::executor{}));
    return session.forward(&token, 1, aq::logits_of::last, result);
}

aq::status use_library(const aq::model_config& config, const aq::model_options& options, const aq::weight_source& source,
                       std::uint32_t token) {
    AQ_TRY(use_family<aq::llama_family>(config, options, source, token));
    AQ_TRY(use_family<aq::opt_family>(config, options, source, token));
    return use_family<aq::bloom_family>(config, options, source, token);
}
