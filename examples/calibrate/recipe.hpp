/// \file
/// What calibrating is asked to do, and what it tells about every site.
#pragma once

#include <agilequant/model/linear.hpp>
#include <agilequant/quant/activation_search.hpp>
#include <agilequant/quant/gptq.hpp>
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
    gptq_settings gptq;
    bool refits = true;           ///< weights to the codes of the activations first, where GPTQ is used
    site_format sites[site_count];  ///< bits and form of the activations, and which are rotated in any case
    bool tries_rotation = false;    ///< of the others: where the output's error says so
    exponent_search exponents = exponent_search::none;
    int top_exponent = 6;  ///< the largest K
};

/// How far the outputs of one matrix are from those of the original, on a sample: by its weights as they were rounded, and to nearest.
struct weight_report {
    weight_id id;
    output_error rounded, nearest;
};

struct site_report {
    std::size_t layer = 0;
    site where = site::attention;
    site_format format;
    int top_exponent = 0;  ///< K
    exponent_choice choice = exponent_choice::mean_square;
    value_range range;         ///< of all activations seen, before a rotation
    double noise = 0.0;        ///< squared error of the outputs by the codes of the activations alone, as a share of the outputs' squares
    output_error output;       ///< of all that the site feeds, by activations and weights together
    std::vector<weight_report> weights;
};

}  // namespace aq::example
