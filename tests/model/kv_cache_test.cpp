// The cache: what it stores, where, and how much memory that takes.
#include "agilequant/model/kv_cache.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "agilequant/dispatch/dispatch.hpp"
#include "support/guarded.hpp"
#include "support/kernel_lists.hpp"
#include "support/random.hpp"
#include "support/status_text.hpp"

using aq::kv_side;
using aq::status;
using namespace aq_test;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();

constexpr std::size_t groups[] = {0, 16, 32, 48, 64, 256};

aq::kv_cache make(std::size_t kv_heads, std::size_t head_dim, std::size_t capacity, int bits, std::size_t group = 0) {
    aq::kv_cache cache;
    REQUIRE(cache.reset(kv_heads, head_dim, capacity, bits, group) == status::ok);
    return cache;
}

/// Byte `at` of the codes of a side.
int byte_of(const void* codes, std::size_t at) { return static_cast<const std::uint8_t*>(codes)[at]; }

/// Every number of the cache, keys before values.
std::vector<float> contents(const aq::kv_view& v) {
    std::vector<float> all;
    for (const kv_side side : {kv_side::key, kv_side::value})
        for (std::size_t h = 0; h < v.kv_heads; ++h)
            for (std::size_t t = 0; t < v.length; ++t)
                for (std::size_t c = 0; c < v.head_dim; ++c) all.push_back(aq::kv_element(v, side, h, t, c));
    return all;
}

/// Every scale and zero point of the tokens that there are.
std::vector<int> scales_and_zeros(const aq::kv_view& v) {
    std::vector<int> all;
    for (std::size_t h = 0; v.bits != 32 && h < v.kv_heads; ++h)
        for (std::size_t g = 0; g < v.groups(); ++g)
            for (std::size_t t = 0; t < v.length; ++t) {
                const std::size_t at = v.scale_at(h, g * v.group_channels(), t);
                all.insert(all.end(), {v.key_scales[at], v.value_scales[at], v.bits == 4 ? v.zeros[at] : 0});
            }
    return all;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}
bool is_same(const aq::kv_view& a, const aq::kv_view& b) {
    return same_bits(contents(a), contents(b)) && scales_and_zeros(a) == scales_and_zeros(b);
}

/// One after another.
const auto in_turn = [](std::size_t count, auto&& task) {
    for (std::size_t i = 0; i < count; ++i) REQUIRE(task(i, std::size_t{0}) == status::ok);
    return status::ok;
};

/// Rows of everything that has to be coded: numbers of all sizes, none at all, and nothing.
matrix awkward_rows(random_source& random, std::size_t rows, std::size_t cols) {
    matrix x = random_matrix(random, rows, cols, 3);
    for (std::size_t r = 0; r < rows; ++r) {
        const std::size_t kind = random.below(8);
        for (std::size_t c = 0; c < cols; ++c) {
            float& e = x.at(r, c);
            if (kind == 0) e = 0.0F;
            if (kind == 1) e *= 1e-38F;
            if (kind == 2) e *= 1e37F;
            if (kind == 3) e = static_cast<float>(static_cast<int>(e * 4)) * 0.5F;  // ties
            if (kind == 4) e = c % 5 == 0 ? not_a_number : c % 5 == 1 ? infinity : c % 5 == 2 ? -infinity : e;
            if (kind == 5) e = c % 32 < 16 ? 0.0F : e;
        }
    }
    return x;
}

}  // namespace

