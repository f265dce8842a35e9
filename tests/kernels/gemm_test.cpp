#include "agilequant/kernels/gemm.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <thread>
#include <vector>

#include "agilequant/kernels/reference.hpp"
#include "support/gemm_case.hpp"
#include "support/guarded.hpp"

using aq::status;
using namespace aq_test;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// A product whose codes are set by hand: weights 4 bits, activations 8 bits, unless told otherwise.
struct manual {
    aq::packed_storage<> packed;
    aq::packed_weights w;
    std::vector<std::int8_t> codes;
    std::vector<float> scales;
    std::vector<std::int32_t> zeros, sums;
    aq::activations_view a;

    /// Weight codes weight(r, position), zero 0, scale 1; activation codes activation(row, position), zero 0, scale 1.
    template <class Weight, class Activation>
    manual(std::size_t m, std::size_t n, std::size_t k, aq::weight_format format, int activation_bits, Weight&& weight,
           Activation&& activation, const std::uint8_t* exponents = nullptr) {
        aq::coded_matrix coded;
        REQUIRE(coded.reset(format, n, k) == status::ok);
        for (std::size_t r = 0; r < n; ++r) {
            for (std::size_t c = 0; c < k; ++c) coded.codes[r * k + c] = static_cast<std::uint8_t>(weight(r, c));
        }
        for (float& s : coded.scales) s = 1.0F;
        aq::k_layout layout;
        REQUIRE(layout.make(k, format.group, exponents) == status::ok);
        REQUIRE(packed.assign(coded, std::move(layout)) == status::ok);
        w = packed.view();
        codes.assign(m * w.layout.packed + 1, 0);
        scales.assign(m, 1.0F);
        zeros.assign(m, 0);
        sums.assign(m * w.layout.groups + 1, 0);
        a = {activation_bits, m, w.layout.packed, w.layout.id, codes.data(), scales.data(), zeros.data(), sums.data()};
        for (std::size_t r = 0; r < m; ++r) {
            std::size_t channel = 0, group = 0;
            for (std::size_t i = 0; i < w.layout.run_count; ++i) {
                const aq::k_run run = w.layout.runs[i];
                for (std::size_t p = run.begin; p < run.end && w.layout.channel(p) != aq::padding; ++p) {
                    const int code = activation(r, channel++);
                    codes[r * w.layout.packed + p] = static_cast<std::int8_t>(code);
                    sums[r * w.layout.groups + group] += code * (1 << run.exponent);
                }
                group += run.ends_group ? 1 : 0;
            }
        }
    }

    matrix product(const aq::kernel_table& kernels) const {
        matrix y(a.m, w.n);
        REQUIRE(aq::gemm(kernels, {w, a, y.view(), {}}) == status::ok);
        return y;
    }
};

/// How many outputs lie further from the oracle in double than the bound says; `worst` becomes the largest error in bounds.
std::size_t beyond_bound(const gemm_setup& setup, const aq::kernel_table& kernels, double nudge, double& worst,
                         double& largest_bound) {
    const gemm_case& c = setup.what;
    const aq::packed_weights w = setup.weights();
    activation_buffer a(c.m, w.layout, setup.format);
    matrix y(c.m, c.n);
    REQUIRE(aq::quantize_rows(kernels, setup.x.view(), w.layout, setup.format, {0, c.m}, a.scratch.data(), a.scratch.size(),
                              a.view) == status::ok);
    REQUIRE(aq::gemm(kernels, {w, a.view, y.view(), {}}) == status::ok);
    std::vector<double> x_values(c.m * c.k), w_values(c.n * c.k), expected(c.m * c.n);
    aq::reference::dequantize(a.view, w.layout, {x_values.data(), c.m, c.k});
    aq::reference::dequantize(w, {w_values.data(), c.n, c.k});
    aq::reference::matmul({x_values.data(), c.m, c.k}, {w_values.data(), c.n, c.k}, {expected.data(), c.m, c.n});
    std::size_t beyond = 0;
    for (std::size_t r = 0; r < c.m; ++r) {
        double x_norm = 0.0;
        for (std::size_t i = 0; i < c.k; ++i) x_norm += x_values[r * c.k + i] * x_values[r * c.k + i];
        for (std::size_t j = 0; j < c.n; ++j) {
            double w_norm = 0.0;
            for (std::size_t i = 0; i < c.k; ++i) w_norm += w_values[j * c.k + i] * w_values[j * c.k + i];
            const double bound = aq::reference::gemm_error_bound(w, a.view, r, j);
            const double error = std::fabs(static_cast<double>(y.at(r, j)) + nudge * bound - expected[r * c.n + j]);
            beyond += error <= bound ? 0 : 1;
            if (bound > 0.0) worst = std::max(worst, error / bound);
            if (x_norm * w_norm > 0.0) largest_bound = std::max(largest_bound, bound / std::sqrt(x_norm * w_norm));
        }
    }
    return beyond;
}

}  // namespace

