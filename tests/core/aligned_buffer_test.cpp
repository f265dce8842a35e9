#include "agilequant/core/aligned_buffer.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

TEST_CASE("a buffer is aligned, zeroed and as large as asked, whatever was there before") {
    aq::aligned_buffer<std::int32_t> b;
    CHECK(b.data() == nullptr);
    CHECK(b.size() == 0);
    for (const std::size_t count : {1U, 15U, 16U, 17U, 1000U, 3U}) {
        REQUIRE(b.reset(count) == aq::status::ok);
        CHECK(b.size() == count);
        CHECK(b.size_bytes() == 4 * count);
        CHECK(reinterpret_cast<std::uintptr_t>(b.data()) % aq::cache_line_bytes == 0);
        CHECK(std::all_of(b.begin(), b.end(), [](std::int32_t v) { return v == 0; }));
        std::fill(b.begin(), b.end(), -1);
    }
    REQUIRE(b.reset(0) == aq::status::ok);
    CHECK(b.data() == nullptr);
    CHECK(b.begin() == b.end());
}

TEST_CASE("reserve keeps what is large enough") {
    aq::aligned_buffer<float> b;
    REQUIRE(b.reserve(8) == aq::status::ok);
    b[7] = 3.0F;
    const float* const before = b.data();
    REQUIRE(b.reserve(5) == aq::status::ok);
    CHECK(b.data() == before);
    CHECK(b.size() == 8);
    CHECK(b[7] == 3.0F);
    REQUIRE(b.reserve(9) == aq::status::ok);
    CHECK(b.size() == 9);
    CHECK(b[7] == 0.0F);
}

TEST_CASE("a buffer moves, and does not copy") {
    static_assert(!std::is_copy_constructible_v<aq::aligned_buffer<float>> &&
                  !std::is_copy_assignable_v<aq::aligned_buffer<float>>);
    aq::aligned_buffer<float> a;
    REQUIRE(a.reset(4) == aq::status::ok);
    a[2] = 5.0F;
    const float* const data = a.data();
    aq::aligned_buffer<float> b(std::move(a));
    CHECK(b.data() == data);
    CHECK(a.data() == nullptr);
    CHECK(a.size() == 0);
    aq::aligned_buffer<float> c;
    REQUIRE(c.reset(7) == aq::status::ok);
    c = std::move(b);
    CHECK(c.data() == data);
    CHECK(c.size() == 4);
    CHECK(c[2] == 5.0F);
}

TEST_CASE("a size whose bytes overflow is refused and leaves the buffer empty") {
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    aq::aligned_buffer<double> b;
    for (const std::size_t count : {most, most / sizeof(double), most / sizeof(double) + 1}) {
        REQUIRE(b.reset(3) == aq::status::ok);
        CHECK(b.reset(count) == aq::status::out_of_memory);
        CHECK(b.data() == nullptr);
        CHECK(b.size() == 0);
    }
}

TEST_CASE("buffers from 4 MiB on begin at a large page") {
    constexpr std::size_t large = 2 * aq::huge_page_bytes;
    aq::aligned_buffer<unsigned char> b;
    for (const std::size_t count : {large, large + 1}) {
        REQUIRE(b.reset(count) == aq::status::ok);
        CHECK(reinterpret_cast<std::uintptr_t>(b.data()) % aq::huge_page_bytes == 0);
        CHECK(b.size() == count);
        CHECK((b[0] == 0 && b[count - 1] == 0));
    }
}

TEST_CASE("round_up") {
    CHECK(aq::round_up(0, 16) == 0);
    CHECK(aq::round_up(1, 16) == 16);
    CHECK(aq::round_up(16, 16) == 16);
    CHECK(aq::round_up(17, 16) == 32);
    CHECK(aq::round_up(7, 1) == 7);
}
