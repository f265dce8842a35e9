// fails PER_TOKEN: aq: weights are quantized per_channel, per group<N> or per two_level_group<N>.
// fails RUN_TIME_GROUP: aq: a group that is known at run time only belongs in a weight_format.
// fails COPY: deleted
#include <agilequant/kernels/gemm.hpp>

#if defined(PER_TOKEN)
using granularity = aq::per_token;
#elif defined(RUN_TIME_GROUP)
using granularity = aq::group<aq::dynamic>;
#else
using granularity = aq::group<32>;
#endif

using matrix = aq::packed_matrix<aq::uniform<4, aq::asymmetric, granularity>>;

aq::status fill(matrix& m, aq::matrix_view<const float> w) { return m.assign(w); }

#if defined(COPY)
matrix copy(const matrix& m) { return m; }
#endif