TEST_CASE("numeric: the integer path is the dequantized path in double, within the bound of the float epilogue") {
    const aq::kernel_table* kernels = nullptr;
    REQUIRE(aq::choose_kernels(kernels) == status::ok);
    double worst = 0.0, largest_bound = 0.0;
    std::size_t cases = 0, caught = 0;
    gemm_case c;
    c.m = 2;
    c.n = 18;
    for (c.weights.bits = 2; c.weights.bits <= 8; ++c.weights.bits) {
        for (c.activation_bits = 2; c.activation_bits <= 8; ++c.activation_bits) {
            for (std::size_t group : sizes{0, 1, 5, 16, 32, 100, 128}) {
                for (int i = 0; i < 32; ++i) {
                    const bool is_main = c.activation_bits == 4 || c.activation_bits == 8;
                    if (!is_main && i % 8 != c.activation_bits % 8) continue;  // the other widths, lightly
                    c.weights.group = group;
                    c.weights.is_asymmetric = (i & 1) != 0;
                    c.is_asymmetric = (i & 2) != 0;
                    c.is_static = (i & 4) != 0;
                    c.exponents = static_cast<trip>(i >> 3);
                    c.k = 1 + (cases * 37) % 150;
                    c.seed = ++cases;
                    const gemm_setup setup(c);
                    INFO(text(c));
                    CHECK(beyond_bound(setup, *kernels, 0.0, worst, largest_bound) == 0);
                    double ignored = 0.0;
                    if (cases % 16 == 0) caught += beyond_bound(setup, *kernels, 3.0, ignored, ignored);
                }
            }
        }
    }
    CHECK(cases > 3000);
    CHECK(worst > 0.01);          // the bound is not a formality ..
    CHECK(largest_bound < 2e-4);  // .. and small against |x| |w|: up to 150 groups at 2^-24 each, and a zero point's offset
    CHECK(caught > cases / 16 * 2 * 18 * 9 / 10);  // a result that is three bounds away is seen
}

