#include "agilequant/kernels/gemm.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <thread>
#include <vector>

#include "agilequant/kernels/reference.hpp"
#include "support/effort.hpp"
#include "support/manual_product.hpp"

using aq::status;
using namespace aq_test;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// How many outputs lie further from the oracle in double than the bound says; `worst` becomes the largest error in bounds.
std::size_t beyond_bound(const gemm_setup& setup, const aq::kernel_table& kernels, double nudge, double& worst,
                         double& largest_bound) {
    const gemm_case& c = setup.what;
    const aq::packed_weights w = setup.weights();
    const activation_buffer a = setup.activations(kernels);
    const matrix y = product(kernels, w, a.view, setup.whole());
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
    std::size_t tried = 0, caught = 0;
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
                    c.k = 1 + (tried * 37) % 150;
                    c.seed = ++tried;
                    const bool is_two_level = tried % 3 == 0 && c.weights.bits < 8;
                    c.weights.scales = is_two_level ? aq::group_scales::integers : aq::group_scales::floats;
                    const gemm_setup setup(c);
                    INFO(text(c));
                    CHECK(beyond_bound(setup, *kernels, 0.0, worst, largest_bound) == 0);
                    double ignored = 0.0;
                    if (tried % 16 == 0) caught += beyond_bound(setup, *kernels, 3.0, ignored, ignored);
                }
            }
        }
    }
    CHECK(tried > 3000);
    CHECK(worst > 0.01);          // the bound is not a formality ..
    CHECK(largest_bound < 2e-4);  // .. and small against |x| |w|: up to 150 groups at 2^-24 each, and a zero point's offset
    CHECK(caught > tried / 16 * 2 * 18 * 9 / 10);  // a result that is three bounds away is seen
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
            manual_product p(
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
            // its codes are [m, packed]: for the reference's eyes only
            const aq::activations_view a{
                c.activation_bits, c.m,          w.layout.packed, w.layout.id, o.codes.data(), o.scales.data(),
                o.zeros.data(),    o.sums.data()};
            bool same = true;
            for (std::size_t r = 0; r < c.m; ++r) {
                for (std::size_t j = 0; j < c.n; ++j) {
                    // volatile: every operation rounds by itself, whatever the compiler would like
                    volatile float sum = 0.0F, offset = 0.0F;
                    std::int64_t products = 0, weights = 0;  // two-level: over all groups
                    std::size_t group = 0;
                    aq::reference::for_each_group(w, a, r, j, [&](const aq::reference::group_sums& g) {
                        const int multiplier = w.affine_of(j, group++).multiplier;
                        products += multiplier * g.products;
                        weights += multiplier * g.weights;
                        if (w.multipliers != nullptr) return;
                        volatile const float scaled = static_cast<float>(g.scale) * static_cast<float>(g.products);
                        volatile const float scaled_weights = static_cast<float>(g.scale) * static_cast<float>(g.weights);
                        sum = sum + scaled;
                        offset = offset + scaled_weights;
                    });
                    if (w.multipliers != nullptr && w.layout.groups != 0) {
                        const float scale = w.affine_of(j, 0).scale;
                        sum = scale * static_cast<float>(products);
                        offset = scale * static_cast<float>(weights);
                    }
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

TEST_CASE("gemm refuses a depth that 32-bit sums do not hold, whatever packing let through") {
    for (int weight_bits = 2; weight_bits <= 8; ++weight_bits) {
        for (int activation_bits = 2; activation_bits <= 8; ++activation_bits) {
            const auto one = [](std::size_t, std::size_t) { return 1; };
            manual_product p(1, 1, 1, {weight_bits, true, 0}, activation_bits, one, one);
            matrix y(1, 1);
            const auto limit = static_cast<std::uint64_t>(aq::max_k(weight_bits, activation_bits));
            p.w.layout.depth = limit;
            CHECK(aq::gemm(aq::scalar::table, {p.w, p.a, y.view(), {}}) == status::ok);
            p.w.layout.depth = limit + 1;
            CHECK(aq::gemm(aq::scalar::table, {p.w, p.a, y.view(), {}}) == status::depth_over_limit);
            if (weight_bits == 8) continue;
            aq::weight_format format{weight_bits, true, 0};
            format.scales = aq::group_scales::integers;
            manual_product q(1, 1, 1, format, activation_bits, one, one);
            const auto total = static_cast<std::uint64_t>(aq::max_two_level_k(activation_bits));
            q.w.layout.total_depth = total;
            CHECK(aq::gemm(aq::scalar::table, {q.w, q.a, y.view(), {}}) == status::ok);
            q.w.layout.total_depth = total + 1;
            CHECK(aq::gemm(aq::scalar::table, {q.w, q.a, y.view(), {}}) == status::depth_over_limit);
        }
    }
}

TEST_CASE("exact: a row of a GEMM is the GEMV of that row, and any cut into rows, panels and threads gives the same bits") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (std::uint64_t seed = 1; seed <= (slowdown < 20 ? 24 : 12); ++seed) {
            gemm_case c = random_case(seed + 500, 70);
            c.m = seed % 6 == 0 ? 30 + seed : 1 + seed % 9;
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
                    aq::aligned_buffer<std::byte> scratch;  // one for each thread, or none
                    if (threads % 3 != 0) failures[t] += scratch.reset(aq::gemm_scratch_bytes(*kernels, w)) != status::ok;
                    failures[t] +=
                        aq::gemm(*kernels, {w, a.view, y.view(), {}}, rows, panels, scratch.data(), scratch.size()) != status::ok;
                });
                for (int f : failures) CHECK(f == 0);
                CHECK(differing(gemm_setup::collect(a.view, w.layout, y), whole) == 0);
            }
        }
    }
}

