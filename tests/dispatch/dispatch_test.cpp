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
#if AQ_HAS_AVX2
    CHECK(aq::best_kernels(nothing.with(aq::isa::feature::avx2, true)) == &aq::avx2::table);
    aq::isa::x86_registers r;  // AVX2 without the operating system's consent
    r.leaf7_ebx = 1U << 5;
    r.leaf1_ecx = 3U << 27;
    r.xcr0 = 3;
    CHECK(aq::best_kernels(aq::isa::cpu_of(r)) == &aq::scalar::table);
    r.xcr0 = 7;
    CHECK(aq::best_kernels(aq::isa::cpu_of(r)) == &aq::avx2::table);
    r.leaf1_ecx = 1U << 28;
    CHECK(aq::best_kernels(aq::isa::cpu_of(r)) == &aq::scalar::table);
#endif
}

TEST_CASE("dispatch: every table is complete and bears the name of the list") {
    for (const aq::isa_entry& e : aq::isa_entries) {
        CAPTURE(std::string(e.kernels->isa));
        bool is_named = false;
        for (const char* name : aq::isa::names) is_named = is_named || std::string(name) == e.kernels->isa;
        CHECK(is_named);
        CHECK(e.kernels->tile == aq::portable_tile::shape);
        CHECK((e.kernels->quantize != nullptr));
        for (int w = 2; w <= 8; ++w) {
            for (int a = 2; a <= 8; ++a) CHECK((e.kernels->gemm_for(w, a) != nullptr));
        }
        // bodies of one's own, not inherited ones
        if (e.kernels != &aq::scalar::table) {
            CHECK((e.kernels->quantize != aq::scalar::table.quantize));
            for (int w : {2, 4, 8}) {
                for (int a : {4, 8}) CHECK((e.kernels->gemm_for(w, a) != aq::scalar::table.gemm_for(w, a)));
            }
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