TEST_CASE("exact: with scales that are powers of two and small values the result is the integer itself") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        CAPTURE(std::string(kernels->isa));
        for (std::uint64_t seed = 1; seed <= 60; ++seed) {
            CAPTURE(seed);
            random_source random(seed);
            const int weight_bits = random.between(2, 8), activation_bits = random.flip() ? 8 : 4;
            const std::size_t m = 1 + random.below(4), n = 1 + random.below(40), k = random.below(100);
            const std::size_t group = random.flip() ? 0 : 1 + random.below(40);
            manual p(
                m, n, k, {weight_bits, true, group}, activation_bits,
                [&](std::size_t, std::size_t) { return random.between(0, (1 << weight_bits) - 1); },
                [&](std::size_t, std::size_t) {
                    return activation_bits == 8 ? random.between(-127, 127) : random.between(0, 15);
                });
            // zero points and scales 2^-3 .. 2^2 of both sides; the offset has to follow
            for (float& s : p.scales) s = std::ldexp(1.0F, random.between(-3, 2));
            for (std::int32_t& z : p.zeros) z = random.between(activation_bits == 8 ? -127 : 0, activation_bits == 8 ? 127 : 15);
            std::vector<float> offsets(p.w.panels() * 16 + 1, 0.0F);
            for (std::size_t j = 0; j < n; ++j) {
                aq::reference::for_each_group(p.w, p.a, 0, j, [&](const aq::reference::group_sums& g) {
                    offsets[j] += static_cast<float>(g.scale * static_cast<double>(g.weights));
                });
            }
            for (std::size_t j = 0; j < n; ++j) CHECK(p.w.offsets[j] == offsets[j]);
            const matrix y = p.product(*kernels);
            for (std::size_t r = 0; r < m; ++r) {
                for (std::size_t j = 0; j < n; ++j) {
                    std::int64_t sum = 0;
                    aq::reference::for_each_group(
                        p.w, p.a, r, j, [&](const aq::reference::group_sums& g) { sum += g.products - p.zeros[r] * g.weights; });
                    REQUIRE(std::abs(sum) < 1 << 24);
                    CHECK(y.at(r, j) == static_cast<float>(sum) * p.scales[r]);
                }
            }
        }
    }
}

TEST_CASE("exact: the order of float operations is the one that docs/numerics.md gives") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (std::uint64_t seed = 1; seed <= 40; ++seed) {
            gemm_case c = random_case(seed, 70);
            c.exponents = static_cast<trip>(seed % 4);
            INFO(std::string(kernels->isa) << ": " << text(c));
            const gemm_setup setup(c);
            const aq::packed_weights w = setup.weights();
            outcome o = setup.run(*kernels);
            const aq::activations_view a{
                c.activation_bits, c.m,          w.layout.packed, w.layout.id, o.codes.data(), o.scales.data(),
                o.zeros.data(),    o.sums.data()};
            bool same = true;
            for (std::size_t r = 0; r < c.m; ++r) {
                for (std::size_t j = 0; j < c.n; ++j) {
                    // volatile: every operation rounds by itself, whatever the compiler would like
                    volatile float sum = 0.0F, offset = 0.0F;
                    aq::reference::for_each_group(w, a, r, j, [&](const aq::reference::group_sums& g) {
                        volatile const float product = static_cast<float>(g.scale) * static_cast<float>(g.products);
                        volatile const float weights = static_cast<float>(g.scale) * static_cast<float>(g.weights);
                        sum = sum + product;
                        offset = offset + weights;
                    });
                    volatile const float correction = static_cast<float>(a.zeros[r]) * offset;
                    volatile const float difference = sum - correction;
                    const float expected = difference * a.scales[r];
                    same = same && aq::bits_of(expected) == aq::bits_of(o.y[r * c.n + j]);
                }
            }
            CHECK(same);
        }
    }
}

TEST_CASE("exact: every pair of codes, at every width, through every instruction set") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        CAPTURE(std::string(kernels->isa));
        for (int weight_bits : {2, 3, 4, 8}) {
            for (int activation_bits : {4, 8}) {
                CAPTURE(weight_bits);
                CAPTURE(activation_bits);
                // row r of w is the code r throughout, row r of a one activation code throughout
                const int low = activation_bits == 8 ? -127 : -7, high = activation_bits == 8 ? 127 : 15;
                const auto m = static_cast<std::size_t>(high - low + 1), n = std::size_t{1} << weight_bits;
                constexpr std::size_t k = 80;  // more than the 16-bit sums of W4A8 hold
                const manual p(
                    m, n, k, {weight_bits, true, 0}, activation_bits,
                    [](std::size_t r, std::size_t) { return static_cast<int>(r); },
                    [&](std::size_t r, std::size_t) { return low + static_cast<int>(r); });
                const matrix y = p.product(*kernels);
                std::size_t wrong = 0;
                for (std::size_t r = 0; r < m; ++r) {
                    for (std::size_t j = 0; j < n; ++j) {
                        const int expected = (low + static_cast<int>(r)) * static_cast<int>(j) * static_cast<int>(k);
                        wrong += y.at(r, j) == static_cast<float>(expected) ? 0U : 1U;
                    }
                }
                CHECK(wrong == 0);
            }
        }
    }
}

