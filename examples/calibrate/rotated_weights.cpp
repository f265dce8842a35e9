#include "calibrate/rotated_weights.hpp"

#include <algorithm>

#include "agilequant/elementwise/hadamard.hpp"

namespace aq::example {

namespace {

enum class turn_by { nothing, residual, heads };

/// The norm in front of a matrix, or the matrix itself.
weight_id norm_before(weight_id id) noexcept {
    switch (id) {
        case weight_id::q:
        case weight_id::k:
        case weight_id::v: return weight_id::attention_norm;
        case weight_id::gate:
        case weight_id::up: return weight_id::mlp_norm;
        case weight_id::head: return weight_id::final_norm;
        default: return id;
    }
}

/// The matrix that a bias is added to, where a norm stands in front of it, or the bias itself.
weight_id matrix_behind_norm(weight_id bias) noexcept {
    for (const weight_id id : {weight_id::q, weight_id::k, weight_id::v, weight_id::up}) {
        if (bias_of(id) == bias) return id;
    }
    return bias;
}

bool is_of_norm(weight_id id) noexcept {
    for (const weight_id norm : {weight_id::attention_norm, weight_id::mlp_norm, weight_id::final_norm}) {
        if (id == norm || id == bias_of(norm)) return true;
    }
    return false;
}

}  // namespace

/// W' = (columns) W diag(g) (rows): what every row of a weight is multiplied by, and every column.
struct rotated_weights::turns {
    turn_by rows = turn_by::nothing, columns = turn_by::nothing;
};

rotated_weights::turns rotated_weights::turns_of(weight_id id) const noexcept {
    const turn_by residual = choice_.residual ? turn_by::residual : turn_by::nothing,
                  heads = choice_.heads ? turn_by::heads : turn_by::nothing;
    switch (id) {
        case weight_id::embedding:
        case weight_id::positions:
        case weight_id::head:
        case weight_id::q:
        case weight_id::k:
        case weight_id::gate:
        case weight_id::up:
        case weight_id::o_bias:
        case weight_id::down_bias: return {residual, turn_by::nothing};
        case weight_id::v: return {residual, heads};
        case weight_id::v_bias: return {heads, turn_by::nothing};
        case weight_id::o: return {heads, residual};
        case weight_id::down: return {turn_by::nothing, residual};
        default: return {};
    }
}

status rotated_weights::read(void* self, weight_id id, std::size_t layer, matrix_view<float> out) {
    const auto& w = *static_cast<const rotated_weights*>(self);
    AQ_TRY(validate(w.config_));
    AQ_TRY(check(out));
    matrix_shape shape = shape_of(w.config_, id);
    if (id == weight_id::positions) shape.rows = out.rows;  // the first of them may be asked for
    if (out.shape() != shape) return status::bad_shape;
    if (w.choice_.residual) {
        if (id == weight_id::embedding_norm || id == weight_id::embedding_norm_bias) return status::bad_argument;
        if (is_of_norm(id)) return w.read_norm(id, out);
        if (const weight_id matrix = matrix_behind_norm(id); matrix != id) return w.read_bias(id, matrix, layer, out);
    }
    AQ_TRY(w.inner(id, layer, out));
    aligned_buffer<float> gain;
    if (w.choice_.residual && norm_before(id) != id) AQ_TRY(w.read_vector(norm_before(id), layer, gain));
    return w.turn(w.turns_of(id), gain.data(), out);
}

status rotated_weights::read_vector(weight_id id, std::size_t layer, aligned_buffer<float>& out) const {
    const matrix_shape shape = shape_of(config_, id);
    AQ_TRY(out.reset(shape.cols));
    return inner(id, layer, {out.data(), 1, shape.cols});
}

void rotated_weights::turn_rows(const turns& t, double* x, std::size_t rows, std::size_t cols) const noexcept {
    for (double* row = x; row < x + rows * cols; row += cols) {
        if (t.rows == turn_by::residual) rotation_.apply(row, 1);
        const std::size_t head = config_.head_dim();
        for (std::size_t c = 0; t.rows == turn_by::heads && c < cols; c += head) hadamard_columns(row + c, head, 1);
    }
}

void rotated_weights::turn_columns(const turns& t, double* x, std::size_t rows, std::size_t cols) const noexcept {
    if (t.columns == turn_by::residual) rotation_.apply(x, cols);
    if (t.columns == turn_by::heads) hadamard_columns(x, rows, cols);
}

/// In pieces that hold whole rows and columns of what is turned, in double. `gain` [cols] or null.
status rotated_weights::turn(const turns& t, const float* gain, matrix_view<float> out) const {
    if (t.rows == turn_by::nothing && t.columns == turn_by::nothing) return status::ok;  // then there is no gain either
    const std::size_t head = config_.head_dim();
    const std::size_t rows = t.columns == turn_by::residual ? out.rows : t.columns == turn_by::heads ? head : 1;
    const std::size_t cols = t.rows == turn_by::residual ? out.cols : t.rows == turn_by::heads ? head : 16;
    aligned_buffer<double> piece;
    AQ_TRY(piece.reset(rows * cols));
    for (std::size_t r = 0; r < out.rows; r += rows) {
        for (std::size_t c = 0; c < out.cols; c += cols) {
            const std::size_t width = std::min(cols, out.cols - c);
            for (std::size_t i = 0; i < rows * width; ++i) {
                const std::size_t col = c + i % width;
                piece[i] =
                    static_cast<double>(out.row(r + i / width)[col]) * (gain == nullptr ? 1.0 : static_cast<double>(gain[col]));
            }
            turn_rows(t, piece.data(), rows, width);
            turn_columns(t, piece.data(), rows, width);
            for (std::size_t i = 0; i < rows * width; ++i) out.row(r + i / width)[c + i % width] = static_cast<float>(piece[i]);
        }
    }
    return status::ok;
}

/// Gains are 1 and biases 0. But the head has no bias that could take in the final norm's: n g + b = (n + b / g) g, and the head takes g.
status rotated_weights::read_norm(weight_id id, matrix_view<float> out) const {
    const bool is_bias = bias_of(id) == id;
    std::fill(out.row(0), out.row(0) + out.cols, is_bias ? 0.0F : 1.0F);
    if (id != weight_id::final_norm_bias) return status::ok;
    aligned_buffer<float> gain, bias;
    AQ_TRY(read_vector(weight_id::final_norm, 0, gain));
    AQ_TRY(read_vector(id, 0, bias));
    aligned_buffer<double> shares;
    AQ_TRY(shares.reset(out.cols));
    for (std::size_t c = 0; c < out.cols; ++c) {
        if (bias[c] == 0.0F) continue;
        if (gain[c] == 0.0F) return status::bad_argument;
        shares[c] = static_cast<double>(bias[c]) / static_cast<double>(gain[c]);
    }
    rotation_.apply(shares.data(), 1);
    std::transform(shares.begin(), shares.end(), out.row(0), [](double v) { return static_cast<float>(v); });
    return status::ok;
}

/// bias + W b, where b is the bias of the norm in front, turned as the outputs of W are.
status rotated_weights::read_bias(weight_id id, weight_id matrix, std::size_t layer, matrix_view<float> out) const {
    const matrix_shape shape = shape_of(config_, matrix);
    aligned_buffer<float> values, norm_bias;
    AQ_TRY(values.reset(shape.rows * shape.cols));
    AQ_TRY(inner(matrix, layer, {values.data(), shape.rows, shape.cols}));
    AQ_TRY(read_vector(bias_of(norm_before(matrix)), layer, norm_bias));
    AQ_TRY(inner(id, layer, out));
    aligned_buffer<double> sums;
    AQ_TRY(sums.reset(shape.rows));
    for (std::size_t r = 0; r < shape.rows; ++r) {
        sums[r] = static_cast<double>(out.row(0)[r]);
        for (std::size_t c = 0; c < shape.cols; ++c)  // products of two floats are exact in double
            sums[r] += static_cast<double>(values[r * shape.cols + c]) * static_cast<double>(norm_bias[c]);
    }
    turn_rows(turns_of(id), sums.data(), 1, shape.rows);
    std::transform(sums.begin(), sums.end(), out.row(0), [](double v) { return static_cast<float>(v); });
    return status::ok;
}

}  // namespace aq::example
