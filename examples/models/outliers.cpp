#include "models/outliers.hpp"

#include <cmath>
#include <random>

namespace aq::models {

std::vector<float> outlier_profile(std::size_t channels) {
    std::mt19937 random(1811);
    const auto between = [&random](double low,
                                   double high) {  // evenly in the logarithm; no distribution of the library's, which vary
        const double share = static_cast<double>(random()) / 4294967296.0;
        return static_cast<float>(low * std::pow(high / low, share));
    };
    std::vector<float> factors(channels);
    for (float& f : factors) f = between(0.7, 1.4);
    for (std::size_t i = 0; i < channels / 32; ++i) factors[random() % channels] = between(4.0, 12.0);
    if (channels > 0) factors[random() % channels] = 24.0F;
    return factors;
}

status outlier_source::read(void* self, weight_id id, std::size_t layer, matrix_view<float> out) {
    const auto& s = *static_cast<const outlier_source*>(self);
    AQ_TRY(s.inner_.read(s.inner_.self, id, layer, out));
    const bool is_norm = id == weight_id::attention_norm || id == weight_id::mlp_norm || id == weight_id::attention_norm_bias ||
                         id == weight_id::mlp_norm_bias;
    const bool follows =
        id == weight_id::q || id == weight_id::k || id == weight_id::v || id == weight_id::gate || id == weight_id::up;
    if (!is_norm && !follows) return status::ok;
    for (std::size_t r = 0; r < out.rows; ++r) {
        for (std::size_t c = 0; c < out.cols; ++c) out.row(r)[c] *= is_norm ? s.factors_[c] : 1.0F / s.factors_[c];
    }
    return status::ok;
}

}  // namespace aq::models