TEST_CASE("exact: 16-bit partial sums at their bound: extreme codes, all of one sign, alternating, one-hot") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        CAPTURE(std::string(kernels->isa));
        for (int weight_bits : {2, 4, 8}) {
            for (int activation_bits : {4, 8}) {
                const int w_high = (1 << weight_bits) - 1, a_high = activation_bits == 8 ? 127 : 15,
                          a_low = activation_bits == 8 ? -127 : -7;
                const std::int64_t steps = aq::pair_sums_in_16_bits(weight_bits, activation_bits);
                // a pair sum has two of a step's four products, so `steps` of them take 4 * steps positions
                const auto bound = static_cast<std::size_t>(4 * steps);
                for (std::size_t k : sizes{bound == 0 ? 0 : bound - 1, bound, bound + 1, bound + 16, 2 * bound + 1, 1024}) {
                    CAPTURE(weight_bits);
                    CAPTURE(activation_bits);
                    CAPTURE(k);
                    const auto activation = [&](std::size_t r, std::size_t c) {
                        switch (r) {
                            case 0: return a_high;
                            case 1: return a_low;
                            case 2: return c % 2 == 0 ? a_high : a_low;
                            case 3: return c % 4 < 2 ? a_high : a_low;
                            default: return c == (r - 4) * 7 ? a_low : 0;
                        }
                    };
                    const manual p(
                        12, 17, k, {weight_bits, true, 0}, activation_bits,
                        [&](std::size_t r, std::size_t c) { return r == 16 ? static_cast<int>(c % 2) * w_high : w_high; },
                        activation);
                    const matrix y = p.product(*kernels);
                    for (std::size_t r = 0; r < 12; ++r) {
                        std::int64_t plain = 0, odd = 0;
                        for (std::size_t c = 0; c < k; ++c) {
                            plain += w_high * activation(r, c);
                            odd += c % 2 != 0 ? w_high * activation(r, c) : 0;
                        }
                        CHECK(y.at(r, 0) == static_cast<float>(plain));
                        CHECK(y.at(r, 15) == static_cast<float>(plain));
                        CHECK(y.at(r, 16) == static_cast<float>(odd));
                    }
                }
            }
        }
    }
}

TEST_CASE("exact: 32-bit sums hold at the largest depth, and one more is refused") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        CAPTURE(std::string(kernels->isa));
        for (int sign : {1, -1}) {
            const auto most = [](std::size_t, std::size_t) { return 255; };
            const manual p(1, 1, 66311, {8, true, 0}, 8, most, [&](std::size_t, std::size_t) { return sign * 127; });
            CHECK(p.product(*kernels).at(0, 0) == static_cast<float>(sign * std::int64_t{66311} * 255 * 127));
            // the same sum in Horner form: 518 channels of 2^7 and 7 of 2^0; and of 4-bit weights, 8806 of 2^7 and 120 of 2^0
            std::vector<std::uint8_t> exponents(8926, 7);
            for (std::size_t i = 518; i < 525; ++i) exponents[i] = 0;
            const manual trip8(
                1, 1, 525, {8, true, 0}, 8, most, [&](std::size_t, std::size_t) { return sign * 127; }, exponents.data());
            CHECK(trip8.product(*kernels).at(0, 0) == static_cast<float>(sign * std::int64_t{66311} * 255 * 127));
            for (std::size_t i = 0; i < 8926; ++i) exponents[i] = i < 8806 ? 7 : 0;
            const manual trip4(
                1, 1, 8926, {4, true, 0}, 8, [](std::size_t, std::size_t) { return 15; },
                [&](std::size_t, std::size_t) { return sign * 127; }, exponents.data());
            CHECK(trip4.w.layout.depth == 1127288);
            CHECK(trip4.product(*kernels).at(0, 0) == static_cast<float>(sign * std::int64_t{1127288} * 15 * 127));
        }
    }
    // what gemm itself refuses, whatever packing let through
    for (int weight_bits = 2; weight_bits <= 8; ++weight_bits) {
        for (int activation_bits = 2; activation_bits <= 8; ++activation_bits) {
            manual p(
                1, 1, 1, {weight_bits, true, 0}, activation_bits, [](std::size_t, std::size_t) { return 1; },
                [](std::size_t, std::size_t) { return 1; });
            matrix y(1, 1);
            const auto limit = static_cast<std::uint64_t>(aq::max_k(weight_bits, activation_bits));
            p.w.layout.depth = limit;
            CHECK(aq::gemm(aq::scalar::table, {p.w, p.a, y.view(), {}}) == status::ok);
            p.w.layout.depth = limit + 1;
            CHECK(aq::gemm(aq::scalar::table, {p.w, p.a, y.view(), {}}) == status::depth_over_limit);
        }
    }
}