TEST_CASE("edges: a sub-range writes its own block of y and nothing else") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        const manual_product p(
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
    const manual_product p(2, 20, 33, {4, true, 16}, 8, one, one);
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
    static const std::uint8_t multipliers[64] = {};
    CHECK(with([](job_t& j) {
              j.weights.multipliers = multipliers;
              j.weights.layout.total_depth = 133145;
          }) == status::depth_over_limit);
    CHECK(with([](job_t& j) {
              j.weights.multipliers = multipliers;
              j.weights.bits = 8;
          }) == status::unsupported_format);
    const aq::index_range bad_rows[] = {{0, 3}, {2, 1}, {3, 3}}, bad_panels[] = {{0, 3}, {1, 0}, {3, 3}};
    for (aq::index_range r : bad_rows) CHECK(aq::gemm(aq::scalar::table, good, r, {0, 2}) == status::bad_shape);
    for (aq::index_range q : bad_panels) CHECK(aq::gemm(aq::scalar::table, good, {0, 2}, q) == status::bad_shape);
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        const std::size_t bytes = aq::gemm_scratch_bytes(*kernels, p.w);
        aq::aligned_buffer<std::byte> scratch;
        REQUIRE(scratch.reset(bytes + 1) == status::ok);
        CHECK(aq::gemm(*kernels, {p.w, p.a, matrix(2, 20).view(), {}}, scratch.data(), bytes) == status::ok);
        if (bytes != 0) CHECK(aq::gemm(*kernels, good, scratch.data(), bytes - 1) == status::scratch_too_small);
    }
    for (float v : y.data) CHECK(v == -5.0F);
    CHECK(answer(good) == status::ok);
    CHECK(y.at(1, 19) == 33.0F);

    // no depth needs no codes, but what the result is made of has to be there
    const manual_product flat(1, 1, 0, {4, true, 16}, 8, one, one);
    matrix z(1, 1);
    aq::gemm_job job{flat.w, flat.a, z.view(), {}};
    CHECK(answer(job) == status::ok);
    CHECK(z.at(0, 0) == 0.0F);
    job.weights.offsets = nullptr;
    CHECK(answer(job) == status::null_pointer);
    job = {flat.w, flat.a, z.view(), {}};
    job.activations.codes = nullptr;  // rows have a stride, so there are addresses to be made even without depth
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
