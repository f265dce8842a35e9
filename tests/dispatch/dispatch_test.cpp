#include "agilequant/dispatch/dispatch.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <optional>
#include <string>

#include "support/status_text.hpp"

using aq::status;

namespace {

/// Sets AQ_ISA (null: removes it) while it lives.
class environment {
public:
    explicit environment(const char* value) {
        if (const char* old = std::getenv("AQ_ISA")) before_ = old;
        set(value);
    }
    environment(const environment&) = delete;
    environment& operator=(const environment&) = delete;
    ~environment() { set(before_ ? before_->c_str() : nullptr); }

private:
    static void set(const char* value) { value == nullptr ? unsetenv("AQ_ISA") : setenv("AQ_ISA", value, 1); }
    std::optional<std::string> before_;
};

constexpr aq::isa::cpu nothing{};
constexpr aq::isa::cpu everything{~0U};

}  // namespace

static_assert(aq::best_kernels(nothing) == &aq::scalar::table, "the choice needs no run time where the processor is known");

TEST_CASE("dispatch: a processor without features gets scalar, one with all the last of the list") {
    CHECK(aq::best_kernels(nothing) == &aq::scalar::table);
    CHECK(aq::best_kernels(everything) == aq::isa_entries[std::size(aq::isa_entries) - 1].kernels);
}

namespace {

using aq::isa::feature;

/// Features, and the best instruction set with them.
struct choice {
    aq::isa::cpu cpu;
    const char* best;
};

constexpr aq::isa::cpu with_sse41 = nothing.with(feature::sse41, true), with_avx2 = with_sse41.with(feature::avx2, true),
                       with_avxvnni = with_avx2.with(feature::avxvnni, true),
                       with_avx512vnni = with_avx2.with(feature::avx512vnni, true),
                       with_both = with_avxvnni.with(feature::avx512vnni, true),
                       with_amx = with_both.with(feature::amx_int8, true), with_neon = nothing.with(feature::neon, true),
                       with_dotprod = with_neon.with(feature::dotprod, true), with_i8mm = with_dotprod.with(feature::i8mm, true);
constexpr choice choices[] = {
    {with_sse41, "sse41"},     {with_avx2, "avx2"}, {with_avxvnni, "avxvnni"}, {with_avx512vnni, "avx512vnni"},
    {with_both, "avx512vnni"}, {with_amx, "amx"},   {with_neon, "neon"},       {with_dotprod, "dotprod"},
    {with_i8mm, "i8mm"}};

/// The table of a name, where this build has it.
const aq::kernel_table* table_of(const char* name) {
    const aq::kernel_table* table = nullptr;
    return name != nullptr && aq::find_kernels(name, everything, table) == status::ok ? table : nullptr;
}

}  // namespace

TEST_CASE("dispatch: a processor gets the best of what it has, and nothing else by name") {
    std::size_t tried = 0;
    for (const choice& c : choices) {
        const aq::kernel_table* const table = table_of(c.best);
        if (table == nullptr) continue;  // of another architecture, or not in this build
        ++tried;
        CAPTURE(std::string(c.best));
        CHECK(aq::best_kernels(c.cpu) == table);
        for (const aq::isa_entry& e : aq::isa_entries) {
            const aq::kernel_table* found = nullptr;
            CHECK(aq::find_kernels(e.kernels->isa, c.cpu, found) == (e.runs_on(c.cpu) ? status::ok : status::absent_isa));
            CHECK(found == (e.runs_on(c.cpu) ? e.kernels : nullptr));
        }
    }
    CHECK(tried + 1 >= std::size(aq::isa_entries));  // all but scalar
}

