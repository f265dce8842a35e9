#include "agilequant/kernels/epilogue.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "support/gemm_case.hpp"

using aq::status;
using namespace aq_test;

namespace {

/// Counts how often each element of y [m,n] comes by, and adds a number that tells row and column.
struct record {
    std::vector<int>* seen;
    std::size_t n;
    void operator()(const aq::output_block& b) const noexcept {
        for (std::size_t r = 0; r < b.rows; ++r) {
            for (std::size_t c = 0; c < b.cols; ++c) ++(*seen)[(b.row + r) * n + b.col + c];
        }
    }
};

struct multiply_by {
    float factor;
    void operator()(const aq::output_block& b) const noexcept {
        for (std::size_t r = 0; r < b.rows; ++r) {
            for (std::size_t c = 0; c < b.cols; ++c) b.values[r * b.stride + c] *= factor;
        }
    }
};

struct prepared {
    gemm_setup setup;
    aq::packed_weights w;
    activation_buffer a;

    prepared(const aq::kernel_table& kernels, const gemm_case& c) : setup(c), w(setup.weights()), a(setup.activations(kernels)) {}
    matrix run(const aq::kernel_table& kernels, aq::epilogue_ref epilogue, bool has_scratch = false) const {
        return product(kernels, w, a.view, setup.whole(has_scratch), epilogue);
    }
};

std::vector<gemm_case> shapes() {
    std::vector<gemm_case> all;
    for (std::size_t m : sizes{1, 2, 3, 5, 9, 33}) {
        for (std::size_t n : sizes{1, 15, 16, 17, 40, 130}) {
            gemm_case c;
            c.m = m;
            c.n = n;
            c.k = 20;
            c.seed = m * 100 + n;
            all.push_back(c);
        }
    }
    return all;
}

}  // namespace

TEST_CASE("epilogue: every result passes once, with its own row and column") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (const gemm_case& c : shapes()) {
            const prepared p(*kernels, c);
            for (bool has_scratch : {false, true}) {
                std::vector<int> seen(c.m * c.n, 0);
                const aq::epilogue stages(record{&seen, c.n});
                static_cast<void>(p.run(*kernels, stages.ref(), has_scratch));
                INFO(std::string(kernels->isa) << ": " << text(c));
                CHECK(seen == std::vector<int>(c.m * c.n, 1));
            }
        }
    }
}

TEST_CASE("epilogue: stages run one after another, on the same bits as plain loops after the product") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (const gemm_case& c : shapes()) {
            INFO(std::string(kernels->isa) << ": " << text(c));
            random_source random(c.seed);
            const matrix bias = random_matrix(random, 1, c.n), x = random_matrix(random, c.m, c.n, 2),
                         gate = random_matrix(random, c.m, c.n, 1);
            const prepared p(*kernels, c);
            const matrix plain = p.run(*kernels, {});

            const aq::epilogue linear(aq::add_bias{bias.data.data()}, multiply_by{2.0F}, aq::add_residual{x.view()});
            const matrix y = p.run(*kernels, linear.ref(), c.seed % 2 == 0);
            const aq::epilogue gated(aq::mul_silu_gate{gate.view()});
            const matrix z = p.run(*kernels, gated.ref());
            bool same = true, same_gate = true;
            for (std::size_t r = 0; r < c.m; ++r) {
                std::vector<float> row(c.n);
                for (std::size_t j = 0; j < c.n; ++j) row[j] = plain.at(r, j);
                // a block starts at a panel, so silu's own blocks of lanes do too: one call a row has to give the same bits
                std::vector<float> silu(c.n);
                aq::silu_gate(gate.view().row(r), row.data(), c.n, silu.data());
                for (std::size_t j = 0; j < c.n; ++j) {
                    const float with_bias = plain.at(r, j) + bias.at(0, j);
                    same = same && aq::bits_of(y.at(r, j)) == aq::bits_of(aq::rounded(with_bias * 2.0F) + x.at(r, j));
                    same_gate = same_gate && aq::bits_of(z.at(r, j)) == aq::bits_of(silu[j]);
                }
            }
            CHECK(same);
            CHECK(same_gate);
        }
    }
}

TEST_CASE("epilogue: residual and gate may be y itself") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (const gemm_case& c : shapes()) {
            INFO(std::string(kernels->isa) << ": " << text(c));
            random_source random(c.seed + 1);
            const matrix before = random_matrix(random, c.m, c.n, 2);
            const prepared p(*kernels, c);
            matrix y = before;
            const aq::epilogue separate(aq::add_residual{before.view()}, aq::mul_silu_gate{before.view()});
            const matrix apart = p.run(*kernels, separate.ref());
            const aq::epilogue in_place(aq::add_residual{std::as_const(y).view()}, aq::mul_silu_gate{std::as_const(y).view()});
            REQUIRE(aq::gemm(*kernels, {p.w, p.a.view, y.view(), in_place.ref()}) == status::ok);
            bool same = true;
            for (std::size_t r = 0; r < c.m; ++r) {
                for (std::size_t j = 0; j < c.n; ++j) same = same && aq::bits_of(y.at(r, j)) == aq::bits_of(apart.at(r, j));
            }
            CHECK(same);
        }
    }
}
