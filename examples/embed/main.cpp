// Runs the engine twice, in float and with its largest layer in 4 bits, and compares.
#include <cmath>
#include <cstdio>
#include <exception>
#include <random>

#include "quantized_layer.hpp"

namespace {

engine::matrix random_matrix(std::size_t rows, std::size_t cols, float deviation, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal(0.0F, deviation);
    engine::matrix m(rows, cols);
    for (float& v : m.values) v = normal(generator);
    return m;
}

int compare() {
    constexpr std::size_t tokens = 64, inputs = 32, hidden = 384, outputs = 10;
    const auto deviation = [](std::size_t k) { return 1.0F / std::sqrt(static_cast<float>(k)); };
    const engine::matrix x = random_matrix(tokens, inputs, 1.0F, 1);
    const engine::matrix first = random_matrix(hidden, inputs, deviation(inputs), 2);
    const engine::matrix middle = random_matrix(hidden, hidden, deviation(hidden), 3);
    const engine::matrix last = random_matrix(outputs, hidden, deviation(hidden), 4);
    const quantized_layer quantized(middle);

    const engine::matrix exact = engine::forward(
        x, first, [&](const engine::matrix& m) { return engine::multiply(m, middle); }, last);
    const engine::matrix ours = engine::forward(
        x, first, [&](const engine::matrix& m) { return quantized.multiply(m); }, last);

    double squares = 0, largest = 0;
    for (std::size_t i = 0; i < exact.values.size(); ++i) {
        const double value = exact.values[i], difference = ours.values[i] - value;
        squares += value * value;
        largest = std::fmax(largest, std::fabs(difference));
    }
    const double relative = largest / std::sqrt(squares / static_cast<double>(exact.values.size()));

    // 64 normal weights span about 4.7 deviations, so a step of 4 bits is 4.7 / 15 = 0.31 of them and rounding to it leaves an
    // error of 0.31 / sqrt(12) = 9 % of the root mean square, which the layers after it neither shrink nor grow much; that of
    // 8-bit activations is a twentieth of it. Five deviations of that are a bound for the largest of 640 outputs.
    constexpr double bound = 0.45;
    std::printf("kernels: %s; weights: %zu bytes instead of %zu\n", quantized.isa(), quantized.bytes(),
                sizeof(float) * middle.values.size());
    std::printf("largest difference: %.3f of the outputs' root mean square (bound %.2f)\n", relative, bound);
    return relative <= bound ? 0 : 1;
}

}  // namespace

int main() {
    try {
        return compare();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "embed: %s\n", error.what());
        return 2;
    }
}
