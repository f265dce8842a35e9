#include "data.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace aq_bench {

void require(aq::status s, const char* what) {
    if (s == aq::status::ok) return;
    std::fprintf(stderr, "agilequant_bench: %s: %s\n", what, aq::message(s));
    std::exit(2);
}

aq::aligned_buffer<float> normal_values(std::size_t count, unsigned seed) {
    // one list of a prime length, laid end to end from a new place in each row's worth: real normals at a fraction of the time
    constexpr std::size_t length = 1048573;
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    aq::aligned_buffer<float> list, values;
    require(list.reset(length), "random values");
    require(values.reset(count), "random values");
    for (float& v : list) v = normal(random);
    for (std::size_t done = 0; done < count;) {
        const std::size_t place = random() % length, piece = std::min({length - place, count - done, std::size_t{4096}});
        std::copy_n(list.data() + place, piece, values.data() + done);
        done += piece;
    }
    return values;
}

std::shared_ptr<const operands> operands_of(std::size_t n, std::size_t k) {
    static std::shared_ptr<const operands> last;
    static std::size_t last_n = 0, last_k = 0;
    if (last == nullptr || last_n != n || last_k != k) {
        auto made = std::make_shared<operands>();
        made->x = normal_values(most_rows * k, 1);
        made->w = normal_values(n * k, 2);
        last = std::move(made);
        last_n = n;
        last_k = k;
    }
    return last;
}

std::size_t cache_bytes(int level) {
    std::size_t bytes = 0;
    for (const benchmark::CPUInfo::CacheInfo& c : benchmark::CPUInfo::Get().caches) {
        if (c.level == level && c.type != "Instruction") bytes = static_cast<std::size_t>(c.size);
    }
    if (bytes != 0) return bytes;
    return level == 1 ? std::size_t{32} << 10 : level == 2 ? std::size_t{512} << 10 : std::size_t{8} << 20;
}

std::size_t cold_bytes() { return std::max(4 * cache_bytes(3), std::size_t{256} << 20); }

std::size_t cold_copies(double bytes) {
    return std::max<std::size_t>(2, static_cast<std::size_t>(std::ceil(static_cast<double>(cold_bytes()) / bytes)));
}

double range_rounding_error(int bits, std::size_t count) {
    const double range = 2.0 * std::sqrt(2.0 * std::log(static_cast<double>(count)));
    return range / (std::pow(2.0, bits) - 1.0) / std::sqrt(12.0);
}

}  // namespace aq_bench
