/// \file
/// What calibration found out about every site of a model: TRIP's exponents, and the scale and zero point of its static form.
#pragma once

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/model/config.hpp"
#include "agilequant/model/linear.hpp"

namespace aq {

/// Exponents [k] and static scale of every site of every layer.
class activation_profile {
public:
    [[nodiscard]] status reset(const model_config& c) noexcept {
        dim_ = c.dim;
        hidden_ = c.hidden;
        AQ_TRY(exponents_.reset(c.layers * (3 * dim_ + hidden_)));
        return scales_.reset(c.layers * site_count);
    }
    /// Whether it was made for a model of these sizes.
    [[nodiscard]] bool fits(const model_config& c) const noexcept {
        return scales_.size() == c.layers * site_count && dim_ == c.dim && hidden_ == c.hidden;
    }
    [[nodiscard]] std::size_t channels(site s) const noexcept { return s == site::mlp_middle ? hidden_ : dim_; }
    [[nodiscard]] std::uint8_t* exponents(std::size_t layer, site s) noexcept { return exponents_.data() + place(layer, s); }
    [[nodiscard]] const std::uint8_t* exponents(std::size_t layer, site s) const noexcept {
        return exponents_.data() + place(layer, s);
    }
    [[nodiscard]] affine& scale(std::size_t layer, site s) noexcept {
        return scales_[layer * site_count + static_cast<std::size_t>(s)];
    }
    [[nodiscard]] const affine& scale(std::size_t layer, site s) const noexcept {
        return scales_[layer * site_count + static_cast<std::size_t>(s)];
    }

private:
    [[nodiscard]] std::size_t place(std::size_t layer, site s) const noexcept {
        return layer * (3 * dim_ + hidden_) + static_cast<std::size_t>(s) * dim_;  // the middle of the MLP is the last site
    }
    std::size_t dim_ = 0, hidden_ = 0;
    aligned_buffer<std::uint8_t> exponents_;
    aligned_buffer<affine> scales_;
};

}  // namespace aq
