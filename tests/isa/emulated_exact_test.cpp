// The exact suite on instruction sets that this CPU lacks, a few instructions of which are emulated: AVX-VNNI's dot product and
// AMX's tiles. An emulated instruction takes a microsecond or two, so there are fewer cases; on a CPU that has the instructions
// exact_test.cpp runs all of them, and nothing is left to do here.
#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <vector>

#include "isa/exact_suite.hpp"
#include "isa/guarded_product.hpp"
#include "support/emulated_cpu.hpp"
#include "support/skip.hpp"

#if AQ_X86 && AQ_LINUX

using namespace aq_test;

namespace {

/// Some seconds' worth of instructions.
constexpr std::uint64_t enough = slowdown == 1 ? 300000 : 100000;

/// Calls one_case(tables, i) for i below `count`, or until enough has been emulated, for each instruction set that can be; and sees
/// to it that something was.
template <class Case>
void emulate(std::size_t count, Case&& one_case) {
    const kernel_list tables = emulated_kernels();
    if (tables.empty()) skip("nothing to emulate: this CPU has the instructions, or lacks what they build on");
    for (const aq::kernel_table* kernels : tables) {
        const emulated_instructions emulation;
        std::size_t i = 0;
        for (; i < count && emulation.total() < enough; ++i) one_case(kernel_list{kernels}, i);
        MESSAGE(std::string(kernels->isa) << ": " << i << " cases, " << emulation.total() << " instructions emulated");
        CHECK(emulation.total() > 0);
        CHECK_FALSE(emulated_instructions::tiles_configured());  // kernels leave them released
    }
}

}  // namespace

TEST_CASE("emulated: random shapes, formats, strides, layouts, pieces and scratch") {
    emulate(cases(10000), [](const kernel_list& tables, std::size_t i) {
        check_exact(tables, random_case(40000 + i, i % 50 == 0 ? 150 : i % 5 == 0 ? 40 : 12));
    });
}

TEST_CASE("emulated: edges of blocks, each element through the epilogue once") {
    emulate(cases(1000), [](const kernel_list& tables, std::size_t i) {
        constexpr std::size_t rows[] = {1, 2, 4, 5, 6, 7, 12, 13, 15, 16, 17, 24, 25, 31, 32, 33, 48, 49, 64, 65};
        constexpr std::size_t columns[] = {1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 130};
        random_source random(i);
        const std::size_t m = rows[random.below(std::size(rows))];
        const bool is_small = m > 2 && i % 8 != 0;
        const std::size_t n = columns[random.below(is_small ? 4 : std::size(columns))];
        block_edge(tables, m, n, kernel_widths[i % std::size(kernel_widths)], 50000 + i);
    });
}

TEST_CASE("emulated: every pair of codes") {
    emulate(2 * std::size(kernel_widths), [](const kernel_list& tables, std::size_t i) {
        const widths pair = kernel_widths[i / 2];
        const bool is_two_level = i % 2 == 1 && pair.weights != 8;
        code_pairs(*tables[0], pair, is_two_level ? aq::group_scales::integers : aq::group_scales::floats, 16);
    });
}

TEST_CASE("emulated: 32-bit sums hold at the largest depth") {
    emulate(16, [](const kernel_list& tables, std::size_t i) {
        const deepest sums{*tables[0], i % 2 == 0 ? std::size_t{1} : std::size_t{6}, i / 2 % 2 == 0 ? 1 : -1};
        switch (i / 4) {
            case 0: return sums.sums_of_activations();
            case 1: return sums.horner();
            case 2: return sums.plain();
            default: return sums.two_level();
        }
    });
}

TEST_CASE("emulated: no byte beyond any buffer is touched, and padding is of no account") {
    emulate(cases(500), [](const kernel_list& tables, std::size_t i) { guarded_products(tables, 900 + i, 1); });
}

TEST_CASE("emulated: threads do not see each other's registers") {
    emulate(cases(20), [](const kernel_list& tables, std::size_t i) {
        const gemm_setup setup(random_case(60000 + i, 60));
        const outcome expected = setup.run(aq::scalar::table);
        const aq::packed_weights w = setup.weights();
        const activation_buffer a = setup.activations(aq::scalar::table);
        constexpr std::size_t count = 4;
        matrix y[count] = {matrix(0, 0), matrix(0, 0), matrix(0, 0), matrix(0, 0)};
        std::vector<std::thread> pool;
        for (std::size_t t = 0; t < count; ++t) {  // different numbers of rows, so different configurations of tiles
            pool.emplace_back([&, t] {
                gemm_request request = setup.whole(true);
                request.rows.begin = setup.what.m * t / (2 * count);
                y[t] = product(*tables[0], w, a.view, request);
            });
        }
        for (std::thread& t : pool) t.join();
        std::size_t wrong = 0;
        for (std::size_t t = 0; t < count; ++t) {
            for (std::size_t r = setup.what.m * t / (2 * count); r < setup.what.m; ++r) {
                for (std::size_t c = 0; c < w.n; ++c)
                    wrong += aq::bits_of(y[t].at(r, c)) == aq::bits_of(expected.y[r * w.n + c]) ? 0U : 1U;
            }
        }
        INFO(std::string(tables[0]->isa) << ": " << text(setup.what));
        CHECK(wrong == 0);
    });
}

#endif
