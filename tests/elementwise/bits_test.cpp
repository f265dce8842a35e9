// The promise of the folder: the same bits in any lane type, at any length and alignment, and on any machine.
#include <doctest/doctest.h>

#include <algorithm>
#include <utility>

#include "agilequant/elementwise/activation.hpp"
#include "agilequant/elementwise/alibi.hpp"
#include "agilequant/elementwise/arithmetic.hpp"
#include "agilequant/elementwise/norm.hpp"
#include "agilequant/elementwise/rope.hpp"
#include "agilequant/elementwise/softmax.hpp"
#include "elementwise/samples.hpp"

using namespace aq_test;

namespace {

constexpr float canary = -12345.5F;

/// All functions by name, with one signature: a, b, c [count] in, y [count] in and out.
struct function {
    const char* name;
    void (*run)(const float* a, const float* b, const float* c, std::size_t count, float* y);
};

template <class Lane>
std::vector<function> functions() {
    return {
        {"rms_norm",
         [](auto a, auto b, auto, auto n, auto y) {
             CHECK(aq::rms_norm<Lane>({a, 1, n}, b, 1e-5F, {y, 1, n}) == aq::status::ok);
         }},
        {"layer_norm",
         [](auto a, auto b, auto c, auto n, auto y) {
             CHECK(aq::layer_norm<Lane>({a, 1, n}, b, c, 1e-5F, {y, 1, n}) == aq::status::ok);
         }},
        {"softmax", [](auto a, auto, auto, auto n, auto y) { aq::softmax<Lane>(a, n, y); }},
        {"statistics_of_softmax",
         [](auto a, auto, auto, auto n, auto y) {
             const auto s = aq::statistics_of_softmax<Lane>(a, n);
             if (n >= 1) y[0] = s.maximum;
             if (n >= 2) y[1] = s.sum;
         }},
        {"relu", [](auto a, auto, auto, auto n, auto y) { aq::relu<Lane>(a, n, y); }},
        {"silu", [](auto a, auto, auto, auto n, auto y) { aq::silu<Lane>(a, n, y); }},
        {"gelu", [](auto a, auto, auto, auto n, auto y) { aq::gelu<Lane>(a, n, y); }},
        {"silu_gate", [](auto a, auto b, auto, auto n, auto y) { aq::silu_gate<Lane>(a, b, n, y); }},
        {"add", [](auto a, auto b, auto, auto n, auto y) { aq::add<Lane>(a, b, n, y); }},
        {"scale", [](auto a, auto, auto, auto n, auto y) { aq::scale<Lane>(a, 1.7F, n, y); }},
        {"add_alibi", [](auto a, auto, auto, auto n, auto y) { aq::add_alibi<Lane>(0.7F, 3.0F, a, n, y); }},
        {"rope",
         [](auto a, auto, auto, auto n, auto y) {
             CHECK(aq::rope<Lane>({a, 1, n / 2 * 2}, 0, aq::rope_pairing::halves, {y, 1, n / 2 * 2}) == aq::status::ok);
         }},
        {"rope, interleaved",
         [](auto a, auto, auto, auto n, auto y) {
             CHECK(aq::rope<Lane>({a, 1, n / 2 * 2}, 0, aq::rope_pairing::interleaved, {y, 1, n / 2 * 2}) == aq::status::ok);
         }},
    };
}

/// A vector that begins `offset` floats after an aligned address, behind canaries. With an odd offset one more follows, with an
/// even one the allocation ends, for the sanitizer to see.
class shifted {
public:
    shifted(const std::vector<float>& x, std::size_t offset)
        : data_(x.size() + offset + offset % 2, canary), offset_(offset), size_(x.size()) {
        std::copy(x.begin(), x.end(), data());
    }
    float* data() { return data_.data() + offset_; }
    std::vector<float> values() { return {data(), data() + size_}; }
    bool intact() {
        for (std::size_t i = 0; i < data_.size(); ++i)
            if ((i < offset_ || i >= offset_ + size_) && data_[i] != canary) return false;
        return true;
    }

private:
    std::vector<float> data_;
    std::size_t offset_, size_;
};

std::vector<float> run(const function& f, std::size_t count, std::uint32_t seed, std::size_t offset, bool with_nan) {
    numbers n(seed);
    shifted a(n.take_mixed(count, 9.0F, with_nan), offset), b(n.take_mixed(count, 2.0F, with_nan), offset + 1);
    shifted c(n.take(count, 1.0F), offset + 2), y(n.take(count, 5.0F), offset + 3);
    f.run(a.data(), b.data(), c.data(), count, y.data());
    CHECK(a.intact());
    CHECK(b.intact());
    CHECK(c.intact());
    CHECK(y.intact());
    return y.values();
}

}  // namespace