TEST_CASE("exact: a row of a GEMM is the GEMV of that row, and any cut into rows, panels and threads gives the same bits") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (std::uint64_t seed = 1; seed <= 24; ++seed) {
            gemm_case c = random_case(seed + 500, 70);
            c.m = 1 + seed % 9;
            INFO(std::string(kernels->isa) << ": " << text(c));
            const gemm_setup setup(c);
            const outcome whole = setup.run(*kernels);
            const aq::packed_weights w = setup.weights();
            // row by row, with a buffer of its own
            for (std::size_t r = 0; r < c.m; ++r) {
                activation_buffer a(1, w.layout, setup.format);
                matrix y(1, c.n);
                REQUIRE(aq::quantize_rows(*kernels, setup.x.view().rows_from(r, 1), w.layout, setup.format, {0, 1},
                                          a.scratch.data(), a.scratch.size(), a.view) == status::ok);
                REQUIRE(aq::gemm(*kernels, {w, a.view, y.view(), {}}) == status::ok);
                bool same = true;
                for (std::size_t j = 0; j < c.n; ++j) same = same && aq::bits_of(y.at(0, j)) == aq::bits_of(whole.y[r * c.n + j]);
                CHECK(same);
            }
            // by threads: rows of the quantizer, then rows or panels of the product
            for (std::size_t threads = 1; threads <= 8; ++threads) {
                activation_buffer a(c.m, w.layout, setup.format);
                matrix y(c.m, c.n);
                const auto cut = [&](std::size_t size, std::size_t t) {
                    return aq::index_range{size * t / threads, size * (t + 1) / threads};
                };
                const auto parallel = [&](auto&& work) {
                    std::vector<std::thread> pool;
                    for (std::size_t t = 0; t < threads; ++t) pool.emplace_back(work, t);
                    for (std::thread& t : pool) t.join();
                };
                std::vector<int> failures(threads, 0);
                const matrix& x = setup.x;
                parallel([&](std::size_t t) {
                    std::vector<float> scratch(aq::quantize_scratch_bytes(w.layout) / sizeof(float) + 1, not_a_number);
                    failures[t] += aq::quantize_rows(*kernels, x.view(), w.layout, setup.format, cut(c.m, t), scratch.data(),
                                                     scratch.size() * sizeof(float), a.view) != status::ok;
                });
                parallel([&](std::size_t t) {
                    const bool by_rows = threads % 2 == 0;
                    const aq::index_range rows = by_rows ? cut(c.m, t) : aq::index_range{0, c.m};
                    const aq::index_range panels = by_rows ? aq::index_range{0, w.panels()} : cut(w.panels(), t);
                    failures[t] += aq::gemm(*kernels, {w, a.view, y.view(), {}}, rows, panels) != status::ok;
                });
                for (int f : failures) CHECK(f == 0);
                CHECK(differing(gemm_setup::collect(a.view, w.layout, y), whole) == 0);
            }
        }
    }
}