TEST_CASE("what is appended comes back, within half a step") {
    random_source random(1);
    for (const int bits : {32, 8, 4})
        for (const std::size_t head_dim : sizes{1, 8, 16, 31, 32, 33, 48, 64, 80, 128, 256})
            for (const float size : {1e-30F, 1.0F, 1e30F}) {
                const std::size_t group = groups[random.below(6)];
                CAPTURE(bits);
                CAPTURE(head_dim);
                CAPTURE(group);
                CAPTURE(size);
                const std::size_t heads = 3, tokens = 21;
                matrix k = random_matrix(random, tokens, heads * head_dim, 5),
                       v = random_matrix(random, tokens, heads * head_dim, 2);
                for (matrix* m : {&k, &v})
                    for (float& x : m->data) x *= size;
                aq::kv_cache cache = make(heads, head_dim, tokens + 4, bits, group);
                REQUIRE(cache.append(k.view(), v.view()) == status::ok);
                const aq::kv_view view = cache.view();
                double worst = 0;
                for (std::size_t t = 0; t < tokens; ++t)
                    for (std::size_t h = 0; h < heads; ++h)
                        for (std::size_t c = 0; c < head_dim; ++c) {
                            const std::size_t place = view.scale_at(h, c, t);
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
    aq::kv_cache cache = make(2, 48, 64, 4, 32);
    const aq::kv_view view = cache.view();
    CHECK(view.groups() == 2);
    CHECK(view.row_bytes() == 24);
    matrix k(22, 96), v(22, 96);
    for (float& x : k.data) x = 0.0F;
    for (float& x : v.data) x = 0.0F;
    // head 1, token 21, group 1 of the head: range -2..13, scale 1, zero point 2
    k.at(21, 48 + 32) = -2.0F, k.at(21, 48 + 37) = 13.0F, k.at(21, 48 + 33) = 4.0F;
    v.at(21, 48 + 37) = -15.0F, v.at(21, 48 + 38) = -4.0F;  // scale 1, zero point 15
    v.at(17, 48 + 37) = 3.0F, v.at(17, 48 + 38) = 15.0F;    // four tokens before, in the low bits of the same bytes
    REQUIRE(cache.append(k.view(), v.view()) == status::ok);
    // keys: token 21 is row 5 of the block at 1920; channels 32..35 and 36..39 share the bytes from 4 * 64 + 5 * 4 on
    CHECK(byte_of(view.keys, 2196) == (0 | 2 << 4));
    CHECK(byte_of(view.keys, 2197) == (6 | 15 << 4));
    CHECK(byte_of(view.keys, 2198) == (2 | 2 << 4));
    CHECK(byte_of(view.keys, 2260) == (2 | 2 << 4));  // channels 40 and 44
    CHECK(byte_of(view.keys, 2192) == 0);             // token 20, all 0
    // values: tokens 16..19 and 20..23 share the bytes from (2 * 48 + channel) * 4 on
    CHECK(byte_of(view.values, 2069) == (3 | 0 << 4));
    CHECK(byte_of(view.values, 2073) == (15 | 11 << 4));
    CHECK(byte_of(view.values, 2077) == (0 | 15 << 4));
    CHECK(static_cast<int>(view.zeros[213]) == (2 | 15 << 4));
    CHECK(view.key_scales[213] == 0x3F80);
    CHECK(aq::kv_element(cache.view(), kv_side::value, 1, 21, 37) == -15.0F);
    CHECK(aq::kv_element(cache.view(), kv_side::key, 1, 21, 37) == 13.0F);

    aq::kv_cache bytes = make(2, 20, 16, 8);  // padded to 32, one group; a block of a head is 512 bytes
    CHECK(bytes.view().groups() == 1);
    matrix x(6, 40);
    for (float& e : x.data) e = 0.0F;
    x.at(5, 20 + 19) = -127.0F, x.at(5, 20 + 2) = 5.0F;
    REQUIRE(bytes.append(x.view(), x.view()) == status::ok);
    // row 5 of the panel of keys: channel 19 in block 4 of 64 bytes, channel 2 in block 0
    CHECK(byte_of(bytes.view().keys, 512 + 4 * 64 + 5 * 4 + 3) == 1);
    CHECK(byte_of(bytes.view().keys, 512 + 5 * 4 + 2) == 133);
    CHECK(byte_of(bytes.view().keys, 512 + 5 * 4 + 1) == 128);
    CHECK(byte_of(bytes.view().keys, 512 + 7 * 64 + 5 * 4 + 3) == 128);  // padding: channel 31
    // token 5 is position 1 of the second four, of 32 channels each
    CHECK(byte_of(bytes.view().values, 512 + (32 + 19) * 4 + 1) == 1);
    CHECK(byte_of(bytes.view().values, 512 + (32 + 2) * 4 + 1) == 133);
    CHECK(byte_of(bytes.view().values, 512 + (32 + 31) * 4 + 1) == 128);
    CHECK(bytes.view().value_scales[16 + 5] == 0x3F80);

    aq::kv_cache floats = make(2, 20, 16, 32);
    REQUIRE(floats.append(x.view(), x.view()) == status::ok);
    CHECK(static_cast<const float*>(floats.view().values)[(16 + 5) * 32 + 19] == -127.0F);
}

TEST_CASE("layout: every code has a place of its own, inside its head's blocks") {
    for (const int bits : {8, 4})
        for (const kv_side side : {kv_side::key, kv_side::value}) {
            aq::kv_view v;
            v.kv_heads = 3, v.head_dim = 80, v.capacity = 48, v.bits = bits;
            std::vector<int> taken(v.kv_heads * v.capacity * v.row_bytes() * 2, 0);
            bool is_inside = true;
            for (std::size_t h = 0; h < v.kv_heads; ++h)
                for (std::size_t t = 0; t < v.capacity; ++t)
                    for (std::size_t c = 0; c < v.head_dim; ++c) {
                        const aq::code_place at = v.code_at(side, h, t, c);
                        const std::size_t block = (h * v.capacity + t / 16 * 16) * v.row_bytes();
                        is_inside = is_inside && at.byte >= block && at.byte < block + 16 * v.row_bytes();
                        ++taken[at.byte * 2 + (at.shift == 0 ? 0 : 1)];
                    }
            CHECK(is_inside);
            std::size_t once = 0;
            for (const int n : taken) once += n == 1 ? 1 : 0;
            CHECK(once == v.kv_heads * v.capacity * v.head_dim);
        }
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

TEST_CASE("what was forgotten leaves no trace, wherever the next token shares bytes with it") {
    for (const int bits : {32, 8, 4})
        for (const std::size_t group : groups) {
            CAPTURE(bits);
            CAPTURE(group);
            random_source random(3);
            const matrix k = random_matrix(random, 35, 3 * 40), v = random_matrix(random, 35, 3 * 40),
                         noise = awkward_rows(random, 35, 3 * 40);
            aq::kv_cache fresh = make(3, 40, 35, bits, group), used = make(3, 40, 35, bits, group);
            REQUIRE(fresh.append(k.view(), v.view()) == status::ok);
            for (std::size_t kept = 0; kept <= 35; ++kept) {
                used.clear();
                REQUIRE(used.append(k.view().rows_from(0, kept), v.view().rows_from(0, kept)) == status::ok);
                const aq::kv_view older = used.view();
                const std::vector<float> before = contents(older);
                REQUIRE(used.append(noise.view().rows_from(0, 35 - kept), noise.view().rows_from(0, 35 - kept)) == status::ok);
                REQUIRE(same_bits(contents(older), before));  // appending does not change what an older view sees
                used.truncate(kept);
                for (std::size_t t = kept; t < 35; ++t)
                    REQUIRE(used.append(k.view().rows_from(t, 1), v.view().rows_from(t, 1)) == status::ok);
                REQUIRE(is_same(used.view(), fresh.view()));
            }
        }
}

TEST_CASE("every instruction set codes as the definition does, in pieces of any size") {
    for (const aq::kernel_table* kernels : runnable_kernels())
        for (const int bits : {32, 8, 4})
            for (const std::size_t head_dim : sizes{1, 8, 16, 17, 31, 48, 64, 80, 128, 255, 256}) {
                random_source random(head_dim + static_cast<std::size_t>(bits));
                const std::size_t heads = 1 + random.below(3), tokens = 70, group = groups[random.below(6)];
                CAPTURE(std::string(kernels->isa));
                CAPTURE(bits);
                CAPTURE(head_dim);
                CAPTURE(group);
                const matrix k = awkward_rows(random, tokens, heads * head_dim),
                             v = awkward_rows(random, tokens, heads * head_dim);
                aq::kv_cache expected = make(heads, head_dim, tokens, bits, group),
                             cache = make(heads, head_dim, tokens, bits, group);
                REQUIRE(expected.append(k.view(), v.view()) == status::ok);
                REQUIRE(cache.append(*kernels, v.view(), k.view(), in_turn) == status::ok);  // something to write over
                cache.clear();
                for (std::size_t t = 0, count; t < tokens; t += count) {
                    count = std::min<std::size_t>(tokens - t, 1 + random.below(random.flip() ? 3 : 30));
                    REQUIRE(cache.append(*kernels, k.view().rows_from(t, count), v.view().rows_from(t, count), in_turn) ==
                            status::ok);
                    REQUIRE(cache.length() == t + count);
                }
                REQUIRE(is_same(cache.view(), expected.view()));
                CHECK(cache.append(*kernels, k.view().rows_from(0, 1), v.view().rows_from(0, 1), in_turn) == status::cache_full);
                CHECK(cache.append(*kernels, k.view(), v.view().rows_from(0, 1), in_turn) == status::bad_shape);
                CHECK(cache.length() == tokens);
            }
}

TEST_CASE("an instruction set's coding touches nothing outside the new tokens") {
    for (const aq::kernel_table* kernels : runnable_kernels())
        for (const int bits : {8, 4})
            for (const std::size_t head_dim : sizes{1, 16, 40, 128})
                for (const guard side : {guard::before, guard::after}) {
                    random_source random(head_dim);
                    const std::size_t heads = 2, past = 19, tokens = 13;
                    const matrix x = awkward_rows(random, past + tokens, heads * head_dim);
                    aq::kv_cache cache = make(heads, head_dim, past + tokens, bits, 16);
                    REQUIRE(cache.append(x.view().rows_from(0, past), x.view().rows_from(0, past)) == status::ok);
                    aq::kv_view v = cache.view();
                    const std::size_t bytes = v.kv_heads * v.capacity * v.row_bytes(),
                                      scales = v.kv_heads * v.groups() * v.capacity;
                    guarded<std::uint8_t> keys(static_cast<const std::uint8_t*>(v.keys), bytes, side);
                    guarded<std::uint8_t> values(static_cast<const std::uint8_t*>(v.values), bytes, side);
                    guarded<std::uint16_t> key_scales(v.key_scales, scales, side), value_scales(v.value_scales, scales, side);
                    guarded<std::uint8_t> zeros(v.zeros, bits == 4 ? scales : 0, side);
                    const guarded<float> rows(&x.data[past * x.stride], (tokens - 1) * x.stride + x.cols, side);
                    aq::kv_store_job job;
                    job.cache = v;
                    job.k = job.v = {rows.data(), tokens, x.cols, x.stride};
                    job.keys = keys.data(), job.values = values.data(), job.key_scales = key_scales.data(),
                    job.value_scales = value_scales.data(), job.zeros = zeros.data();
                    kernels->store_kv(job, {1, 2});
                    kernels->store_kv(job, {0, 1});
                    REQUIRE(cache.append(x.view().rows_from(past, tokens), x.view().rows_from(past, tokens)) == status::ok);
                    v.keys = keys.data(), v.values = values.data(), v.key_scales = key_scales.data(),
                    v.value_scales = value_scales.data(), v.zeros = zeros.data(), v.length = past + tokens;
                    REQUIRE(is_same(v, cache.view()));
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
        CHECK(make(heads, head_dim, tokens, 4, 256).bytes().reserved < make(heads, head_dim, tokens, 4, 16).bytes().reserved);
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
    for (const std::size_t group : sizes{1, 8, 17, 40}) CHECK(cache.reset(2, 64, 4, 8, group) == status::unsupported_format);
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
