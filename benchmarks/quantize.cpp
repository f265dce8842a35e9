// quantize/<isa>/<format>/<shape>: float rows to codes, one scale a row; with TRIP's exponents channels change places too.
#include "agilequant/kernels/quantize.hpp"

#include <cstring>

#include "agilequant/dispatch/dispatch.hpp"
#include "agilequant/kernels/quantized_rows.hpp"
#include "data.hpp"
#include "limits/limit_for.hpp"
#include "names.hpp"
#include "product.hpp"

namespace aq_bench {

namespace {

constexpr std::size_t channels = 4096, group = 128;

class quantize_runner final : public runner {
public:
    quantize_runner(const aq::kernel_table& kernels, std::size_t m, int bits, bool has_trip)
        : kernels_(kernels),
          format_(activations_of(bits)),
          data_(operands_of(channels, channels)),
          x_{data_->x.data(), m, channels} {
        // one channel in 64 is an outlier, as in large models
        std::vector<std::uint8_t> exponents(channels, 0);
        for (std::size_t c = 0; c < channels; c += 64) exponents[c] = 3;
        require(layout_.make(channels, group, has_trip ? exponents.data() : nullptr), "layout");
    }
    /// Every bit is scalar's.
    [[nodiscard]] std::string check() override {
        aq::quantized_rows expected;
        require(expected.assign(aq::scalar::table, x_, layout_.view(), format_), "scalar quantize_rows");
        run();
        const aq::activations_view a = rows_.view(), b = expected.view();
        const std::size_t m = x_.rows, sums = m * layout_.view().groups;
        const bool same = std::memcmp(a.codes, b.codes, m * a.stride) == 0 &&
                          std::memcmp(a.scales, b.scales, m * sizeof(float)) == 0 &&
                          std::memcmp(a.zeros, b.zeros, m * sizeof(std::int32_t)) == 0 &&
                          std::memcmp(a.sums, b.sums, sums * sizeof(std::int32_t)) == 0;
        return same ? "" : "check failed: not the bits of scalar";
    }
    void run() override { require(rows_.assign(kernels_, x_, layout_.view(), format_), "quantize_rows"); }
    [[nodiscard]] double bytes() const override { return static_cast<double>(x_.rows * x_.cols * sizeof(float)); }

private:
    const aq::kernel_table& kernels_;
    aq::activation_format format_;
    std::shared_ptr<const operands> data_;
    aq::matrix_view<const float> x_;
    aq::k_layout layout_;
    aq::quantized_rows rows_;
};

}  // namespace

void add_quantize(std::vector<bench_case>& cases) {
    for (const aq::isa_entry& entry : aq::isa_entries) {
        const aq::kernel_table& kernels = *entry.kernels;
        for (const int bits : {8, 4}) {
            for (const bool has_trip : {false, true}) {
                for (const std::size_t m : row_counts) {
                    bench_case c;
                    const std::string format = name_of(activations_of(bits)) + (has_trip ? "trip" : "");
                    c.name = joined({"quantize", kernels.isa, format, numbered("m", m), numbered("k", channels), "t1"});
                    c.group = "quantize";
                    // what is read, and the codes that are written
                    c.limit = read_limit(static_cast<double>(m * channels * (sizeof(float) + 1)));
                    c.is_default = &kernels != &aq::scalar::table && (m == 1 || m == 512);
                    if (!entry.runs_on(aq::isa::this_cpu())) c.absent = std::string("this CPU lacks ") + kernels.isa;
                    c.make = [&kernels, m, bits, has_trip] {
                        return std::make_unique<quantize_runner>(kernels, m, bits, has_trip);
                    };
                    cases.push_back(std::move(c));
                }
            }
        }
    }
}

}  // namespace aq_bench
