/// \file
/// The linear algebra that GPTQ asks its caller for, by Eigen. The last bits of a factor are those of Eigen's blocks, which it fits to
/// the caches of a machine: codes made elsewhere may differ where a weight is next to a tie.
#pragma once

#include <agilequant/quant/gptq.hpp>

namespace aq::example {

/// One thread, and beside the matrix once its memory. not_positive_definite, out_of_memory.
[[nodiscard]] inverse_cholesky eigen_cholesky() noexcept;

}  // namespace aq::example
