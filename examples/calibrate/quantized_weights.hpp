/// \file
/// What is quantized, under this folder's names.
#pragma once

#include "models/loaded_model.hpp"

namespace aq::example {

using models::linears_of;
using models::linears_of_site;
using models::quantized_weights;

}  // namespace aq::example
