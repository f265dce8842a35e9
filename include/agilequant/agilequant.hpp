/// \file
/// The whole library, folder by folder in their order. Not here: kernels/reference.hpp, the slow oracles in double that tests use.
#pragma once

#include "agilequant/version.hpp"

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/core/bits.hpp"
#include "agilequant/core/config.hpp"
#include "agilequant/core/crc32c.hpp"
#include "agilequant/core/exact_float.hpp"
#include "agilequant/core/half.hpp"
#include "agilequant/core/matrix_view.hpp"
#include "agilequant/core/status.hpp"

#include "agilequant/quant/activation_search.hpp"
#include "agilequant/quant/all.hpp"
#include "agilequant/quant/calibrate.hpp"
#include "agilequant/quant/coded_matrix.hpp"
#include "agilequant/quant/error.hpp"
#include "agilequant/quant/gptq.hpp"
#include "agilequant/quant/hessian.hpp"
#include "agilequant/quant/refit.hpp"
#include "agilequant/quant/trip_calibrator.hpp"
#include "agilequant/quant/two_level.hpp"

#include "agilequant/prune/compact.hpp"
#include "agilequant/prune/importance.hpp"
#include "agilequant/prune/schedule.hpp"
#include "agilequant/prune/select.hpp"

#include "agilequant/pack/file.hpp"
#include "agilequant/pack/file_writer.hpp"
#include "agilequant/pack/packed_matrix.hpp"

#include "agilequant/elementwise/activation.hpp"
#include "agilequant/elementwise/alibi.hpp"
#include "agilequant/elementwise/arithmetic.hpp"
#include "agilequant/elementwise/norm.hpp"
#include "agilequant/elementwise/rope.hpp"
#include "agilequant/elementwise/softmax.hpp"

#include "agilequant/kernels/attention.hpp"
#include "agilequant/kernels/epilogue.hpp"
#include "agilequant/kernels/gemm.hpp"
#include "agilequant/kernels/gemm_float.hpp"
#include "agilequant/kernels/packed_multiplier.hpp"
#include "agilequant/kernels/quantize.hpp"
#include "agilequant/kernels/quantized_rows.hpp"
#include "agilequant/kernels/write_rows.hpp"

#include "agilequant/model/bloom.hpp"
#include "agilequant/model/llama.hpp"
#include "agilequant/model/opt.hpp"

#include "agilequant/dispatch/dispatch.hpp"
