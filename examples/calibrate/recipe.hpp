/// \file
/// What calibrating is asked to do, and what it tells about every site.
#pragma once

#include <agilequant/model/config.hpp>
#include <agilequant/model/linear.hpp>
#include <agilequant/quant/activation_search.hpp>
#include <agilequant/quant/gptq.hpp>
#include <cmath>
#include <limits>
#include <vector>

namespace aq::example {

/// How the numbers that a site's activations are divided by are found.
enum class exponent_search {
    none,    ///< no exponents
    paper,   ///< K as given, each channel by its own squared error
    output,  ///< K, statistic and clip by the error of the output
};

struct recipe {
    weight_format weights{4, true, 32, range_search::mean_square, group_scales::floats};
    bool uses_gptq = true;  ///< or round-to-nearest
    gptq_settings gptq{0.003};
    bool refits = true;    ///< weights to the codes of the activations first (quant/refit.hpp), where GPTQ is used
    double follow = 0.25;  ///< refitted to: 0 what enters the quantized model's site, 1 what enters the float model's, or between
    site_format
        sites[site_count];  ///< bits and form of the activations, and which are rotated in any case; clips are searched, or none
    std::vector<site_format> sites_of_layers;  ///< instead: [layers * site_count], or none
    bool tries_rotation = false;               ///< of the others: where the output's error says so
    exponent_search exponents = exponent_search::none;
    int top_exponent = 6;  ///< the largest K

    [[nodiscard]] const site_format& format(std::size_t layer, site where) const {
        const auto s = static_cast<std::size_t>(where);
        return sites_of_layers.empty() ? sites[s] : sites_of_layers[layer * site_count + s];
    }
};

/// Squares of the outputs of one matrix on a sample of the site's rows, in double: what they should be, and how far off they are.
struct weight_report {
    weight_id id = weight_id::q;
    double energy = 0.0;      ///< of the original weights on float activations
    double by_codes = 0.0;    ///< error of the original weights on coded activations
    double by_both = 0.0;     ///< error of the weights as they were rounded, on coded activations
    double by_nearest = 0.0;  ///< the same of round-to-nearest
};

/// How a site is coded, and by what choice.
struct site_coding {
    site_format format;
    int top_exponent = 0;  ///< K
    exponent_choice choice = exponent_choice::mean_square;
    std::vector<std::uint8_t> exponents;  ///< [channels]
};

struct site_report {
    std::size_t layer = 0;
    site where = site::attention;
    site_coding coding;
    value_range range;  ///< of all activations seen, before a rotation
    std::vector<weight_report> weights;

    /// Of all outputs, in decibels: what they should be over how far off they are. Infinity where they are not off.
    [[nodiscard]] double signal_to_noise_db() const noexcept {
        double energy = 0.0, error = 0.0;
        for (const weight_report& w : weights) {
            energy += w.energy;
            error += w.by_both;
        }
        return error == 0.0 ? std::numeric_limits<double>::infinity() : 10.0 * std::log10(energy / error);
    }
};

}  // namespace aq::example
