// fails WIDTH: aq: a code has 2 to 8 bits.
// fails SYMMETRY: aq: the second argument is symmetric or asymmetric.
// fails GRANULARITY: aq: the third argument is per_tensor, per_token, per_channel or group<N>.
#include <agilequant/quant/uniform.hpp>

#if defined(WIDTH)
using format = aq::uniform<9, aq::asymmetric, aq::group<32>>;
#elif defined(SYMMETRY)
using format = aq::uniform<4, int, aq::group<32>>;
#elif defined(GRANULARITY)
using format = aq::uniform<4, aq::asymmetric, int>;
#else
using format = aq::uniform<4, aq::asymmetric, aq::group<32>>;
#endif

int width() { return format::width; }