TEST_CASE("edges: a sub-range writes its own block of y and nothing else") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        const manual p(
            7, 53, 33, {4, true, 16}, 8, [](std::size_t r, std::size_t c) { return static_cast<int>((r + c) % 16); },
            [](std::size_t r, std::size_t c) { return static_cast<int>(r * 5 + c) - 40; });
        const matrix whole = p.product(*kernels);
        const aq::index_range rows[] = {{0, 0}, {0, 7}, {1, 2}, {2, 7}, {6, 7}, {7, 7}},
                              panels[] = {{0, 0}, {0, 4}, {1, 3}, {3, 4}, {4, 4}};
        for (const aq::index_range r : rows) {
            for (const aq::index_range q : panels) {
                matrix y(7, 53, 2);
                for (float& v : y.data) v = -77.0F;
                CHECK(aq::gemm(*kernels, {p.w, p.a, y.view(), {}}, r, q) == status::ok);
                std::size_t wrong = 0;
                for (std::size_t i = 0; i < 7; ++i) {
                    for (std::size_t j = 0; j < y.stride; ++j) {
                        const bool inside = i >= r.begin && i < r.end && j < 53 && j / 16 >= q.begin && j / 16 < q.end;
                        wrong += y.data[i * y.stride + j] == (inside ? whole.at(i, j) : -77.0F) ? 0U : 1U;
                    }
                }
                CHECK(wrong == 0);
            }
        }
    }
}

TEST_CASE("edges: no byte beyond any buffer is touched, and padding is of no account") {
    int unguarded = 0;
    {
        guarded<float> probe(5, guard::after);
        CHECK(is_readable(probe.data()));
        CHECK_FALSE(is_readable(probe.data() + 5));
        guarded<float> front(5, guard::before);
        CHECK_FALSE(is_readable(reinterpret_cast<const char*>(front.data()) - 1));
    }
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (guard side : {guard::before, guard::after}) {
            for (std::uint64_t seed = 1; seed <= 40; ++seed) {
                gemm_case c = random_case(seed + 900, 40);
                c.m = seed % 5;
                INFO(std::string(kernels->isa) << ": " << text(c));
                const gemm_setup setup(c);
                const outcome expected = setup.run(*kernels);
                aq::packed_weights w = setup.weights();
                const std::size_t lanes = w.panels() * 16;
                // copies of everything, each between two guard pages
                guarded<std::uint8_t> codes(w.codes, w.panels() * w.panel_bytes(), side);
                guarded<float> scales(w.scales, lanes * w.layout.groups, side), offsets(w.offsets, lanes, side);
                guarded<std::uint8_t> zeros(w.zeros, w.zeros == nullptr ? 0 : lanes * w.layout.groups, side);
                guarded<aq::k_run> runs(w.layout.runs, w.layout.run_count, side);
                guarded<std::uint32_t> order(w.layout.order, w.layout.order == nullptr ? 0 : w.layout.packed, side);
                // rows that are not there: NaN for floats, 255 for zero points; positions that are not there: every bit set
                for (std::size_t i = 0; i < lanes * w.layout.groups; ++i) {
                    const bool there = i / 16 / w.layout.groups * 16 + i % 16 < w.n;
                    if (!there) scales[i] = not_a_number;
                    if (!there && w.zeros != nullptr) zeros[i] = 0xFF;
                }
                for (std::size_t i = w.n; i < lanes; ++i) offsets[i] = not_a_number;
                for (std::size_t r = 0; r < lanes; ++r) {
                    for (std::size_t p = 0; p < w.layout.packed; ++p) {
                        if (r < w.n && w.layout.channel(p) != aq::padding) continue;
                        aq::pack_code(codes.data(), aq::portable_tile::at(r, p, w.layout.packed, w.bits),
                                      (1 << aq::storage_bits(w.bits)) - 1);
                    }
                }
                w.codes = codes.data();
                w.scales = scales.data();
                w.offsets = offsets.data();
                w.zeros = w.zeros == nullptr ? nullptr : zeros.data();
                w.layout.runs = runs.data();
                w.layout.order = w.layout.order == nullptr ? nullptr : order.data();
                guarded<float> x(c.m * c.k, side), y(c.m * c.n, side);
                for (std::size_t i = 0; i < c.m * c.k; ++i) x[i] = setup.x.at(i / c.k, i % c.k);
                guarded<std::int8_t> a_codes(c.m * w.layout.packed, side);
                guarded<float> a_scales(c.m, side),
                    scratch(w.layout.order == nullptr ? 0 : aq::quantize_scratch_bytes(w.layout) / 4, side);
                guarded<std::int32_t> a_zeros(c.m, side), a_sums(c.m * w.layout.groups, side);
                const aq::activations_view a{
                    c.activation_bits, c.m,          w.layout.packed, w.layout.id, a_codes.data(), a_scales.data(),
                    a_zeros.data(),    a_sums.data()};
                REQUIRE(aq::quantize_rows(*kernels, {x.data(), c.m, c.k}, w.layout, setup.format, {0, c.m}, scratch.data(),
                                          scratch.size() * sizeof(float), a) == status::ok);
                REQUIRE(aq::gemm(*kernels, {w, a, {y.data(), c.m, c.n}, {}}) == status::ok);
                matrix result(c.m, c.n);
                for (std::size_t i = 0; i < c.m * c.n; ++i) result.at(i / c.n, i % c.n) = y[i];
                CHECK(differing(gemm_setup::collect(a, w.layout, result), expected) == 0);
                ++unguarded;
            }
        }
    }
    CHECK(unguarded > 0);
}

