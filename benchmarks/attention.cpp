// attention/<isa>/<coding>/kv<bits>/<shape>: every instruction set that has attention of its own, every cache, every shape.
#include "agilequant/kernels/attention.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <tuple>

#include "agilequant/dispatch/dispatch.hpp"
#include "agilequant/model/kv_cache.hpp"
#include "attention_case.hpp"
#include "data.hpp"
#include "limits/limit_for.hpp"
#include "names.hpp"
#include "peers/tolerance.hpp"
#include "threads.hpp"

namespace aq_bench {

namespace {

struct attention_format {
    int cache_bits;
    aq::probability_coding coding;
};

constexpr attention_format formats[] = {
    {32, aq::probability_coding::softmax},          {8, aq::probability_coding::log2_ceiling},
    {8, aq::probability_coding::log2_half_ceiling}, {8, aq::probability_coding::softmax},
    {4, aq::probability_coding::log2_ceiling},      {4, aq::probability_coding::log2_half_ceiling},
    {4, aq::probability_coding::softmax},
};

using cache_copies = std::vector<aq::kv_cache>;

/// As many copies of a cache as `in` asks for. Filled once for all instruction sets and codings, and kept as long as one needs them.
std::shared_ptr<const cache_copies> caches_of(const attention_input& in, int bits) {
    static std::map<std::tuple<int, std::size_t, std::size_t>, std::weak_ptr<const cache_copies>> kept;
    const attention_shape& s = in.shape;
    std::weak_ptr<const cache_copies>& entry = kept[{bits, s.length, in.copies}];
    std::shared_ptr<const cache_copies> found = entry.lock();
    if (found != nullptr) return found;
    auto made = std::make_shared<cache_copies>(in.copies);
    for (aq::kv_cache& cache : *made) {
        require(cache.reset(s.heads, s.head_dim, s.length, bits), "cache");
        require(cache.append({in.k, s.length, s.width()}, {in.v, s.length, s.width()}), "filling the cache");
    }
    entry = made;
    return made;
}

class own_attention final : public prepared_attention {
public:
    own_attention(const aq::kernel_table& kernels, const attention_format& f, const attention_input& in)
        : kernels_(kernels), in_(in), caches_(caches_of(in, f.cache_bits)), team_(team_of(in.shape.threads)) {
        const attention_shape& s = in.shape;
        require(out_.reset(s.rows() * s.width()), "results");
        job_ = {{in.q, s.rows(), s.width()}, caches_->at(0).view(), {out_.data(), s.rows(), s.width()}, s.heads, f.coding};
        scratch_bytes_ = aq::round_up(aq::attention_scratch_bytes(job_.cache, job_.coding), aq::cache_line_bytes);
        require(scratch_.reset(scratch_bytes_ * team_.workers), "scratch");
    }

    void run(std::size_t copy) override {
        job_.cache = caches_->at(copy).view();
        const std::size_t pieces = aq::piece_count(team_, job_.heads);
        team_.for_each(pieces, [&](std::size_t i, std::size_t worker) {
            std::byte* const scratch = scratch_.data() + worker * scratch_bytes_;
            require(aq::attention(kernels_, job_, aq::piece(job_.heads, pieces, i), scratch, scratch_bytes_), "attention");
        });
    }

    [[nodiscard]] const float* out() const override { return out_.data(); }
    [[nodiscard]] double cache_bytes() const override { return static_cast<double>(caches_->at(0).bytes().used); }

