// Emulated AMX tiles: products against plain loops for all shapes, loads and stores of parts, and what hardware would refuse.
#include <doctest/doctest.h>

#include "support/emulated_cpu.hpp"
#include "support/skip.hpp"

#if AQ_X86 && AQ_LINUX
#include <immintrin.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "support/guarded.hpp"
#include "support/random.hpp"

using namespace aq_test;

namespace {

/// False, and said so, where a CPU that has AMX may not use it.
bool have_tiles() {
    constexpr long request_permission = 0x1023, tile_data = 18;
    if (!emulated_instructions::is_native(emulated::tdpbssd)) return true;
    if (syscall(SYS_arch_prctl, request_permission, tile_data) == 0) return true;
    skip("the kernel does not give this process the tiles that the CPU has");
    return false;
}

void load_config(const tile_config& c) { asm volatile("ldtilecfg %0" : : "m"(c)); }
tile_config stored_config() {
    tile_config c;
    c.reserved[5] = 0xEE;  // whatever is there is overwritten
    asm volatile("sttilecfg %0" : "+m"(c));
    return c;
}
void release() { asm volatile("tilerelease"); }
template <int Tile>
void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(Tile));
}
template <int Tile>
void load(const void* from, std::ptrdiff_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(Tile) : "memory");
}
template <int Tile>
void store(void* to, std::ptrdiff_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(Tile) : "memory");
}
template <int C, int A, int B>
void multiply(emulated kind) {
    if (kind == emulated::tdpbssd) asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
    if (kind == emulated::tdpbsud) asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
    if (kind == emulated::tdpbusd) asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
    if (kind == emulated::tdpbuud) asm volatile("tdpbuud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}

constexpr emulated products[] = {emulated::tdpbssd, emulated::tdpbsud, emulated::tdpbusd, emulated::tdpbuud};

tile_config config_of(std::initializer_list<std::pair<int, int>> rows_and_colsb) {
    tile_config c;
    c.palette = 1;
    int t = 0;
    for (const auto& [rows, colsb] : rows_and_colsb) {
        c.rows[t] = static_cast<std::uint8_t>(rows);
        c.colsb[t++] = static_cast<std::uint16_t>(colsb);
    }
    return c;
}

/// Rows of bytes with a gap between them.
struct byte_matrix {
    std::size_t rows, colsb, stride;
    std::vector<std::uint8_t> data;

    byte_matrix(std::size_t r, std::size_t c, std::size_t gap, random_source& random)
        : rows(r), colsb(c), stride(c + gap), data(r * stride) {
        for (std::uint8_t& byte : data) byte = random.below(4) == 0 ? 0x80 : static_cast<std::uint8_t>(random.next());
    }
    std::uint8_t& at(std::size_t r, std::size_t c) { return data[r * stride + c]; }
    std::ptrdiff_t step() const { return static_cast<std::ptrdiff_t>(stride); }
};

int widened(std::uint8_t byte, bool is_signed) { return is_signed ? static_cast<std::int8_t>(byte) : byte; }

/// sum[m,n] + a[m,4k] b[k,4n], as the manual words it: row by row, dword by dword.
byte_matrix plain_product(emulated kind, byte_matrix sum, byte_matrix& a, byte_matrix& b) {
    const bool a_signed = kind == emulated::tdpbssd || kind == emulated::tdpbsud;
    const bool b_signed = kind == emulated::tdpbssd || kind == emulated::tdpbusd;
    for (std::size_t m = 0; m < sum.rows; ++m) {
        for (std::size_t n = 0; n < sum.colsb / 4; ++n) {
            std::int32_t start = 0;
            std::memcpy(&start, &sum.at(m, 4 * n), 4);
            std::int64_t total = start;
            for (std::size_t k = 0; k < b.rows; ++k) {
                for (std::size_t i = 0; i < 4; ++i)
                    total += widened(a.at(m, 4 * k + i), a_signed) * widened(b.at(k, 4 * n + i), b_signed);
            }
            const std::uint32_t wrapped = static_cast<std::uint32_t>(total);
            std::memcpy(&sum.at(m, 4 * n), &wrapped, 4);
        }
    }
    return sum;
}

/// Products of all four signs in tiles C, A, B of one shape; `sum` keeps its gaps.
template <int C, int A, int B>
int differing_products(std::size_t m, std::size_t n, std::size_t k, random_source& random) {
    byte_matrix sum(m, 4 * n, random.below(9), random), a(m, 4 * k, random.below(9), random),
        b(k, 4 * n, random.below(9), random);
    tile_config c;
    c.palette = 1;
    const auto set = [&c](int t, const byte_matrix& shape) {
        c.rows[t] = static_cast<std::uint8_t>(shape.rows);
        c.colsb[t] = static_cast<std::uint16_t>(shape.colsb);
    };
    set(C, sum), set(A, a), set(B, b);
    load_config(c);
    load<A>(a.data.data(), a.step());
    load<B>(b.data.data(), b.step());
    int differing = 0;
    for (emulated kind : products) {
        byte_matrix result = sum;
        load<C>(result.data.data(), result.step());
        multiply<C, A, B>(kind);
        store<C>(result.data.data(), result.step());
        differing += result.data != plain_product(kind, sum, a, b).data;
    }
    release();
    return differing;
}

__attribute__((target("amx-tile,amx-int8"))) void compiled_product(const tile_config& c, const void* a, const void* b,
                                                                   void* out) {
    _tile_loadconfig(&c);
    _tile_zero(0);
    _tile_loadd(1, a, 64);
    _tile_stream_loadd(2, b, 64);
    _tile_dpbusd(0, 1, 2);
    _tile_stored(0, out, 64);
    _tile_release();
}

}  // namespace

TEST_CASE("emulated tiles: products of every shape and sign, with strides") {
    if (!have_tiles()) return;
    const emulated_instructions emulation;
    random_source random(4);
    std::uint64_t shapes = 0;
    for (std::size_t m = 1; m <= 16; ++m) {
        for (std::size_t n = 1; n <= 16; ++n) {
            for (std::size_t k = 1; k <= 16; ++k, ++shapes) {
                CAPTURE(m);
                CAPTURE(n);
                CAPTURE(k);
                CHECK(differing_products<0, 1, 2>(m, n, k, random) == 0);
            }
        }
    }
    CHECK(differing_products<7, 6, 5>(16, 16, 16, random) == 0);
    CHECK(differing_products<3, 7, 4>(5, 16, 3, random) == 0);
    for (emulated kind : products) {
        const std::uint64_t expected = emulated_instructions::is_native(kind) ? 0 : shapes + 2;
        CHECK(emulation.count(kind) == expected);
    }
}

TEST_CASE("emulated tiles: parts of tiles from and to memory, at every kind of address") {
    if (!have_tiles()) return;
    const emulated_instructions emulation;
    random_source random(5);
    for (int rows = 1; rows <= 16; ++rows) {
        for (int colsb = 4; colsb <= 64; colsb += 4) {
            CAPTURE(rows);
            CAPTURE(colsb);
            byte_matrix from(16, 64, 16, random), to(16, 64, 16, random);
            byte_matrix expected = to;
            const auto row = [](byte_matrix& m, int r) { return m.data.begin() + r * m.step(); };
            for (int r = 0; r < rows; ++r)  // upside down
                std::copy(row(from, rows - 1 - r), row(from, rows - 1 - r) + colsb, row(expected, r));
            load_config(config_of({{16, 64}, {rows, colsb}}));
            load<1>(&from.at(static_cast<std::size_t>(rows - 1), 0), -from.step());
            store<1>(to.data.data(), to.step());
            CHECK(to.data == expected.data);
        }
    }
    byte_matrix m(4, 8, 0, random);
    for (guard side : {guard::before, guard::after}) {  // not a byte beyond rows and colsb is touched
        guarded<std::uint8_t> from(m.data.data(), m.data.size(), side), to(m.data.size(), side);
        load_config(config_of({{4, 8}}));
        load<0>(from.data(), 8);
        store<0>(to.data(), 8);
        CHECK(std::memcmp(from.data(), to.data(), m.data.size()) == 0);
    }
    load_config(config_of({{0, 0}, {0, 0}, {4, 8}}));
    const auto stored = [] {
        std::vector<std::uint8_t> out(32);
        store<2>(out.data(), 8);
        return out;
    };
    const std::uint8_t *base = m.data.data(), *behind = base + 1000;
    zero<2>();
    asm volatile("tileloadd -1000(%0,%1,4), %%tmm2" : : "r"(behind), "r"(2L) : "memory");
    CHECK(stored() == m.data);
    zero<2>();
    CHECK(stored() == std::vector<std::uint8_t>(32));
    asm volatile("mov %0, %%r13\nmov %1, %%r12\ntileloaddt1 (%%r13,%%r12,8), %%tmm2"
                 :
                 : "r"(base), "r"(1L)
                 : "memory", "r12", "r13");
    CHECK(stored() == m.data);
    asm volatile("tileloadd (%0), %%tmm2" : : "r"(base) : "memory");  // no index: a stride of 0
    for (int r = 0; r < 4; ++r) CHECK(std::memcmp(stored().data() + 8 * r, base, 8) == 0);
    release();
    CHECK_FALSE(emulated_instructions::tiles_configured());
}

TEST_CASE("emulated tiles: configuration, start_row and release") {
    if (!have_tiles()) return;
    const emulated_instructions emulation;
    random_source random(6);
    byte_matrix m(3, 8, 0, random), out = m;
    tile_config c = config_of({{3, 8}, {16, 64}});
    const auto is_stored = [](const tile_config& expected) {
        const tile_config found = stored_config();
        return std::memcmp(&found, &expected, sizeof(found)) == 0;
    };
    CHECK(is_stored({}));
    load_config(c);
    CHECK(is_stored(c));
    load<0>(m.data.data(), 8);
    load_config(c);  // zeroes the tiles
    store<0>(out.data.data(), 8);
    CHECK(out.data == std::vector<std::uint8_t>(24));

    c.start_row = 1;  // as after an interrupted load: the rows before it stay
    load_config(c);
    CHECK(is_stored(c));
    load<0>(m.data.data(), 8);
    c.start_row = 0;
    CHECK(is_stored(c));
    store<0>(out.data.data(), 8);
    std::vector<std::uint8_t> expected = m.data;
    std::fill(expected.begin(), expected.begin() + 8, std::uint8_t{0});
    CHECK(out.data == expected);

    release();
    CHECK(is_stored({}));
    load_config(c);
    tile_config off;
    off.start_row = 7;  // palette 0: the rest does not matter
    load_config(off);
    CHECK(is_stored({}));
}

TEST_CASE("emulated tiles: what another emulation configured is forgotten") {
    if (!have_tiles()) return;
    for (int i = 0; i < 2; ++i) {
        const emulated_instructions emulation;
        CHECK_FALSE(emulated_instructions::tiles_configured());
        load_config(config_of({{1, 4}}));
        const bool is_known = emulated_instructions::tiles_configured() || emulation.count(emulated::ldtilecfg) == 0;
        CHECK(is_known);
    }
}

TEST_CASE("emulated tiles: as the compiler writes it, in threads of their own") {
    if (!have_tiles()) return;
    const emulated_instructions emulation;
    const auto work = [](std::uint64_t seed, int* differing) {
        random_source random(seed);
        for (int round = 0; round < 50; ++round) {
            const int m = random.between(1, 16), n = random.between(1, 16), k = random.between(1, 16);
            byte_matrix a(16, 64, 0, random), b(16, 64, 0, random), out(16, 64, 0, random);
            byte_matrix expected = out;
            compiled_product(config_of({{m, 4 * n}, {m, 4 * k}, {k, 4 * n}}), a.data.data(), b.data.data(), out.data.data());
            for (int r = 0; r < m; ++r) std::fill_n(expected.data.begin() + 64 * r, 4 * n, std::uint8_t{0});
            byte_matrix part = expected;
            part.rows = static_cast<std::size_t>(m), part.colsb = 4 * static_cast<std::size_t>(n);
            b.rows = static_cast<std::size_t>(k);
            *differing += out.data != plain_product(emulated::tdpbusd, part, a, b).data;
        }
    };
    int differing[3] = {};
    std::thread first(work, 7, &differing[0]), second(work, 8, &differing[1]);
    work(9, &differing[2]);
    first.join();
    second.join();
    for (int d : differing) CHECK(d == 0);
    CHECK(emulation.count(emulated::tdpbusd) == (emulated_instructions::is_native(emulated::tdpbusd) ? 0U : 150U));
    CHECK(emulation.count(emulated::tileloaddt1) == (emulated_instructions::is_native(emulated::tileloaddt1) ? 0U : 150U));
}

namespace {

/// What a child that calls `run` says before it aborts; empty if it does not.
template <class Run>
std::string said_by(const Run& run) {
    int ends[2];
    if (pipe(ends) != 0) return "no pipe";
    const pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        const emulated_instructions emulation;
        run();
        _exit(0);
    }
    close(ends[1]);
    std::string said(300, '\0');
    const ssize_t got = read(ends[0], said.data(), said.size());
    said.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? said : std::string();
}

template <class Change>
std::string said_of_config(const Change& change) {
    return said_by([&change] {
        tile_config c = config_of({{16, 64}, {3, 8}});
        change(c);
        load_config(c);
    });
}

}  // namespace

