// The whole library in one unit, for odr.py to read.
#include <agilequant/dispatch/dispatch.hpp>
#include <agilequant/kernels/gemm.hpp>

aq::status use_library(const aq::gemm_job& job) {
    const aq::kernel_table* kernels = nullptr;
    AQ_TRY(aq::choose_kernels(kernels));
    return aq::gemm(*kernels, job);
}