    /// The scalar kernels define every bit, and a row of a prompt is the step with the same keys.
    [[nodiscard]] std::string own_check() override {
        const attention_shape& s = in_.shape;
        std::vector<float> expected(s.width());
        for (const std::size_t row : checked_rows(s)) {
            aq::attention_job step = job_;
            step.q = job_.q.rows_from(row, 1);
            step.out = {expected.data(), 1, s.width()};
            step.cache = job_.cache.first(s.keys_of(row));
            require(aq::attention(aq::scalar::table, step, scratch_.data(), scratch_bytes_), "scalar attention");
            if (std::memcmp(expected.data(), job_.out.row(row), s.width() * sizeof(float)) != 0) return "not the bits of scalar";
        }
        return {};
    }

private:
    const aq::kernel_table& kernels_;
    attention_input in_;
    std::shared_ptr<const cache_copies> caches_;
    aq::executor team_;
    aq::attention_job job_;
    aq::aligned_buffer<float> out_;
    aq::aligned_buffer<std::byte> scratch_;
    std::size_t scratch_bytes_ = 0;
};

/// Codes multiply weights by 2^u, |u| <= 1/2 step. The mean is divided out, so what counts is its deviation over its mean, which for
/// numbers from a to b is (b - a) / (2 sqrt(ab)) at most: 0.35 for octaves, 0.17 for halves. Evenly spread u lose 0.20 and 0.10.
double coding_error(const aq::log2_form& form) {
    return form.is_coded ? std::sinh(std::log(2.0) / 2.0 / static_cast<double>(form.steps)) : 0.0;
}

/// Scores have variance 1, so the relative error of q and k is the error of a score, and of a weight; weights and values that are wrong
/// independently of each other add their squares.
double tolerance_of(const attention_format& f, const attention_shape& s) {
    if (f.cache_bits == 32) return float_error();
    const double stored_scale = 1.0 + 0x1p-7;  // bfloat16, rounded up
    const double cached = stored_scale * range_rounding_error(f.cache_bits, s.head_dim);
    const double weights = product_error(range_rounding_error(8, s.head_dim), cached);
    return product_error(product_error(weights, cached), coding_error(aq::form_of(f.coding)));
}

bench_case own_case(const aq::kernel_table& kernels, const attention_format& f, const attention_shape& shape) {
    const std::string format = joined({name_of(f.coding), numbered("kv", static_cast<std::size_t>(f.cache_bits))});
    const attention_peer p{"agilequant", format, tolerance_of(f, shape),
                           [&kernels, f](const attention_input& in) { return std::make_unique<own_attention>(kernels, f, in); }};
    return attention_case(joined({"attention", kernels.isa, format}), p, shape,
                          attention_limit(kernels.isa, f.cache_bits, shape));
}

}  // namespace

void add_attention(std::vector<bench_case>& cases) {
    for (const attention_shape& shape : attention_shapes()) {
        if (shape.threads > 1 && !has_teams) continue;
        aq::kernel_table::attention_function last = nullptr;
        for (const aq::isa_entry& entry : aq::isa_entries) {
            const aq::kernel_table& kernels = *entry.kernels;
            if (kernels.attention == last) continue;  // once for instruction sets that share it
            last = kernels.attention;
            for (const attention_format& f : formats) {
                bench_case c = own_case(kernels, f, shape);
                c.is_default = c.is_default && (&kernels != &aq::scalar::table || !shape.is_prompt);
                if (!entry.runs_on(aq::isa::this_cpu())) c.absent = std::string("this CPU lacks ") + kernels.isa;
                cases.push_back(std::move(c));
            }
        }
    }
}

void add_broken_attention(std::vector<bench_case>& cases) {
    class broken_attention final : public prepared_attention {
    public:
        explicit broken_attention(const attention_input& in) : out_(in.shape.rows() * in.shape.width(), 0.01F) {}
        void run(std::size_t) override {}
        [[nodiscard]] const float* out() const override { return out_.data(); }
        [[nodiscard]] double cache_bytes() const override { return 1e9; }

    private:
        std::vector<float> out_;
    };
    const attention_peer p{"agilequant", "broken", 0.2,
                           [](const attention_input& in) { return std::make_unique<broken_attention>(in); }};
    cases.push_back(attention_case("attention/scalar/broken", p, {true, 512, 32, 128, 1}, {}));
}

}  // namespace aq_bench
