/// \file
/// One site of one layer on its way: looked at, coded, its weights rounded and packed. What the calibrator is made of.
#pragma once

#include <agilequant/quant/refit.hpp>
#include <functional>

#include "calibrate/calibrator.hpp"
#include "calibrate/site_coder.hpp"
#include "calibrate/site_weights.hpp"

namespace aq::example {

/// The walks that a site is seen on, standing in front of its layer, with the layer set. `exact`: null, or that of the float model.
struct site_walks {
    layer_walk& model;
    layer_walk* exact;
};

class site_work {
public:
    site_work(const recipe& how, const site_weights& weights, const site_walks& walks, const executor& threads,
              std::function<void(double share_done)> progress)
        : recipe_(how), weights_(weights), walks_(walks), threads_(threads), progress_(std::move(progress)) {}

    /// Does all of it. The packed matrices, format and exponents go into `out`.
    [[nodiscard]] status run(quantized_weights& out);
    [[nodiscard]] const site_report& report() const noexcept { return report_; }

private:
    [[nodiscard]] status choose_coding();
    [[nodiscard]] status look_at_codes();
    [[nodiscard]] status add_codes(site_rows& x, std::size_t window);
    [[nodiscard]] status toward_exact(std::size_t window, site_rows& x);
    [[nodiscard]] status round(weight_id id, quantized_weights& out);
    [[nodiscard]] status make_codes(matrix_view<float> w, coded_matrix& out) const;
    [[nodiscard]] status measure(weight_id id, matrix_view<const float> original, const coded_matrix& coded);
    [[nodiscard]] status rotate_and_code(matrix_view<float> x) const;
    [[nodiscard]] status code(matrix_view<float> x) const;
    [[nodiscard]] bool refits() const noexcept;
    [[nodiscard]] bool is_coded() const noexcept { return !report_.coding.format.is_float; }

    const recipe& recipe_;
    const site_weights& weights_;
    const site_walks& walks_;
    const executor& threads_;
    std::function<void(double)> progress_;

    std::size_t channels_ = 0;
    site_report report_;
    site_coder coder_;
    hessian sums_;      // of what the codes stand for
    coding_loss loss_;  // what coding has taken
    gptq_plan plan_;
    std::vector<std::uint32_t> columns_;
    site_rows exact_;
    std::vector<float> coded_;
};

}  // namespace aq::example
