/// \file
/// How the activations of every site of a model are coded: what calibration has found out. Formats, and TRIP's exponents.
#pragma once

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/model/config.hpp"
#include "agilequant/model/linear.hpp"

namespace aq {

/// Format and exponents [k] of every site of every layer.
class activation_profile {
public:
    /// For a model of these sizes: no exponents, and everywhere the same four formats, sites [site_count] (null: float). out_of_memory.
    [[nodiscard]] status reset(const model_config& c, const site_format* sites = nullptr) noexcept {
        dim_ = c.dim;
        hidden_ = c.hidden;
        AQ_TRY(exponents_.reset(c.layers * (3 * dim_ + hidden_)));
        AQ_TRY(formats_.reset(c.layers * site_count));
        for (std::size_t i = 0; i < formats_.size(); ++i) formats_[i] = sites == nullptr ? site_format{} : sites[i % site_count];
        return status::ok;
    }
    /// Whether it was made for a model of these sizes.
    [[nodiscard]] bool fits(const model_config& c) const noexcept {
        return formats_.size() == c.layers * site_count && dim_ == c.dim && hidden_ == c.hidden;
    }
    [[nodiscard]] std::size_t layers() const noexcept { return formats_.size() / site_count; }
    [[nodiscard]] std::size_t channels(site s) const noexcept { return s == site::mlp_middle ? hidden_ : dim_; }
    [[nodiscard]] std::uint8_t* exponents(std::size_t layer, site s) noexcept { return exponents_.data() + place(layer, s); }
    [[nodiscard]] const std::uint8_t* exponents(std::size_t layer, site s) const noexcept {
        return exponents_.data() + place(layer, s);
    }
    [[nodiscard]] site_format& format(std::size_t layer, site s) noexcept {
        return formats_[layer * site_count + static_cast<std::size_t>(s)];
    }
    [[nodiscard]] const site_format& format(std::size_t layer, site s) const noexcept {
        return formats_[layer * site_count + static_cast<std::size_t>(s)];
    }

private:
    [[nodiscard]] std::size_t place(std::size_t layer, site s) const noexcept {
        return layer * (3 * dim_ + hidden_) + static_cast<std::size_t>(s) * dim_;  // the middle of the MLP is the last site
    }
    std::size_t dim_ = 0, hidden_ = 0;
    aligned_buffer<std::uint8_t> exponents_;
    aligned_buffer<site_format> formats_;
};

}  // namespace aq