#if AQ_HAS_SSE41 && AQ_HAS_AVX2
TEST_CASE("dispatch: AVX2 counts with the operating system's consent") {
    aq::isa::x86_registers r;
    r.leaf7_ebx = 1U << 5;
    r.leaf1_ecx = 3U << 27;
    r.xcr0 = 3;
    CHECK(aq::best_kernels(aq::isa::cpu_of(r)) == &aq::scalar::table);
    r.xcr0 = 7;
    CHECK(aq::best_kernels(aq::isa::cpu_of(r)) == &aq::avx2::table);
    r.leaf1_ecx = 1U << 28;
    CHECK(aq::best_kernels(aq::isa::cpu_of(r)) == &aq::scalar::table);
}
#endif

#if AQ_HAS_NEON && AQ_HAS_DOTPROD
TEST_CASE("dispatch: a core of Arm without dot products is refused the instruction sets that have them") {
    constexpr std::uint64_t asimd = 1U << 1, asimddp = 1U << 20, i8mm = 1U << 13;
    const aq::isa::cpu cortex_a72 = aq::isa::cpu_of(aq::isa::arm_capabilities{asimd, 0}),
                       cortex_a76 = aq::isa::cpu_of(aq::isa::arm_capabilities{asimd | asimddp, 0});
    const aq::kernel_table* found = nullptr;
    CHECK(aq::best_kernels(cortex_a72) == &aq::neon::table);
    for (const char* name : {"dotprod", "i8mm"}) CHECK(aq::find_kernels(name, cortex_a72, found) == status::absent_isa);
    CHECK(aq::best_kernels(cortex_a76) == &aq::dotprod::table);
    CHECK(aq::find_kernels("i8mm", cortex_a76, found) == status::absent_isa);
    CHECK(found == nullptr);
    CHECK(aq::find_kernels("neon", cortex_a76, found) == status::ok);
    CHECK(found == &aq::neon::table);
    CHECK(aq::best_kernels(aq::isa::cpu_of(aq::isa::arm_capabilities{0, i8mm})) == &aq::scalar::table);
}
#endif

namespace {

/// Which families of kernels an instruction set has of its own; the others are its parent's.
struct ownership {
    const char* isa;
    const char* parent;  ///< null: everything is its own
    bool products, gemm_float, quantize, attention;
};

constexpr ownership owners[] = {
    {"scalar", nullptr, true, true, true, true},    {"sse41", nullptr, true, true, true, true},
    {"avx2", nullptr, true, true, true, true},      {"avxvnni", "avx2", true, false, false, false},
    {"avx512vnni", "avx2", true, true, true, true}, {"amx", "avx512vnni", true, false, false, false},
    {"neon", nullptr, true, true, true, true},      {"dotprod", "neon", true, false, true, true},
    {"i8mm", "dotprod", true, false, false, false},
};

/// Own means found in no table before; inherited, the parent's very function.
template <class Kernel>
bool is_as_said(const aq::kernel_table& table, const char* parent, bool is_own, Kernel&& kernel) {
    if (!is_own) return table_of(parent) != nullptr && kernel(table) == kernel(*table_of(parent));
    for (const aq::isa_entry& before : aq::isa_entries) {
        if (before.kernels == &table) break;
        if (kernel(*before.kernels) == kernel(table)) return false;
    }
    return true;
}

}  // namespace

// A kernel that falls back unseen to another instruction set's gives the right bits, slowly.
TEST_CASE("dispatch: each table has kernels of its own where it should, and inherits the others from its parent") {
    CHECK(std::size(owners) == std::size(aq::isa::names));
    std::size_t seen = 0;
    for (const ownership& o : owners) {
        const aq::kernel_table* const table = table_of(o.isa);
        if (table == nullptr) continue;  // of another architecture, or not in this build
        ++seen;
        CAPTURE(std::string(o.isa));
        for (int w : {2, 4, 8}) {
            for (int a : {4, 8}) {
                CAPTURE(w);
                CAPTURE(a);
                CHECK(is_as_said(*table, o.parent, o.products, [&](const aq::kernel_table& t) { return t.gemm_for(w, a); }));
            }
        }
        CHECK(is_as_said(*table, o.parent, o.products, [](const aq::kernel_table& t) { return t.gemm_scratch; }));
        CHECK(is_as_said(*table, o.parent, o.gemm_float, [](const aq::kernel_table& t) { return t.gemm_float; }));
        CHECK(is_as_said(*table, o.parent, o.quantize, [](const aq::kernel_table& t) { return t.quantize; }));
        CHECK(is_as_said(*table, o.parent, o.attention, [](const aq::kernel_table& t) { return t.attention; }));
        CHECK(is_as_said(*table, o.parent, o.attention, [](const aq::kernel_table& t) { return t.store_kv; }));
    }
    CHECK(seen == std::size(aq::isa_entries));
}

