// The cache: what it stores, where, and how much memory that takes.
#include "agilequant/model/kv_cache.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "support/random.hpp"
#include "support/status_text.hpp"

using aq::kv_side;
using aq::status;
using namespace aq_test;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();

aq::kv_cache make(std::size_t kv_heads, std::size_t head_dim, std::size_t capacity, int bits) {
    aq::kv_cache cache;
    REQUIRE(cache.reset(kv_heads, head_dim, capacity, bits) == status::ok);
    return cache;
}

/// Every number of the cache, keys before values.
std::vector<float> contents(const aq::kv_view& v) {
    std::vector<float> all;
    for (const kv_side side : {kv_side::key, kv_side::value})
        for (std::size_t h = 0; h < v.kv_heads; ++h)
            for (std::size_t t = 0; t < v.length; ++t)
                for (std::size_t c = 0; c < v.head_dim; ++c) all.push_back(aq::kv_element(v, side, h, t, c));
    return all;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("what is appended comes back, within half a step") {
    random_source random(1);
    for (const int bits : {32, 8, 4})
        for (const std::size_t head_dim : sizes{1, 8, 16, 31, 32, 33, 48, 64, 80, 128, 256})
            for (const float size : {1e-30F, 1.0F, 1e30F}) {
                CAPTURE(bits);
                CAPTURE(head_dim);
                CAPTURE(size);
                const std::size_t heads = 3, tokens = 21;
                matrix k = random_matrix(random, tokens, heads * head_dim, 5),
                       v = random_matrix(random, tokens, heads * head_dim, 2);
                for (matrix* m : {&k, &v})
                    for (float& x : m->data) x *= size;
                aq::kv_cache cache = make(heads, head_dim, tokens + 4, bits);
                REQUIRE(cache.append(k.view(), v.view()) == status::ok);
                const aq::kv_view view = cache.view();
                double worst = 0;
                for (std::size_t t = 0; t < tokens; ++t)
                    for (std::size_t h = 0; h < heads; ++h)
                        for (std::size_t c = 0; c < head_dim; ++c) {
                            const std::size_t place = (h * view.planes() + c / view.plane_channels()) * view.capacity + t;
                            const double key = k.at(t, h * head_dim + c), value = v.at(t, h * head_dim + c);
                            const double key_error = std::abs(aq::kv_element(view, kv_side::key, h, t, c) - key);
                            const double value_error = std::abs(aq::kv_element(view, kv_side::value, h, t, c) - value);
                            if (bits == 32) {
                                REQUIRE(key_error + value_error == 0);
                                continue;
                            }
                            worst =
                                std::max(worst, key_error / static_cast<double>(aq::bfloat16_to_float(view.key_scales[place])));
                            worst = std::max(worst,
                                             value_error / static_cast<double>(aq::bfloat16_to_float(view.value_scales[place])));
                        }
                // x / s is off by 2 roundings of at most 128 steps, and s q by one more
                CHECK(worst <= 0.5 + 128 * 4 * 0x1p-24);
            }
}

TEST_CASE("a scale is the smallest bfloat16 that clips nothing") {
    aq::kv_cache cache = make(1, 16, 16, 8);
    matrix x(1, 16);
    for (std::size_t c = 0; c < 16; ++c) x.at(0, c) = 0.0F;
    x.at(0, 3) = -12.7F;  // 0.1 is no bfloat16: 0x3DCD is the next above
    REQUIRE(cache.append(x.view(), x.view()) == status::ok);
    CHECK(cache.view().key_scales[0] == 0x3DCD);
    x.at(0, 3) = 127.0F;
    REQUIRE(cache.append(x.view(), x.view()) == status::ok);
    CHECK(cache.view().value_scales[1] == 0x3F80);
    CHECK(aq::kv_element(cache.view(), kv_side::key, 0, 1, 3) == 127.0F);
}

TEST_CASE("layout: the worked example, byte by byte") {
    aq::kv_cache cache = make(2, 48, 64, 4);
    const aq::kv_view view = cache.view();
    CHECK(view.planes() == 2);
    CHECK(view.row_bytes() == 16);
    matrix k(6, 96), v(6, 96);
    for (float& x : k.data) x = 0.0F;
    for (float& x : v.data) x = 0.0F;
    // head 1, token 5, plane 1 of the head: range -2..13, scale 1, zero point 2
    k.at(5, 48 + 32) = -2.0F, k.at(5, 48 + 37) = 13.0F, k.at(5, 48 + 33) = 4.0F;
    v.at(5, 48 + 37) = -15.0F;  // scale 1, zero point 15
    REQUIRE(cache.append(k.view(), v.view()) == status::ok);
    const auto* const keys = static_cast<const std::uint8_t*>(view.keys);
    CHECK(static_cast<int>(keys[3152]) == (0 | 2 << 4));
    CHECK(static_cast<int>(keys[3153]) == (6 | 2 << 4));
    CHECK(static_cast<int>(keys[3157]) == (15 | 2 << 4));
    CHECK(static_cast<int>(view.zeros[197]) == (2 | 15 << 4));
    CHECK(view.key_scales[197] == 0x3F80);
    CHECK(static_cast<int>(static_cast<const std::uint8_t*>(view.values)[3157]) == (0 | 15 << 4));
    CHECK(aq::kv_element(cache.view(), kv_side::value, 1, 5, 37) == -15.0F);

    aq::kv_cache bytes = make(2, 20, 16, 8);  // padded to 32
    matrix x(2, 40);
    for (float& e : x.data) e = 0.0F;
    x.at(1, 20 + 19) = -127.0F;
    REQUIRE(bytes.append(x.view(), x.view()) == status::ok);
    CHECK(static_cast<int>(static_cast<const std::int8_t*>(bytes.view().keys)[(16 + 1) * 32 + 19]) == -127);
    CHECK(bytes.view().value_scales[17] == 0x3F80);
}

TEST_CASE("one by one or all at once") {
    for (const int bits : {32, 8, 4}) {
        random_source random(2);
        const matrix k = random_matrix(random, 37, 80), v = random_matrix(random, 37, 80);
        aq::kv_cache at_once = make(2, 40, 40, bits), one_by_one = make(2, 40, 40, bits);
        REQUIRE(at_once.append(k.view(), v.view()) == status::ok);
        for (std::size_t t = 0; t < 37; ++t)
            REQUIRE(one_by_one.append(k.view().rows_from(t, 1), v.view().rows_from(t, 1)) == status::ok);
        CHECK(same_bits(contents(at_once.view()), contents(one_by_one.view())));

        // and forgetting leaves no trace
        const std::vector<float> before = contents(at_once.view());
        at_once.truncate(50);
        CHECK(at_once.length() == 37);
        at_once.truncate(20);
        CHECK(at_once.length() == 20);
        REQUIRE(at_once.append(v.view().rows_from(0, 17), k.view().rows_from(0, 17)) == status::ok);
        CHECK_FALSE(same_bits(contents(at_once.view()), before));
        at_once.truncate(20);
        REQUIRE(at_once.append(k.view().rows_from(20, 17), v.view().rows_from(20, 17)) == status::ok);
        CHECK(same_bits(contents(at_once.view()), before));
        at_once.clear();
        CHECK(at_once.length() == 0);
        CHECK(at_once.bytes().used == 0);
    }
}

TEST_CASE("memory, against half precision") {
    for (const std::size_t head_dim : sizes{64, 128}) {
        const std::size_t heads = 2, tokens = 512;
        const double half = static_cast<double>(2 * heads * head_dim * tokens * 2);
        matrix x(tokens, heads * head_dim);
        for (float& e : x.data) e = 1.0F;
        double used[3], reserved[3];
        const int widths[] = {32, 8, 4};
        for (int i = 0; i < 3; ++i) {
            aq::kv_cache cache = make(heads, head_dim, tokens, widths[i]);
            REQUIRE(cache.append(x.view(), x.view()) == status::ok);
            used[i] = static_cast<double>(cache.bytes().used) / half;
            reserved[i] = static_cast<double>(cache.bytes().reserved) / half;
            CHECK(used[i] == reserved[i]);
        }
        CHECK(used[0] == 2.0);
        CHECK(used[1] <= 0.52);
        CHECK(used[2] <= 0.29);
    }
}

TEST_CASE("zeros are exact and take the scale of the token before") {
    for (const int bits : {8, 4}) {
        aq::kv_cache cache = make(1, 32, 16, bits);
        matrix x(3, 32);
        for (std::size_t c = 0; c < 32; ++c) x.at(0, c) = 0.0F, x.at(1, c) = c == 4 ? 0.25F : 0.0F, x.at(2, c) = 0.0F;
        REQUIRE(cache.append(x.view(), x.view()) == status::ok);
        const aq::kv_view v = cache.view();
        for (const std::uint16_t* scales : {v.key_scales, v.value_scales}) {
            CHECK(scales[0] == 0x3F80);
            CHECK(scales[1] < 0x3F80);
            CHECK(scales[2] == scales[1]);
        }
        for (std::size_t c = 0; c < 32; ++c) CHECK(aq::kv_element(v, kv_side::value, 0, 2, c) == 0.0F);
    }
}

TEST_CASE("numbers that are none") {
    for (const int bits : {8, 4}) {
        aq::kv_cache cache = make(1, 16, 16, bits);
        matrix x(1, 16);
        for (std::size_t c = 0; c < 16; ++c) x.at(0, c) = c == 1 ? not_a_number : c == 2 ? infinity : c == 3 ? -infinity : 1e-40F;
        REQUIRE(cache.append(x.view(), x.view()) == status::ok);
        CHECK(aq::kv_element(cache.view(), kv_side::key, 0, 0, 1) == 0.0F);
        CHECK(aq::kv_element(cache.view(), kv_side::key, 0, 0, 2) > 7e37F);
        CHECK(aq::kv_element(cache.view(), kv_side::value, 0, 0, 3) < -7e37F);
        for (const float e : contents(cache.view())) CHECK(std::isfinite(e));
    }
}

TEST_CASE("what is refused") {
    aq::kv_cache cache;
    const matrix x(5, 32);
    CHECK(cache.append(x.view(), x.view()) == status::bad_shape);
    CHECK(cache.reset(0, 16, 4, 8) == status::bad_shape);
    CHECK(cache.reset(2, 0, 4, 8) == status::bad_shape);
    CHECK(cache.reset(2, 257, 4, 8) == status::bad_shape);
    CHECK(cache.reset(2, 16, (std::size_t{1} << 22) + 1, 8) == status::bad_shape);
    CHECK(cache.reset(2, 16, ~std::size_t{0}, 8) == status::bad_shape);
    CHECK(cache.reset(2, 16, 4, 16) == status::unsupported_format);
    CHECK(cache.reset(65537, 16, 4, 8) == status::bad_shape);
    CHECK(cache.reset(~std::size_t{0} / 1024, 16, 1024, 8) == status::bad_shape);
    CHECK(cache.capacity() == 0);
    REQUIRE(cache.reset(2, 16, 0, 8) == status::ok);
    CHECK(cache.append(x.view(), x.view()) == status::cache_full);
    REQUIRE(cache.reset(2, 16, 7, 8) == status::ok);
    CHECK(cache.capacity() == 7);
    CHECK(cache.bits() == 8);
    CHECK(cache.append(x.view(), x.view().rows_from(0, 4)) == status::bad_shape);
    CHECK(cache.append({x.data.data(), 5, 31, 32}, {x.data.data(), 5, 31, 32}) == status::bad_shape);
    CHECK(cache.append({x.data.data(), 5, 32, 31}, x.view()) == status::bad_stride);
    CHECK(cache.append(x.view(), {nullptr, 5, 32}) == status::null_pointer);
    CHECK(cache.append(x.view(), x.view()) == status::ok);
    CHECK(cache.append(x.view(), x.view()) == status::cache_full);
    CHECK(cache.length() == 5);
    CHECK(cache.append(x.view().rows_from(0, 2), x.view().rows_from(0, 2)) == status::ok);
    CHECK(cache.length() == 7);
    CHECK(cache.append(x.view().rows_from(0, 0), x.view().rows_from(0, 0)) == status::ok);
}
