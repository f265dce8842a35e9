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

#if AQ_HAS_SSE41 && AQ_HAS_AVX2 && AQ_HAS_AVXVNNI && AQ_HAS_AVX512VNNI && AQ_HAS_AMX
TEST_CASE("dispatch: a processor gets the best of what it has") {
    using aq::isa::feature;
    constexpr aq::isa::cpu sse41 = nothing.with(feature::sse41, true), avx2 = sse41.with(feature::avx2, true),
                           avxvnni = avx2.with(feature::avxvnni, true), avx512vnni = avx2.with(feature::avx512vnni, true),
                           both = avxvnni.with(feature::avx512vnni, true), amx = both.with(feature::amx_int8, true);
    CHECK(aq::best_kernels(sse41) == &aq::sse41::table);
    CHECK(aq::best_kernels(avx2) == &aq::avx2::table);
    CHECK(aq::best_kernels(avxvnni) == &aq::avxvnni::table);
    CHECK(aq::best_kernels(avx512vnni) == &aq::avx512vnni::table);
    CHECK(aq::best_kernels(both) == &aq::avx512vnni::table);
    CHECK(aq::best_kernels(amx) == &aq::amx::table);

    aq::isa::x86_registers r;  // AVX2 without the operating system's consent
    r.leaf7_ebx = 1U << 5;
    r.leaf1_ecx = 3U << 27;
    r.xcr0 = 3;
    CHECK(aq::best_kernels(aq::isa::cpu_of(r)) == &aq::scalar::table);
    r.xcr0 = 7;
    CHECK(aq::best_kernels(aq::isa::cpu_of(r)) == &aq::avx2::table);
    r.leaf1_ecx = 1U << 28;
    CHECK(aq::best_kernels(aq::isa::cpu_of(r)) == &aq::scalar::table);
}

namespace {

/// Which families of kernels an instruction set has of its own; the others are its parent's.
struct ownership {
    const aq::kernel_table* table;
    const aq::kernel_table* parent;  ///< null: everything is its own
    bool products, gemm_float, quantize, attention;
};

constexpr ownership owners[] = {
    {&aq::scalar::table, nullptr, true, true, true, true},
    {&aq::sse41::table, nullptr, true, true, true, true},
    {&aq::avx2::table, nullptr, true, true, true, true},
    {&aq::avxvnni::table, &aq::avx2::table, true, false, false, false},
    {&aq::avx512vnni::table, &aq::avx2::table, true, true, true, false},
    {&aq::amx::table, &aq::avx512vnni::table, true, false, false, false},
};

/// Whether no table before this one has the kernel.
template <class Kernel>
bool is_new(const ownership& o, Kernel&& kernel) {
    for (const ownership* before = owners; before->table != o.table; ++before) {
        if (kernel(*before->table) == kernel(*o.table)) return false;
    }
    return true;
}

/// Own means found in no table before; inherited, the parent's very function.
template <class Kernel>
bool is_as_said(const ownership& o, bool is_own, Kernel&& kernel) {
    return is_own ? is_new(o, kernel) : kernel(*o.table) == kernel(*o.parent);
}

}  // namespace

// A kernel that falls back unseen to another instruction set's gives the right bits, slowly.
TEST_CASE("dispatch: each table has kernels of its own where it should, and inherits the others from its parent") {
    CHECK(std::size(owners) == std::size(aq::isa_entries));
    for (std::size_t i = 0; i < std::size(owners); ++i) {
        const ownership& o = owners[i];
        CAPTURE(std::string(o.table->isa));
        CHECK(o.table == aq::isa_entries[i].kernels);
        for (int w : {2, 4, 8}) {
            for (int a : {4, 8}) {
                CAPTURE(w);
                CAPTURE(a);
                CHECK(is_as_said(o, o.products, [&](const aq::kernel_table& t) { return t.gemm_for(w, a); }));
            }
        }
        CHECK(is_as_said(o, o.products, [](const aq::kernel_table& t) { return t.gemm_scratch; }));
        CHECK(is_as_said(o, o.gemm_float, [](const aq::kernel_table& t) { return t.gemm_float; }));
        CHECK(is_as_said(o, o.quantize, [](const aq::kernel_table& t) { return t.quantize; }));
        CHECK(is_as_said(o, o.attention, [](const aq::kernel_table& t) { return t.attention; }));
    }
}
#endif

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