TEST_CASE("dispatch: every table is complete and bears the name of the list") {
    for (const aq::isa_entry& e : aq::isa_entries) {
        CAPTURE(std::string(e.kernels->isa));
        bool is_named = false;
        for (const char* name : aq::isa::names) is_named = is_named || std::string(name) == e.kernels->isa;
        CHECK(is_named);
        CHECK(e.kernels->tile == aq::portable_tile::shape);
        CHECK((e.kernels->gemm_scratch != nullptr));
        CHECK((e.kernels->gemm_float != nullptr));
        CHECK((e.kernels->quantize != nullptr));
        CHECK((e.kernels->attention != nullptr));
        for (int w = 2; w <= 8; ++w) {
            for (int a = 2; a <= 8; ++a) CHECK((e.kernels->gemm_for(w, a) != nullptr));
        }
        for (int width : {2, 4, 8}) {  // no two widths share a kernel
            CHECK((e.kernels->gemm_for(width, 4) != e.kernels->gemm_for(width, 8)));
            if (width != 8) CHECK((e.kernels->gemm_for(width, 8) != e.kernels->gemm_for(2 * width, 8)));
        }
    }
}

TEST_CASE("dispatch: a name is found, absent, or unknown") {
    for (const aq::isa_entry& e : aq::isa_entries) {
        const aq::kernel_table* found = nullptr;
        CHECK(aq::find_kernels(e.kernels->isa, everything, found) == status::ok);
        CHECK(found == e.kernels);
    }
    const aq::kernel_table* found = &aq::scalar::table;
    for (const char* name : aq::isa::names) {
        const status s = aq::find_kernels(name, nothing, found);
        CHECK(s == (std::string(name) == "scalar" ? status::ok : status::absent_isa));  // known, whatever this build holds
        CHECK(found == &aq::scalar::table);
    }
    for (const char* name : {"", "AVX2", "avx", "avx22", "scalar ", "best"})
        CHECK(aq::find_kernels(name, everything, found) == status::unknown_isa);
    CHECK(aq::find_kernels(nullptr, everything, found) == status::unknown_isa);
    CHECK(found == &aq::scalar::table);
}

TEST_CASE("dispatch: AQ_ISA in the environment forces a choice, or is refused") {
    const aq::isa::cpu here = aq::isa::this_cpu();
    const aq::kernel_table* found = nullptr;
    {
        const environment unset(nullptr);
        CHECK(aq::choose_kernels(found) == status::ok);
        CHECK(found == aq::best_kernels(here));
    }
    {
        const environment empty("");
        CHECK(aq::choose_kernels(found) == status::ok);
        CHECK(found == aq::best_kernels(here));
    }
    for (const char* name : aq::isa::names) {
        const environment forced(name);
        const aq::kernel_table *expected = nullptr, *chosen = nullptr;
        CHECK(aq::choose_kernels(chosen) == aq::find_kernels(name, here, expected));
        CHECK(chosen == expected);
    }
    const environment forced("no-such-thing");
    found = nullptr;
    CHECK(aq::choose_kernels(found) == status::unknown_isa);
    CHECK(found == nullptr);
}
