#include "product.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>

#include "data.hpp"
#include "names.hpp"

namespace aq_bench {

namespace {

class product_runner final : public runner {
public:
    product_runner(const peer& p, const product_shape& shape) : tolerance_(p.tolerance), data_(operands_of(shape.n, shape.k)) {
        input_ = {shape, data_->x.data(), data_->w.data(), 1};
        product_ = p.prepare(input_);
        if (product_ == nullptr) return;
        // only a product that is there tells how large its weights are
        input_.copies = cold_copies(product_->weight_bytes());
        product_.reset();
        product_ = p.prepare(input_);
    }
    [[nodiscard]] bool is_there() const { return product_ != nullptr; }

    [[nodiscard]] std::string check() override {
        for (const std::size_t copy : {std::size_t{0}, input_.copies - 1}) {
            product_->run(copy);
            const double error = relative_error(input_, product_->y());
            char text[128];
            std::snprintf(text, sizeof text, "check failed: relative error %.3g, tolerance %.3g", error, tolerance_);
            if (!(error <= tolerance_)) return text;
            const std::string more = product_->own_check();
            if (!more.empty()) return "check failed: " + more;
        }
        return {};
    }
    void run() override {
        product_->run(next_);
        next_ = next_ + 1 == input_.copies ? 0 : next_ + 1;
    }
    [[nodiscard]] double ops() const override {
        const product_shape& s = input_.shape;
        return 2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
    }
    [[nodiscard]] double bytes() const override { return product_->weight_bytes(); }

private:
    double tolerance_;
    std::shared_ptr<const operands> data_;
    product_input input_{};
    std::unique_ptr<prepared_product> product_;
    std::size_t next_ = 0;
};

}  // namespace

std::vector<product_shape> product_shapes() {
    constexpr std::size_t matrices[][2] = {{4096, 4096}, {11008, 4096}, {4096, 11008}};
    std::vector<product_shape> shapes;
    for (const auto& [n, k] : matrices) {
        for (const int threads : {1, 2}) {
            for (const std::size_t m : row_counts) shapes.push_back({m, n, k, threads});
        }
    }
    return shapes;
}

bool is_default(const product_shape& shape) { return shape.n == 4096 && shape.k == 4096 && shape.threads == 1; }

bench_case product_case(const std::string& name, const peer& p, const product_shape& shape, const limit_reference& limit) {
    bench_case c;
    c.name = name + "/" + name_of(shape);
    c.group = name_of(shape);
    c.limit = limit;
    c.is_default = is_default(shape);
    c.make = [p, shape]() -> std::unique_ptr<runner> {
        auto made = std::make_unique<product_runner>(p, shape);
        return made->is_there() ? std::move(made) : nullptr;
    };
    return c;
}

double relative_error(const product_input& input, const float* y) {
    const product_shape& s = input.shape;
    std::mt19937 random(5);
    double error = 0.0, size = 0.0;
    for (int sample = 0; sample < 512; ++sample) {
        const std::size_t r = random() % s.m, c = random() % s.n;
        double expected = 0.0;
        for (std::size_t i = 0; i < s.k; ++i) {
            expected += static_cast<double>(input.x[r * s.k + i]) * static_cast<double>(input.w[c * s.k + i]);
        }
        const double difference = static_cast<double>(y[r * s.n + c]) - expected;
        error += difference * difference;
        size += expected * expected;
    }
    return std::sqrt(error / size);
}

}  // namespace aq_bench
