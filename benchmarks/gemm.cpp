// gemm/<isa>/<format>/<shape>: every instruction set that this CPU runs, every format, every shape.
// packed_multiplier/<isa>/<format>/<shape>: the same product by Agile-Quant's multiplier.
#include "agilequant/kernels/gemm.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "agilequant/dispatch/dispatch.hpp"
#include "agilequant/kernels/packed_multiplier.hpp"
#include "agilequant/kernels/quantized_rows.hpp"
#include "cold_weights.hpp"
#include "data.hpp"
#include "limits/limit_for.hpp"
#include "names.hpp"
#include "product.hpp"
#include "threads.hpp"

namespace aq_bench {

namespace {

struct gemm_format {
    aq::weight_format weights;
    int activation_bits;
    bool is_default;
};

constexpr aq::weight_format groups_of(int bits, std::size_t group, aq::group_scales scales = aq::group_scales::floats) {
    aq::weight_format f;
    f.bits = bits;
    f.group = group;
    f.scales = scales;
    return f;
}
constexpr auto two_level = aq::group_scales::integers;

constexpr gemm_format formats[] = {
    {groups_of(4, 0), 8, true},    {groups_of(4, 128), 8, true},  {groups_of(4, 128, two_level), 8, true},
    {groups_of(4, 0), 4, true},    {groups_of(4, 128), 4, true},  {groups_of(4, 128, two_level), 4, true},
    {groups_of(8, 0), 8, true},    {groups_of(4, 32), 8, false},  {groups_of(4, 32, two_level), 8, false},
    {groups_of(8, 128), 8, false}, {groups_of(2, 128), 8, false}, {groups_of(2, 128), 4, false},
};

class gemm_product final : public prepared_product {
public:
    gemm_product(const aq::kernel_table& kernels, const gemm_format& f, const product_input& in, bool is_packed = false)
        : kernels_(kernels),
          is_packed_(is_packed),
          format_(activations_of(f.activation_bits)),
          in_(in),
          weights_(weights_of(in, f.weights)),
          team_(team_of(in.shape.threads)) {
        require(y_.reset(in.shape.m * in.shape.n), "results");
        const aq::packed_weights& w = weights_->at(0);
        require(rows_.reset(aq::activation_bytes(in.shape.m, w.layout)), "activations");
        scratch_bytes_ = aq::round_up(aq::gemm_scratch_bytes(kernels_, w), aq::cache_line_bytes);
        require(scratch_.reset(scratch_bytes_ * team_.workers), "scratch");
    }

    void run(std::size_t copy) override {
        job_ = {weights_->at(copy), {}, {y_.data(), in_.shape.m, in_.shape.n}, {}};
        const aq::matrix_view<const float> x{in_.x, in_.shape.m, in_.shape.k};
        const aq::k_layout_view layout = job_.weights.layout;
        require(aq::place_activations(x.rows, layout, format_, rows_.data(), rows_.size(), job_.activations), "activations");
        const std::size_t row_pieces = aq::piece_count(team_, x.rows);
        team_.for_each(row_pieces, [&](std::size_t i, std::size_t) {
            const aq::index_range rows = aq::piece(x.rows, row_pieces, i);
            require(aq::quantize_rows(kernels_, x, layout, format_, rows, nullptr, 0, job_.activations), "quantize_rows");
        });
        const std::size_t panels = job_.weights.panels(), pieces = aq::piece_count(team_, panels);
        team_.for_each(pieces, [&](std::size_t i, std::size_t worker) {
            std::byte* const scratch = scratch_bytes_ == 0 ? nullptr : scratch_.data() + worker * scratch_bytes_;
            const aq::index_range some = aq::piece(panels, pieces, i, kernels_.panel_step);
            require(is_packed_ ? aq::gemm_packed_multiplier(kernels_, job_, {0, x.rows}, some)
                               : aq::gemm(kernels_, job_, {0, x.rows}, some, scratch, scratch_bytes_),
                    "gemm");
        });
    }

    [[nodiscard]] const float* y() const override { return y_.data(); }
    [[nodiscard]] double weight_bytes() const override { return static_cast<double>(weights_->at(0).bytes()); }

