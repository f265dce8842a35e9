#include "models/precision.hpp"

namespace aq::models {

std::string precision::name() const {
    std::string text = weight_bits > 8 ? "float" : "W" + std::to_string(weight_bits) + "A" + std::to_string(activation_bits);
    if (paper_sites) text += " (paper's sites)";
    if (is_two_level) text += ", two-level";
    if (uses_trip()) text += " + TRIP";
    if (attention != "softmax") text += " + " + attention;
    return prune > 0.0 ? text + ", pruned" : text;
}

}  // namespace aq::models
