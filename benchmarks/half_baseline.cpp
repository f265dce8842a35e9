// baseline/f16/<shape>: the best form of the baseline that this CPU runs; baseline/f16_avx2/<shape>: its AVX2 form, at the vector width of
// AVX2's integer kernels.
#include <cstring>

#include "agilequant/core/half.hpp"
#include "data.hpp"
#include "half/job.hpp"
#include "limits/limit_for.hpp"
#include "names.hpp"
#include "product.hpp"
#include "threads.hpp"

namespace aq_bench {

namespace {

class half_product final : public prepared_product {
public:
    half_product(const half_kernels& kernels, const product_input& in)
        : kernels_(kernels), in_(in), team_(team_of(in.shape.threads)), copies_(in.copies) {
        const product_shape& s = in.shape;
        for (auto& copy : copies_) require(copy.reset(s.n * s.k), "copies of weights");
        for (std::size_t c = 0; c < s.n; ++c) {
            std::uint16_t* const panel = copies_[0].data() + c / kernels.width * kernels.width * s.k + c % kernels.width;
            for (std::size_t i = 0; i < s.k; ++i) panel[i * kernels.width] = aq::float_to_half(in.w[c * s.k + i]);
        }
        for (auto& copy : copies_) {
            if (&copy != &copies_[0]) std::memcpy(copy.data(), copies_[0].data(), copy.size_bytes());
        }
        require(x_.reset(s.m * s.k), "packed activations");
        require(y_.reset(s.m * s.n), "results");
        require(scratch_.reset(half_scratch_floats * team_.workers), "scratch");
    }
    void run(std::size_t copy) override {
        const product_shape& s = in_.shape;
        kernels_.pack(in_.x, s.m, s.k, x_.data());
        const half_job job{x_.data(), copies_[copy].data(), y_.data(), s.m, s.n, s.k};
        const std::size_t panels = s.n / kernels_.width, pieces = aq::piece_count(team_, panels);
        team_.for_each(pieces, [&](std::size_t i, std::size_t worker) {
            const aq::index_range range = aq::piece(panels, pieces, i);
            kernels_.multiply(job, range.begin, range.end, scratch_.data() + worker * half_scratch_floats);
        });
    }
    [[nodiscard]] const float* y() const override { return y_.data(); }
    [[nodiscard]] double weight_bytes() const override { return static_cast<double>(copies_[0].size_bytes()); }

private:
    const half_kernels& kernels_;
    product_input in_;
    aq::executor team_;
    std::vector<aq::aligned_buffer<std::uint16_t>> copies_;
    aq::aligned_buffer<float> x_, y_, scratch_;
};

/// A half has 11 bits: rounding a normal value costs 2^-12 of it at most.
constexpr double half_tolerance = 0x1p-11;

}  // namespace

void add_baselines(std::vector<bench_case>& cases) {
    std::size_t count = 0;
    const half_kernels* const forms = half_forms(count);
    const half_kernels* best = nullptr;
    for (std::size_t i = 0; i < count; ++i) best = forms[i].runs_here ? &forms[i] : best;
    for (const product_shape& shape : product_shapes()) {
        if (shape.threads > 1 && !has_teams) continue;
        for (std::size_t i = 0; i < count; ++i) {
            const half_kernels& kernels = forms[i];
            if (!kernels.runs_here) continue;
            const peer p{"baseline", "f16", half_tolerance,
                         [&kernels](const product_input& in) -> std::unique_ptr<prepared_product> {
                             if (in.shape.n % kernels.width != 0) return nullptr;
                             return std::make_unique<half_product>(kernels, in);
                         }};
            const limit_reference limit = float_limit(kernels.isa, shape);
            if (&kernels == best) cases.push_back(product_case("baseline/f16", p, shape, limit));
            else cases.push_back(product_case(std::string("baseline/f16_") + kernels.isa, p, shape, limit));
        }
    }
}

}  // namespace aq_bench