TEST_CASE("empty sizes are legal, and no depth gives zeros") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        CAPTURE(std::string(kernels->isa));
        for (bool asymmetric : {false, true}) {
            for (std::size_t m : sizes{0, 1, 3}) {
                for (std::size_t n : sizes{0, 1, 17}) {
                    for (std::size_t k : sizes{0, 16}) {
                        gemm_case c;
                        c.m = m;
                        c.n = n;
                        c.k = k;
                        c.is_asymmetric = c.weights.is_asymmetric = asymmetric;
                        INFO(text(c));
                        const outcome o = gemm_setup(c).run(*kernels);
                        CHECK(o.y.size() == m * n);
                        std::size_t not_zero = 0;
                        for (float v : o.y) not_zero += k == 0 && aq::bits_of(v) != 0 ? 1 : 0;
                        CHECK(not_zero == 0);
                    }
                }
            }
        }
    }
    const aq::packed_storage<> nothing;  // never assigned
    const aq::activations_view none{8, 0, 0, nothing.view().layout.id, nullptr, nullptr, nullptr, nullptr};
    CHECK(aq::gemm(aq::scalar::table, {nothing.view(), none, {}, {}}) == status::unsupported_format);
}

TEST_CASE("gemm refuses what does not fit, each with its own status, and leaves y alone") {
    const auto one = [](std::size_t, std::size_t) { return 1; };
    const manual p(2, 20, 33, {4, true, 16}, 8, one, one);
    matrix y(2, 20, 3);
    for (float& v : y.data) v = -5.0F;
    const aq::gemm_job good{p.w, p.a, y.view(), {}};
    const auto answer = [](const aq::gemm_job& job) { return aq::gemm(aq::scalar::table, job); };
    const auto with = [&](auto&& change) {
        aq::gemm_job job = good;
        change(job);
        return answer(job);
    };
    using job_t = aq::gemm_job;
    for (int bits : {-1, 0, 1, 9, 99}) {
        CHECK(with([&](job_t& j) { j.weights.bits = bits; }) == status::unsupported_format);
        CHECK(with([&](job_t& j) { j.activations.bits = bits; }) == status::unsupported_format);
    }
    CHECK(with([](job_t& j) { j.weights.tile.nr = 8; }) == status::wrong_tile);
    CHECK(with([](job_t& j) { j.weights.tile.kr = 8; }) == status::wrong_tile);
    CHECK(with([](job_t& j) { j.activations.layout_id ^= 1; }) == status::wrong_layout);
    CHECK(with([](job_t& j) { j.activations.stride -= 1; }) == status::wrong_layout);
    CHECK(with([](job_t& j) { j.y.rows = 1; }) == status::bad_shape);
    CHECK(with([](job_t& j) { j.y.cols = 19; }) == status::bad_shape);
    CHECK(with([](job_t& j) { j.activations.m = 3; }) == status::bad_shape);
    CHECK(with([](job_t& j) { j.y.stride = 19; }) == status::bad_stride);
    CHECK(with([](job_t& j) { j.y.data = nullptr; }) == status::null_pointer);
    CHECK(with([](job_t& j) { j.weights.codes = nullptr; }) == status::null_pointer);
    CHECK(with([](job_t& j) { j.weights.scales = nullptr; }) == status::null_pointer);
    CHECK(with([](job_t& j) { j.weights.offsets = nullptr; }) == status::null_pointer);
    CHECK(with([](job_t& j) { j.activations.codes = nullptr; }) == status::null_pointer);
    CHECK(with([](job_t& j) { j.activations.scales = nullptr; }) == status::null_pointer);
    CHECK(with([](job_t& j) { j.activations.zeros = nullptr; }) == status::null_pointer);
    CHECK(with([](job_t& j) { j.activations.sums = nullptr; }) == status::null_pointer);
    CHECK(with([](job_t& j) { j.weights.layout.runs = nullptr; }) == status::null_pointer);
    CHECK(with([](job_t& j) { j.weights.layout.depth = 1127289; }) == status::depth_over_limit);
    const aq::index_range bad_rows[] = {{0, 3}, {2, 1}, {3, 3}}, bad_panels[] = {{0, 3}, {1, 0}, {3, 3}};
    for (aq::index_range r : bad_rows) CHECK(aq::gemm(aq::scalar::table, good, r, {0, 2}) == status::bad_shape);
    for (aq::index_range q : bad_panels) CHECK(aq::gemm(aq::scalar::table, good, {0, 2}, q) == status::bad_shape);
    for (float v : y.data) CHECK(v == -5.0F);
    CHECK(answer(good) == status::ok);
    CHECK(y.at(1, 19) == 33.0F);

    // no depth needs no codes, but what the result is made of has to be there
    const manual flat(1, 1, 0, {4, true, 16}, 8, one, one);
    matrix z(1, 1);
    aq::gemm_job job{flat.w, flat.a, z.view(), {}};
    CHECK(answer(job) == status::ok);
    CHECK(z.at(0, 0) == 0.0F);
    job.weights.offsets = nullptr;
    CHECK(answer(job) == status::null_pointer);
}

TEST_CASE("a product whose format is a type") {
    random_source random(3);
    const matrix w = random_matrix(random, 20, 40), x = random_matrix(random, 3, 40);
    aq::packed_matrix<aq::uniform<4, aq::asymmetric, aq::group<16>>> packed;
    REQUIRE(packed.assign(w.view()) == status::ok);
    const auto view = packed.view();
    activation_buffer a(3, view.weights.layout, {});
    REQUIRE(aq::quantize_rows(aq::scalar::table, x.view(), view.weights.layout, {}, {0, 3}, a.scratch.data(), a.scratch.size(),
                              a.view) == status::ok);
    matrix y(3, 20), z(3, 20);
    CHECK(aq::gemm(aq::scalar::table, view, a.view, y.view()) == status::ok);
    CHECK(aq::gemm(aq::scalar::table, {view.weights, a.view, z.view(), {}}) == status::ok);
    for (std::size_t i = 0; i < 60; ++i) CHECK(y.data[i] == z.data[i]);
}