TEST_CASE("emulated tiles: what hardware refuses stops the program and is named") {
    if (emulated_instructions::is_native(emulated::tdpbssd)) return skip("this CPU has tiles and refuses by itself");
    const auto is_said = [](const std::string& found, const char* expected) {
        CHECK(found == "emulated " + std::string(expected) + "\n");
    };
    CHECK(said_of_config([](tile_config&) {}).empty());
    is_said(said_of_config([](tile_config& c) { c.palette = 2; }), "ldtilecfg: palette 2, there are 0 and 1 (#GP)");
    is_said(said_of_config([](tile_config& c) { c.reserved[13] = 1; }), "ldtilecfg: a reserved byte is not 0 (#GP)");
    is_said(said_of_config([](tile_config& c) { c.colsb[8] = 4; }), "ldtilecfg: a reserved byte is not 0 (#GP)");
    is_said(said_of_config([](tile_config& c) { c.rows[15] = 1; }), "ldtilecfg: a reserved byte is not 0 (#GP)");
    is_said(said_of_config([](tile_config& c) { c.rows[1] = 17; }), "ldtilecfg: tile 1: rows 17, colsb 8, at most 16 rows (#GP)");
    is_said(said_of_config([](tile_config& c) { c.colsb[7] = 65; }),
            "ldtilecfg: tile 7: rows 0, colsb 65, at most 64 bytes (#GP)");
    is_said(said_of_config([](tile_config& c) { c.rows[0] = 0; }),
            "ldtilecfg: tile 0: rows 0, colsb 64, only one of them is 0 (#GP)");

    static std::uint8_t memory[16 * 64];
    const auto said_with = [](std::initializer_list<std::pair<int, int>> shapes, const auto& run) {
        return said_by([&] {
            load_config(config_of(shapes));
            run();
        });
    };
    is_said(said_by([] { zero<0>(); }), "tilezero: no ldtilecfg before it in this thread (#UD)");
    is_said(said_by([] { load<3>(memory, 64); }), "tileloadd: no ldtilecfg before it in this thread (#UD)");
    is_said(said_by([] { store<3>(memory, 64); }), "tilestored: no ldtilecfg before it in this thread (#UD)");
    is_said(said_by([] { multiply<0, 1, 2>(emulated::tdpbuud); }), "tdpbuud: no ldtilecfg before it in this thread (#UD)");
    is_said(said_with({{16, 64}}, [] { load<1>(memory, 64); }), "tileloadd: tile 1: not in the configuration (#UD)");
    is_said(said_with({{16, 64}}, [] { release(), store<0>(memory, 64); }),
            "tilestored: no ldtilecfg before it in this thread (#UD)");
    is_said(said_with({{2, 6}}, [] { load<0>(memory, 64); }), "tileloadd: tile 0: colsb 6 is no multiple of 4 (#UD)");
    is_said(said_by([] {
                tile_config c = config_of({{3, 8}});
                c.start_row = 3;
                load_config(c);
                store<0>(memory, 64);
            }),
            "tilestored: tile 0: start_row 3 of 3 rows (#UD)");

    const auto said_of_product = [&said_with](std::initializer_list<std::pair<int, int>> shapes) {
        return said_with(shapes, [] { multiply<0, 1, 2>(emulated::tdpbsud); });
    };
    is_said(said_of_product({{4, 8}, {3, 12}, {3, 8}}), "tdpbsud: rows of the sum and of the first factor: 4 and 3 (#UD)");
    is_said(said_of_product({{4, 8}, {4, 12}, {3, 16}}), "tdpbsud: colsb of the sum and of the second factor: 8 and 16 (#UD)");
    is_said(said_of_product({{4, 8}, {4, 12}, {4, 8}}),
            "tdpbsud: colsb / 4 of the first factor and rows of the second: 3 and 4 (#UD)");
    is_said(said_of_product({{4, 8}, {4, 13}, {3, 8}}), "tdpbsud: tile 1: colsb 13 is no multiple of 4 (#UD)");
    is_said(said_of_product({{4, 8}, {4, 12}}), "tdpbsud: tile 2: not in the configuration (#UD)");
    // tdpbssd %tmm1, %tmm1, %tmm0, which an assembler refuses too
    is_said(said_with({{16, 64}, {16, 64}}, [] { asm volatile(".byte 0xc4, 0xe2, 0x73, 0x5e, 0xc1"); }),
            "tdpbssd: a tile stands twice among its operands (#UD)");
}
#else
TEST_CASE("emulated tiles") { aq_test::skip("x86-64 Linux only"); }
#endif