TEST_CASE("every function has the bits of its definition at any length and alignment") {
    const auto defined = functions<definition>(), fast = functions<native>();
    for (std::size_t f = 0; f < defined.size(); ++f)
        for (std::size_t count = 0; count <= 67; ++count)
            for (std::size_t offset = 0; offset < 4; ++offset)
                for (const bool with_nan : {false, true}) {
                    const auto seed = static_cast<std::uint32_t>(count * 100 + f);
                    INFO(std::string(defined[f].name), " of ", count, " at ", offset);
                    REQUIRE(same_bits(run(fast[f], count, seed, offset, with_nan), run(defined[f], count, seed, 0, with_nan)));
                }
}

// FNV-1a of the results; a change of one of these numbers changes the text of every model that anyone runs.
TEST_CASE("every function has the same bits on every machine") {
    const std::pair<const char*, std::uint64_t> expected[] = {
        {"rms_norm", 0x6CDF0A09530A28CDU},
        {"layer_norm", 0xA1B20C6E7DEF32D1U},
        {"softmax", 0x26BDEB3BB067B62CU},
        {"statistics_of_softmax", 0x7C38316D16987EECU},
        {"relu", 0xC639B62A3067AA25U},
        {"silu", 0xE195ED306DFCBB87U},
        {"gelu", 0x3D48C09B20FFCACCU},
        {"silu_gate", 0xB57F6F82986675F7U},
        {"add", 0xF7436995127DD6FFU},
        {"scale", 0x3D648600D98CB71AU},
        {"add_alibi", 0x390B861D18520CACU},
        {"rope", 0xF2110F89F5BBACF7U},
        {"rope, interleaved", 0x87B40F3DC9303174U},
    };
    const auto fast = functions<native>();
    REQUIRE(fast.size() == std::size(expected));
    for (std::size_t f = 0; f < fast.size(); ++f) {
        std::uint64_t digest = 14695981039346656037U;
        for (const std::size_t count : sizes{1, 5, 16, 37, 100, 1000})
            for (const bool special : {false, true}) {
                numbers n(static_cast<std::uint32_t>(count));
                const auto a = special ? n.take_mixed(count, 20.0F, false) : n.take(count, 20.0F), b = n.take(count, 2.0F),
                           c = n.take(count, 1.0F);
                auto y = n.take(count, 5.0F);
                fast[f].run(a.data(), b.data(), c.data(), count, y.data());
                for (const float v : y) digest = (digest ^ bits(v)) * 1099511628211U;
            }
        INFO(std::string(fast[f].name));
        CHECK(std::string(fast[f].name) == std::string(expected[f].first));
        CHECK(digest == expected[f].second);
    }
}

TEST_CASE("tables have the same bits on every machine") {
    std::vector<float> table(128 * 512), slopes(40);
    CHECK(aq::make_rope_table(10000.0F, {table.data(), 512, 128}) == aq::status::ok);
    aq::alibi_slopes(40, slopes.data());
    table.insert(table.end(), slopes.begin(), slopes.end());
    std::uint64_t digest = 14695981039346656037U;
    for (const float v : table) digest = (digest ^ bits(v)) * 1099511628211U;
    CHECK(digest == 0x01413FFCBF4BFA67U);
}
