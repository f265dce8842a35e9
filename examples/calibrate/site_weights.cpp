#include "calibrate/site_weights.hpp"

#include <agilequant/elementwise/hadamard.hpp>

namespace aq::example {

status site_weights::read(weight_id id, bool is_rotated, std::vector<float>& values) const {
    const matrix_shape shape = shape_of(model_.config, id);
    values.resize(shape.rows * shape.cols);
    AQ_TRY(model_.source.read(model_.source.self, id, layer_, view(values, shape.cols)));
    return is_rotated ? hadamard(view(values, shape.cols)) : status::ok;
}

}  // namespace aq::example
