#include "attention_case.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "data.hpp"
#include "names.hpp"

namespace aq_bench {

namespace {

/// Standard normal, so that scores are too: no key stands out, and the codings of probabilities find few zeros to leave out.
struct attention_operands {
    aq::aligned_buffer<float> q, k, v;
};

/// Kept as long as a case of this length needs them.
std::shared_ptr<const attention_operands> operands_of(const attention_shape& shape) {
    static std::weak_ptr<const attention_operands> last;
    static std::size_t last_size = 0;
    const std::size_t size = shape.length * shape.width();
    std::shared_ptr<const attention_operands> found = last.lock();
    if (found != nullptr && last_size == size) return found;
    auto made = std::make_shared<attention_operands>();
    made->q = normal_values(size, 11);
    made->k = normal_values(size, 12);
    made->v = normal_values(size, 13);
    last = made;
    last_size = size;
    return made;
}

class attention_runner final : public runner {
public:
    attention_runner(const attention_peer& p, const attention_shape& s) : tolerance_(p.tolerance), data_(operands_of(s)) {
        // a step is the last row of the prompt
        const float* const q = data_->q.data() + (s.length - s.rows()) * s.width();
        input_ = {s, q, data_->k.data(), data_->v.data(), 1};
        attention_ = p.prepare(input_);
        if (attention_ == nullptr || s.is_prompt) return;
        // A prompt reads its cache once for each block of rows, so that it is warm whatever one does; a step reads it once. Only attention
        // that is there tells how large its cache is.
        input_.copies = cold_copies(attention_->cache_bytes());
        attention_.reset();
        attention_ = p.prepare(input_);
    }
    [[nodiscard]] bool is_there() const { return attention_ != nullptr; }

    [[nodiscard]] std::string check() override {
        for (const std::size_t copy : std::set<std::size_t>{0, input_.copies - 1}) {
            attention_->run(copy);
            double error = 0.0;
            for (const std::size_t row : checked_rows(input_.shape)) {
                const double e = row_error(input_, attention_->out(), row);
                error = e <= error ? error : e;  // also where e is not a number
            }
            char text[128];
            std::snprintf(text, sizeof text, "check failed: relative error %.3g, tolerance %.3g", error, tolerance_);
            if (!(error <= tolerance_)) return text;
            const std::string more = attention_->own_check();
            if (!more.empty()) return "check failed: " + more;
        }
        return {};
    }
    void run() override {
        attention_->run(next_);
        next_ = next_ + 1 == input_.copies ? 0 : next_ + 1;
    }
    /// Q K^T and P V, for the keys that a row sees.
    [[nodiscard]] double ops() const override {
        const attention_shape& s = input_.shape;
        const double pairs = static_cast<double>(s.rows()) * static_cast<double>(s.keys_of(0) + s.length) / 2.0;
        return 4.0 * static_cast<double>(s.width()) * pairs;
    }
    [[nodiscard]] double bytes() const override { return attention_->cache_bytes(); }

private:
    double tolerance_;
    std::shared_ptr<const attention_operands> data_;
    attention_input input_{};
    std::unique_ptr<prepared_attention> attention_;
    std::size_t next_ = 0;
};

/// Probabilities that row `row` of head `head` gives to the keys that it sees.
std::vector<double> softmax_row(const attention_input& in, std::size_t row, std::size_t head) {
    const std::size_t width = in.shape.width(), dim = in.shape.head_dim;
    const float* const q = in.q + row * width + head * dim;
    std::vector<double> p(in.shape.keys_of(row));
    for (std::size_t j = 0; j < p.size(); ++j) {
        for (std::size_t c = 0; c < dim; ++c) {
            p[j] += static_cast<double>(q[c]) * static_cast<double>(in.k[j * width + head * dim + c]);
        }
    }
    const double scale = 1.0 / std::sqrt(static_cast<double>(dim)), top = *std::max_element(p.begin(), p.end());
    double sum = 0.0;
    for (double& value : p) sum += value = std::exp(scale * (value - top));
    for (double& value : p) value /= sum;
    return p;
}

}  // namespace

std::vector<attention_shape> attention_shapes() {
    std::vector<attention_shape> shapes;
    for (const bool is_prompt : {true, false}) {
        for (const int threads : {1, 2}) {
            for (const std::size_t length : {std::size_t{512}, most_keys})
                shapes.push_back({is_prompt, length, 32, 128, threads});
        }
    }
    return shapes;
}

bool is_default(const attention_shape& shape) {
    return shape.threads == 1 && shape.length == (shape.is_prompt ? std::size_t{512} : most_keys);
}

bench_case attention_case(const std::string& name, const attention_peer& p, const attention_shape& shape,
                          const limit_reference& limit) {
    bench_case c;
    c.name = joined({name, name_of(shape)});
    c.group = joined({"attention", name_of(shape)});
    c.limit = limit;
    c.is_default = is_default(shape);
    c.make = [p, shape]() -> std::unique_ptr<runner> {
        auto made = std::make_unique<attention_runner>(p, shape);
        return made->is_there() ? std::move(made) : nullptr;
    };
    return c;
}

double row_error(const attention_input& input, const float* out, std::size_t row) {
    const std::size_t width = input.shape.width(), dim = input.shape.head_dim;
    double error = 0.0, size = 0.0;
    for (std::size_t head = 0; head < input.shape.heads; ++head) {
        const std::vector<double> p = softmax_row(input, row, head);
        for (std::size_t c = head * dim; c < (head + 1) * dim; ++c) {
            double expected = 0.0;
            for (std::size_t j = 0; j < p.size(); ++j) expected += p[j] * static_cast<double>(input.v[j * width + c]);
            const double difference = static_cast<double>(out[row * width + c]) - expected;
            error += difference * difference;
            size += expected * expected;
        }
    }
    return std::sqrt(error / size);
}

std::vector<std::size_t> checked_rows(const attention_shape& shape) {
    if (!shape.is_prompt) return {0};
    return {0, shape.length / 2, shape.length - 1};
}

}  // namespace aq_bench
