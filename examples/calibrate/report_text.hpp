/// \file
/// Site reports as lines of numbers, for a run that is broken off: what comes back is what was written, to the bit. Formats and exponents are with the layer.
#pragma once

#include <agilequant/model/activation_profile.hpp>
#include <string>
#include <vector>

#include "calibrate/recipe.hpp"

namespace aq::example {

/// Of one layer's sites, a line each.
[[nodiscard]] std::string text_of(const std::vector<site_report>& sites, std::size_t layer);

/// Appends what such a text says, with formats from the profile. false, and nothing appended, where it is no such text.
[[nodiscard]] bool add_reports(const std::string& text, const activation_profile& profile, std::vector<site_report>& sites);

}  // namespace aq::example
