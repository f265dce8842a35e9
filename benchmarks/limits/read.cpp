// limit/avx2/read_<level>: how many bytes a second one thread, or two, can read. From memory in one, four or eight streams, with and
// without prefetching, because hardware follows only so many and memory answers several at a time faster than one.
#include <algorithm>
#include <cstdint>

#include "agilequant/isa/cpu.hpp"
#include "data.hpp"
#include "limits/limit_case.hpp"
#include "names.hpp"
#include "threads.hpp"
#if AQ_X86
#include <immintrin.h>
#endif

namespace aq_bench {

#if AQ_X86

namespace {

constexpr std::size_t chunk = 256;            // bytes of a stream between two looks at the others
constexpr std::size_t prefetch_ahead = 2048;  // bytes; several memory latencies at these rates

/// Reads `bytes` from `data` as Streams equal parts at once.
template <int Streams, bool Prefetches>
__attribute__((target("avx2"))) void read(const char* data, std::size_t bytes) {
    const std::size_t part = bytes / Streams / chunk * chunk;
    __m256i sums[4] = {};
    for (std::size_t at = 0; at < part; at += chunk) {
        AQ_UNROLL for (int s = 0; s < Streams; ++s) {
            const char* const p = data + static_cast<std::size_t>(s) * part + at;
            AQ_UNROLL for (int i = 0; i < static_cast<int>(chunk) / 32; ++i) {
                if (Prefetches && i % 2 == 0) _mm_prefetch(p + prefetch_ahead + 32 * i, _MM_HINT_T0);
                sums[i % 4] = _mm256_xor_si256(sums[i % 4], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32 * i)));
            }
        }
    }
    asm volatile("" ::"x"(sums[0]), "x"(sums[1]), "x"(sums[2]), "x"(sums[3]));
}

using read_function = void (*)(const char*, std::size_t);

class read_runner final : public runner {
public:
    read_runner(read_function read, std::size_t bytes, int threads) : read_(read), team_(team_of(threads)) {
        bytes_ = bytes / team_.workers;
        repetitions_ = std::max<std::size_t>(1, (std::size_t{8} << 20) / bytes);
        require(data_.reset(bytes + prefetch_ahead + chunk), "buffer to read");
        std::fill(data_.begin(), data_.end(), char{1});  // pages of zeros may all be one
    }
    void run() override {
        team_.for_each(team_.workers, [&](std::size_t part, std::size_t) {
            for (std::size_t i = 0; i < repetitions_; ++i) read_(data_.data() + part * bytes_, bytes_);
        });
    }
    [[nodiscard]] double bytes() const override { return static_cast<double>(bytes_ * team_.workers * repetitions_); }

private:
    read_function read_;
    aq::executor team_;
    std::size_t bytes_ = 0, repetitions_ = 0;
    aq::aligned_buffer<char> data_;
};

void add_read_limit(std::vector<bench_case>& cases, const std::string& what, read_function read, std::size_t bytes, int threads) {
    if (threads > 1 && !has_teams) return;
    bench_case c;
    c.name = joined({"limit", "avx2", what, numbered("t", static_cast<std::size_t>(threads))});
    c.group = "limit";
    c.is_default = threads == 1;
    if (!aq::isa::this_cpu().has(aq::isa::feature::avx2)) c.absent = "this CPU lacks avx2";
    c.make = [=] { return std::make_unique<read_runner>(read, bytes, threads); };
    cases.push_back(std::move(c));
}

}  // namespace

void add_read_limits(std::vector<bench_case>& cases) {
    // between a level and the one below it, nearer to the lower: half of the first two, an eighth of a third that others share
    add_read_limit(cases, "read_l1", read<1, false>, cache_bytes(1) / 2, 1);
    add_read_limit(cases, "read_l2", read<1, false>, cache_bytes(2) / 2, 1);
    add_read_limit(cases, "read_l3", read<1, false>, std::max(cache_bytes(3) / 8, 2 * cache_bytes(2)), 1);
    for (const int threads : {1, 2}) {
        add_read_limit(cases, "read_memory_s1", read<1, false>, cold_bytes(), threads);
        add_read_limit(cases, "read_memory_s4", read<4, false>, cold_bytes(), threads);
        add_read_limit(cases, "read_memory_s8", read<8, false>, cold_bytes(), threads);
        add_read_limit(cases, "read_memory_s1_prefetch", read<1, true>, cold_bytes(), threads);
        add_read_limit(cases, "read_memory_s4_prefetch", read<4, true>, cold_bytes(), threads);
        add_read_limit(cases, "read_memory_s8_prefetch", read<8, true>, cold_bytes(), threads);
    }
}

#else

void add_read_limits(std::vector<bench_case>&) {}

#endif

}  // namespace aq_bench
