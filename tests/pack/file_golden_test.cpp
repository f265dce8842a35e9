#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "agilequant/pack/file.hpp"
#include "agilequant/pack/file_writer.hpp"
#include "pack/file_case.hpp"

using aq::status;
using namespace aq_test;

namespace {

/// The bytes that docs/pack-file.md shows, in lines of "0340  ad 60 ba 69 00 00 00 00  00 ..": its example, and what a change of the format breaks.
byte_vector shown_bytes() {
    std::ifstream in(AQ_SOURCE_DIR "/docs/pack-file.md");
    REQUIRE(in.good());
    byte_vector bytes(1024, 0);
    std::size_t lines = 0;
    for (std::string line; std::getline(in, line);) {
        if (line.size() != 54 || line.find_first_not_of("0123456789abcdef ") != std::string::npos) continue;
        const char* at = line.c_str();
        char* end = nullptr;
        const std::size_t place = std::strtoul(at, &end, 16);
        REQUIRE(place + 16 <= bytes.size());
        for (std::size_t i = 0; i < 16; ++i) bytes[place + i] = static_cast<std::uint8_t>(std::strtoul(at = end, &end, 16));
        ++lines;
    }
    REQUIRE(lines == 27);
    return bytes;
}

constexpr float weights[2][8] = {{-0.75F, 0.0F, 0.5F, 3.0F, -0.5F, -0.25F, 0.25F, 1.25F},
                                 {0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 2.5F, 7.0F, 7.5F}};

}  // namespace

TEST_CASE("pack files: the example of docs/pack-file.md is what the writer writes") {
    aq::packed_storage<> packed;
    REQUIRE(aq::pack(aq::matrix_view<const float>(&weights[0][0], 2, 8), {4, true, 8}, nullptr, packed) == status::ok);
    aq::pack_writer writer;
    REQUIRE(writer.add("w", packed.view()) == status::ok);
    REQUIRE(writer.add("note", std::string_view("{}")) == status::ok);
    CHECK(written(writer) == shown_bytes());
}

TEST_CASE("pack files: the example of docs/pack-file.md is read") {
    const opened o(shown_bytes());
    REQUIRE(o.result == status::ok);
    CHECK(o.file.verify_all() == status::ok);
    std::string_view note;
    REQUIRE(o.file.bytes("note", note) == status::ok);
    CHECK(std::string(note) == "{}");
    aq::packed_weights w;
    REQUIRE(o.file.matrix("w", w) == status::ok);
    CHECK((w.bits == 4 && w.n == 2 && w.layout.k == 8 && w.layout.packed == 16 && w.layout.groups == 1));
    for (std::size_t r = 0; r < 2; ++r) {
        float sum = 0.0F;
        for (std::size_t p = 0; p < 8; ++p) {
            CHECK(w.layout.channel(p) == p);
            const int code = aq::unpack_code(w.codes, aq::portable_tile::at(r, p, w.layout.packed, w.bits), w.bits);
            const aq::packed_weights::group_affine a = w.affine_of(r, 0);
            CHECK(a.scale * static_cast<float>(code - a.zero) == weights[r][p]);
            sum += weights[r][p];
        }
        CHECK(w.offsets[r] == sum);
    }
}