    /// The scalar kernels define every bit: the first, a middle and the last row, in as many panels.
    [[nodiscard]] std::string own_check() override {
        aq::aligned_buffer<float> expected;
        require(expected.reset(y_.size()), "results");
        aq::gemm_job job = job_;
        job.y.data = expected.data();
        const std::size_t panels = job.weights.panels(), nr = job.weights.tile.nr;
        for (const std::size_t row : {std::size_t{0}, job.y.rows / 2, job.y.rows - 1}) {
            for (const std::size_t panel : {std::size_t{0}, panels / 2, panels - 1}) {
                require(aq::gemm(aq::scalar::table, job, {row, row + 1}, {panel, panel + 1}), "scalar gemm");
                const std::size_t at = row * job.y.stride + panel * nr, count = std::min(nr, job.weights.n - panel * nr);
                if (std::memcmp(y_.data() + at, expected.data() + at, count * sizeof(float)) != 0)
                    return "not the bits of scalar";
            }
        }
        return {};
    }

private:
    const aq::kernel_table& kernels_;
    bool is_packed_;
    aq::activation_format format_;
    product_input in_;
    std::shared_ptr<const cold_weights> weights_;
    aq::executor team_;
    aq::gemm_job job_;
    aq::aligned_buffer<float> y_;
    aq::aligned_buffer<std::byte> rows_, scratch_;
    std::size_t scratch_bytes_ = 0;
};

/// Both sides round: weights within a group or a row, activations within a row.
double tolerance_of(const gemm_format& f, std::size_t k) {
    const double w = range_rounding_error(f.weights.bits, f.weights.group == 0 ? k : f.weights.group);
    const double a = range_rounding_error(f.activation_bits, k);
    return std::sqrt(w * w + a * a + w * w * a * a);
}

/// Per channel and in groups of 128; once for instruction sets that share a kernel.
void add_packed_multiplier(const product_shape& shape, std::vector<bench_case>& cases) {
    aq::kernel_table::gemm_function last = nullptr;
    for (const aq::isa_entry& entry : aq::isa_entries) {
        const aq::kernel_table& kernels = *entry.kernels;
        if (kernels.gemm_packed_multiplier == last || !entry.runs_on(aq::isa::this_cpu())) continue;
        last = kernels.gemm_packed_multiplier;
        for (const gemm_format& f : {gemm_format{groups_of(4, 0), 4, false}, gemm_format{groups_of(4, 128), 4, false}}) {
            const std::string format = name_of(f.weights) + name_of(activations_of(f.activation_bits));
            const peer p{"agilequant", format, tolerance_of(f, shape.k),
                         [&kernels, f](const product_input& in) { return std::make_unique<gemm_product>(kernels, f, in, true); }};
            cases.push_back(product_case(joined({"packed_multiplier", kernels.isa, format}), p, shape, {}));
            cases.back().is_default = false;
        }
    }
}

}  // namespace

void add_gemm(std::vector<bench_case>& cases) {
    for (const product_shape& shape : product_shapes()) {
        if (shape.threads > 1 && !has_teams) continue;
        add_packed_multiplier(shape, cases);
        for (const aq::isa_entry& entry : aq::isa_entries) {
            const aq::kernel_table& kernels = *entry.kernels;
            const bool is_scalar = &kernels == &aq::scalar::table, runs = entry.runs_on(aq::isa::this_cpu());
            for (const gemm_format& f : formats) {
                const std::string format = name_of(f.weights) + name_of(activations_of(f.activation_bits));
                const peer p{"agilequant", format, tolerance_of(f, shape.k),
                             [&kernels, f](const product_input& in) { return std::make_unique<gemm_product>(kernels, f, in); }};
                bench_case c = product_case(joined({"gemm", kernels.isa, format}), p, shape,
                                            gemm_limit(kernels.isa, f.weights.bits, f.activation_bits, shape));
                c.is_default = c.is_default && f.is_default && (!is_scalar || shape.m == 1);
                if (!runs) c.absent = std::string("this CPU lacks ") + kernels.isa;
                cases.push_back(std::move(c));
            }
        }
    }
}

void add_broken(std::vector<bench_case>& cases) {
    class broken_product final : public prepared_product {
    public:
        explicit broken_product(const product_input& in) : y_(in.shape.m * in.shape.n, 1.0F) {}
        void run(std::size_t) override {}
        [[nodiscard]] const float* y() const override { return y_.data(); }
        [[nodiscard]] double weight_bytes() const override { return 1e9; }

    private:
        std::vector<float> y_;
    };
    const peer p{"agilequant", "broken", 0.2, [](const product_input& in) { return std::make_unique<broken_product>(in); }};
    cases.push_back(product_case("gemm/scalar/broken", p, {1, 4096, 4096, 1}, {}));
}

}  // namespace aq_bench
