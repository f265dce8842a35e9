// The kernels of all instruction sets, compiled once for our own programs and tests: see dispatch/foreach.hpp.
#define AQ_KERNELS_HERE
#include "agilequant/dispatch/dispatch.hpp"
