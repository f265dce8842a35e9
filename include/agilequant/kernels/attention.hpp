/// \file
/// Attention of one layer over a cache of keys and values: check, choose, call. Not projections, positions (RoPE is applied
/// before) or the cache itself (model/kv_cache.hpp). Bodies: kernels/body/attention*.hpp.
///
/// For row i of q, head h and keys j = 0 .. past + i, past = cache.length - rows:
///
///     score      t_j = (scale q.k_j + slope (j - past - i)) log2 e
///     softmax    w_j = 2^(t_j - M),                              out = sum w_j v_j / sum w_j
///     log2       w_j = 2^-code_j, code_j = round(M - t_j),       out = sum w_j v_j / sum w_j       (the paper's: without division)
///                M = log2 sum 2^t_j, or max t, or a ceiling; half octaves: w_j = 2^(-code_j / 2), code_j = round(2 (M - t_j))
///
/// A ceiling, which softmax has too, is the largest t_j rounded up, of the keys so far: keys come in chunks of attention_chunk, each coded against
/// those up to its own last, and where the ceiling rises all sums so far are multiplied by that power of two, which is exact.
///
/// With a float cache all of it is float. With 8 or 4 bits q is quantized to int8, one scale a row and head, and q.k is an exact
/// integer sum, then scaled. A softmax takes values as scale * code. The log2 forms fold the scale s_j of a value, token by
/// token, into what is coded: t_j + log2 s_j in the place of t_j, so that sum w_j (code of v_j) is a sum of shifted integers: exact, and
/// joined in float where the ceiling rises, every 65536 keys and at the end. The divisor is sum w_j / s_j then: the result is a mean of the values with weights w_j / s_j, whatever was rounded. In
/// the paper's form w_j stands for p_j s_j / (largest s so far), and that scale multiplies the result. Groups of channels
/// with scales of their own have codes of their own.
///
/// Every result has the same bits on every instruction set, for any cut of the work into heads or rows: the row of a long prompt
/// equals the single step with the same keys. Float sums over keys or channels have 16 lanes; weights times values are summed
/// in the order of keys, unfused. Codes hold probabilities down to 2^-14.5 (half octaves 2^-7.25) of what M stands for; a row without
/// any gives zeros, so that the two forms over the sum need fewer than 23170 equal keys. A softmax row without any number gives NaN.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "agilequant/kernels/jobs.hpp"
#include "agilequant/kernels/quantize.hpp"

namespace aq {

namespace detail {

/// Queries that are worked on together: as many as share what they read from the second-level cache; few where all scores of a row
/// have to be kept.
[[nodiscard]] constexpr std::size_t queries_together(const log2_form& form) noexcept { return form.is_one_pass() ? 48 : 8; }

[[nodiscard]] inline attention_scratch carve_attention(carver& from, const kv_view& cache, probability_coding coding) noexcept {
    const log2_form form = form_of(coding);
    const std::size_t dim = cache.padded_dim(), groups = cache.groups();
    attention_scratch s;
    s.queries = queries_together(form);
    s.keys = form.is_one_pass() ? attention_chunk : round_up(cache.length, attention_chunk);
    s.q = from.take<float>(s.queries * dim);
    s.q_codes = from.take<std::int8_t>(s.queries * dim);
    s.q_factors = from.take<float>(s.queries);
    s.q_sums = from.take<std::int32_t>(s.queries * groups);
    s.scores = from.take<float>(s.queries * (s.keys + attention_margin));
    s.weights = from.take<float>(s.queries * attention_chunk);
    s.weight_codes = from.take<std::int8_t>(s.queries * 2 * attention_chunk);
    s.log_scales = from.take<float>(groups * s.keys);
    s.inverse_scales = from.take<float>(groups * s.keys);
    s.states = from.take<attention_state>(s.queries * groups);
    s.sums = from.take<std::int32_t>(s.queries * 2 * dim);
    s.results = from.take<float>(s.queries * dim);
    return s;
}

}  // namespace detail

/// Bytes of scratch for one call: the same for every length where the coding takes one pass, else growing with it. For a buffer that
/// serves as long as the cache does: attention_scratch_bytes(view.first(view.capacity), coding).
[[nodiscard]] inline std::size_t attention_scratch_bytes(const kv_view& cache, probability_coding coding) noexcept {
    detail::carver counted(nullptr);
    static_cast<void>(detail::carve_attention(counted, cache, coding));
    return counted.used();
}

/// All that can be wrong with a job, in O(1).
[[nodiscard]] inline status check(const attention_job& job) noexcept {
    AQ_TRY(check(job.q));
    AQ_TRY(check(job.out));
    AQ_TRY(check(job.cache));
    if (job.heads == 0 || job.heads % job.cache.kv_heads != 0) return status::bad_shape;
    if (job.q.cols != job.heads * job.cache.head_dim || job.q.shape() != job.out.shape()) return status::bad_shape;
    return job.q.rows > job.cache.length ? status::bad_shape : status::ok;
}

/// Heads `heads` of job.out, and of job.importance where it is wanted. Buffers and shapes: attention_job. `out` may be q itself,
/// nothing else overlaps. `scratch` is aligned to 64 bytes, of attention_scratch_bytes(job.cache, job.coding). Calls for disjoint heads may
/// run at the same time, each with a scratch of its own. No rows: nothing happens.
/// bad_shape, bad_stride, null_pointer, unsupported_format; scratch_too_small; bad_argument: the scratch is not aligned.
[[nodiscard]] inline status attention(const kernel_table& kernels, attention_job job, index_range heads, void* scratch,
                                      std::size_t scratch_bytes) noexcept {
    AQ_TRY(check(job));
    if (heads.end > job.heads || heads.begin > heads.end) return status::bad_shape;
    if (job.q.rows == 0 || heads.size() == 0) return status::ok;
    if (scratch_bytes < attention_scratch_bytes(job.cache, job.coding)) return status::scratch_too_small;
    if (scratch == nullptr) return status::null_pointer;
    if (reinterpret_cast<std::uintptr_t>(scratch) % cache_line_bytes != 0) return status::bad_argument;
    if (job.scale == 0.0F) job.scale = 1.0F / std::sqrt(static_cast<float>(job.cache.head_dim));
    detail::carver from(static_cast<std::byte*>(scratch));
    kernels.attention(job, detail::carve_attention(from, job.cache, job.coding), heads);
    return status::ok;
}

/// All heads.
[[nodiscard]] inline status attention(const kernel_table& kernels, const attention_job& job, void* scratch,
                                      std::size_t scratch_bytes) noexcept {
    return attention(kernels, job, {0, job.heads}, scratch, scratch_bytes);
}

}  // namespace aq
