/// \file
/// What a peer library has to bring to be measured beside agilequant: its product, ready to run on cold weights.
///
/// Each peers/<library>.cpp defines `std::vector<aq_bench::peer> <library>_peers();` in this namespace; CMake joins those whose
/// library it finds into all_peers().
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace aq_bench {

/// y[m,n] = x[m,k] w[n,k]^T on so many threads.
struct product_shape {
    std::size_t m, n, k;
    int threads;
};

/// A product that is ready to run on any of `copies` copies of its weights.
class prepared_product {
public:
    virtual ~prepared_product() = default;
    /// Includes quantizing the activations, which the peer finds as float in product_input::x.
    virtual void run(std::size_t copy) = 0;
    /// [m,n] without gaps, of the last run.
    [[nodiscard]] virtual const float* y() const = 0;
    /// Of one copy, as the product reads them: codes, scales and zero points.
    [[nodiscard]] virtual double weight_bytes() const = 0;
    /// What is wrong with the last run beyond what the tolerance sees, or nothing.
    [[nodiscard]] virtual std::string own_check() { return {}; }
};

/// x: [m,k], w: [n,k], a row an output channel, both without gaps. x outlives the prepared product, w does not.
struct product_input {
    product_shape shape;
    const float* x;
    const float* w;
    std::size_t copies;
};

/// One format of one library. `tolerance` is the relative root of mean squares of the error against a product of x and w
/// in double that the format justifies.
struct peer {
    std::string library, format;
    double tolerance;
    std::function<std::unique_ptr<prepared_product>(const product_input&)> prepare;  ///< null result: refuses the shape
};

/// Those that this build has found, in the order of their libraries' names.
[[nodiscard]] std::vector<peer> all_peers();

}  // namespace aq_bench
