/// \file
/// What a peer library has to bring to have its attention measured beside agilequant's: ready to run on a cold cache.
///
/// Each peers/<library>_attention.cpp defines `std::vector<aq_bench::attention_peer> <library>_attention_peers();` in this namespace;
/// CMake joins those whose library it finds into all_attention_peers().
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace aq_bench {

/// Attention of one layer over `length` tokens, causal; as many heads of keys as of queries.
struct attention_shape {
    bool is_prompt;      ///< a query for each token; else one, the last token's
    std::size_t length;  ///< tokens: keys and values
    std::size_t heads, head_dim;
    int threads;

    [[nodiscard]] constexpr std::size_t rows() const { return is_prompt ? length : 1; }
    [[nodiscard]] constexpr std::size_t width() const { return heads * head_dim; }
    /// How many tokens row r of the queries sees.
    [[nodiscard]] constexpr std::size_t keys_of(std::size_t r) const { return length - rows() + r + 1; }
};

inline constexpr std::size_t most_keys = 2048;  ///< of all shapes, for tolerances that grow with the length

/// Ready to run on any of `copies` copies of its cache.
class prepared_attention {
public:
    virtual ~prepared_attention() = default;
    /// Includes whatever is done to the queries, which the peer finds as float in attention_input::q; filling the cache is not.
    virtual void run(std::size_t copy) = 0;
    /// [rows, width] without gaps, of the last run.
    [[nodiscard]] virtual const float* out() const = 0;
    /// Of one copy: keys and values as they are read, with scales and zero points.
    [[nodiscard]] virtual double cache_bytes() const = 0;
    /// What is wrong with the last run beyond what the tolerance sees, or nothing.
    [[nodiscard]] virtual std::string own_check() { return {}; }
};

/// q: [rows, width], k and v: [length, width], without gaps; head h has channels h * head_dim and on. Scores are q.k / sqrt(head_dim).
/// q outlives the prepared attention, k and v do not.
struct attention_input {
    attention_shape shape;
    const float *q, *k, *v;
    std::size_t copies;
};

/// One format of a cache of one library. `tolerance`: the relative root of mean squares of the error of a row against attention
/// in double that the format justifies, for normal q, k and v.
struct attention_peer {
    std::string library, format;
    double tolerance;
    std::function<std::unique_ptr<prepared_attention>(const attention_input&)> prepare;  ///< null result: refuses the shape
};

/// Those that this build has found.
[[nodiscard]] std::vector<attention_peer> all_attention_peers();

}  // namespace aq_bench
