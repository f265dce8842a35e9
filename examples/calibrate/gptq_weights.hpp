/// \file
/// A model's weights with those of its blocks rounded by GPTQ, still delivered as floats: a model of them computes in float activations
/// what one of packed codes does, bit for bit.
#pragma once

#include <agilequant/model/llama.hpp>
#include <agilequant/quant/gptq.hpp>
#include <cstdint>
#include <vector>

namespace aq::example {

/// How far the output of one linear is off, by GPTQ and by round-to-nearest in the same format, for the same inputs.
struct gptq_report {
    weight_id id;
    std::size_t layer;
    output_error gptq, nearest;
};

struct gptq_run {
    weight_format format;
    gptq_settings settings;
    const kernel_table* kernels = nullptr;
    executor threads;
};

class gptq_weights {
public:
    /// Borrows the source.
    gptq_weights(const model_config& config, const weight_source& original)
        : config_(config), original_(original), replaced_(config.layers * ids_of_layer) {}

    /// What a model loads: the original weights, or the values of their codes.
    [[nodiscard]] weight_source source() noexcept { return {this, read}; }

    /// Rounds the weights of all blocks, one site after the other, each by what the model so far makes of the windows, every weight before the
    /// site in its codes ("true sequential"). One report a weight is added to `reports`. What loading, running and quantizing answer;
    /// bad_argument where there is no window.
    [[nodiscard]] status quantize(const gptq_run& run, const std::vector<std::vector<std::uint32_t>>& windows,
                                  std::vector<gptq_report>& reports);

private:
    static constexpr std::size_t ids_of_layer = static_cast<std::size_t>(weight_id::down) + 1;

    static status read(void* self, weight_id id, std::size_t layer, matrix_view<float> out);
    [[nodiscard]] status see_site(const gptq_run& run, const std::vector<std::vector<std::uint32_t>>& windows, std::size_t layer,
                                  site where);
    [[nodiscard]] status round(const gptq_run& run, weight_id id, std::size_t layer, std::vector<gptq_report>& reports);
    [[nodiscard]] std::vector<float>& replaced(weight_id id, std::size_t layer) {
        return replaced_[layer * ids_of_layer + static_cast<std::size_t>(id)];
    }

    model_config config_;
    weight_source original_;
    std::vector<std::vector<float>> replaced_;
    hessian hessian_;
    gptq_plan plan_;
};

}  // namespace aq::example
