// A linear layer in every format: against double, against itself dequantized, and the same bits however it is cut.
#include "agilequant/model/linear.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "agilequant/kernels/epilogue.hpp"
#include "agilequant/kernels/reference.hpp"
#include "model/threads.hpp"
#include "support/gemm_case.hpp"
#include "support/tiny_model.hpp"

using aq::status;
using namespace aq_test;

namespace {

struct layer_shape {
    std::size_t m, n, k;
};
constexpr layer_shape shapes[] = {{1, 1, 1}, {1, 16, 32}, {3, 17, 33}, {5, 40, 172}, {7, 100, 20}};

struct format {
    int weight_bits, activation_bits;
    bool is_asymmetric;
    std::size_t group;
    bool has_trip;
};
constexpr format formats[] = {{4, 8, false, 16, false}, {4, 8, true, 0, true},  {4, 4, true, 32, true},
                              {2, 8, false, 7, false},  {8, 8, true, 16, true}, {3, 5, false, 0, false}};

struct layer_case {
    matrix x, w;
    std::vector<std::uint8_t> exponents;
    aq::weight_format weights;
    aq::site_format site;

    layer_case(const layer_shape& s, const format& f, std::uint64_t seed) : x(0, 0), w(0, 0) {
        random_source random(seed);
        x = random_matrix(random, s.m, s.k, 3);
        w = random_matrix(random, s.n, s.k, 1);
        weights.bits = f.weight_bits;
        weights.is_asymmetric = f.is_asymmetric;
        weights.group = f.group;
        site.is_float = false;
        site.activations.bits = f.activation_bits;
        site.activations.is_asymmetric = f.is_asymmetric;
        for (std::size_t i = 0; f.has_trip && i < s.k; ++i) exponents.push_back(static_cast<std::uint8_t>(random.below(4)));
    }
    aq::matrix_view<const float> input() const { return x.view(); }
    aq::linear packed() const {
        aq::linear l;
        REQUIRE(l.assign(w.view(), weights, exponents.empty() ? nullptr : exponents.data()) == status::ok);
        return l;
    }
};

aq::run_context context_of(const aq::kernel_table& kernels, const aq::executor& threads = {}) {
    aq::run_context c;
    c.kernels = &kernels;
    c.threads = threads;
    return c;
}

/// x through one linear; the rows of y are apart.
std::vector<float> run(aq::run_context& context, aq::matrix_view<const float> x, const aq::site_format& f, const aq::linear& l,
                       aq::epilogue_ref e = {}) {
    aq::linear_input input;
    REQUIRE(input.prepare(context, x, f, l) == status::ok);
    matrix y(x.rows, l.n(), 2);
    REQUIRE(aq::multiply(context, input, l, y.view(), e) == status::ok);
    for (std::size_t r = 0; r < y.rows; ++r) CHECK(std::isnan(y.data[r * y.stride + y.cols]));
    std::vector<float> all;
    for (std::size_t r = 0; r < y.rows; ++r) all.insert(all.end(), &y.data[r * y.stride], &y.data[r * y.stride] + y.cols);
    return all;
}

/// What the packed weights stand for, as floats: decode() rounds the same product.
matrix dequantized(const aq::linear& l) {
    std::vector<double> values(l.n() * l.k());
    aq::reference::dequantize(l.weights(), {values.data(), l.n(), l.k()});
    matrix w(l.n(), l.k());
    for (std::size_t i = 0; i < values.size(); ++i) w.data[i] = static_cast<float>(values[i]);
    return w;
}

template <class Visit>
void for_each_case(Visit&& visit) {
    std::uint64_t seed = 100;
    for (const layer_shape& s : shapes)
        for (const format& f : formats) {
            ++seed;
            CAPTURE(seed);
            CAPTURE(s.m);
            CAPTURE(s.n);
            CAPTURE(s.k);
            CAPTURE(f.weight_bits);
            CAPTURE(f.activation_bits);
            visit(layer_case(s, f, seed));
        }
}

}  // namespace

TEST_CASE("float weights: within the bound of k products and sums from double") {
    for_each_case([](const layer_case& c) {
        aq::linear l;
        REQUIRE(l.assign(c.w.view()) == status::ok);
        CHECK(l.is_float());
        CHECK(l.bytes() == l.n() * l.k() * sizeof(float));
        aq::run_context context = context_of(chosen_kernels());
        const std::vector<float> y = run(context, c.input(), c.site, l);  // float weights: the input stays float
        double worst = 0.0, largest_bound = 0.0;
        for (std::size_t r = 0; r < c.x.rows; ++r)
            for (std::size_t n = 0; n < l.n(); ++n) {
                double sum = 0.0, magnitude = 0.0;
                for (std::size_t i = 0; i < l.k(); ++i) {
                    const double product = static_cast<double>(c.x.at(r, i)) * static_cast<double>(c.w.at(n, i));
                    sum += product;
                    magnitude += std::abs(product);
                }
                // product and k sums rounded (Higham, Accuracy and Stability, section 3.1); values are far from underflow
                const double bound = 1.01 * static_cast<double>(l.k() + 1) * 0x1p-24 * magnitude;
                worst = std::max(worst, std::abs(static_cast<double>(y[r * l.n() + n]) - sum) / (bound + 1e-300));
                largest_bound = std::max(largest_bound, bound);
            }
        CHECK(worst <= 1.0);
        CHECK(largest_bound < 1e-2);
    });
}

TEST_CASE("packed weights, quantized activations: within the bound of the float epilogue from double") {
    for_each_case([](const layer_case& c) {
        const aq::linear l = c.packed();
        CHECK_FALSE(l.is_float());
        CHECK(l.n() == c.w.rows);
        CHECK(l.k() == c.w.cols);
        aq::run_context context = context_of(chosen_kernels());
        const std::vector<float> y = run(context, c.input(), c.site, l);
        aq::linear_input input;
        REQUIRE(input.prepare(context, c.input(), c.site, l) == status::ok);
        CHECK_FALSE(input.is_float());
        std::vector<double> x(c.x.rows * l.k()), w(l.n() * l.k()), expected(c.x.rows * l.n());
        aq::reference::dequantize(input.codes(), l.weights().layout, {x.data(), c.x.rows, l.k()});
        aq::reference::dequantize(l.weights(), {w.data(), l.n(), l.k()});
        aq::reference::matmul({x.data(), c.x.rows, l.k()}, {w.data(), l.n(), l.k()}, {expected.data(), c.x.rows, l.n()});
        bool is_within = true, is_small = true;
        for (std::size_t i = 0; i < y.size(); ++i) {
            const double bound = aq::reference::gemm_error_bound(l.weights(), input.codes(), i / l.n(), i % l.n());
            is_within = is_within && std::abs(static_cast<double>(y[i]) - expected[i]) <= bound;
            is_small = is_small && bound < 1e-3 * (1.0 + std::abs(expected[i]));
        }
        CHECK(is_within);
        CHECK(is_small);
        // and the codes stand for x: within half a step of each number, the smallest step being a token's scale
        const aq::k_layout_view layout = l.weights().layout;
        CHECK(layout.k == c.x.cols);
        double error = 0.0;
        for (std::size_t r = 0; r < c.x.rows; ++r)
            for (std::size_t i = 0; i < l.k(); ++i) {
                const double step =
                    static_cast<double>(input.codes().scales[r]) * (c.exponents.empty() ? 1 : 1 << c.exponents[i]);
                // the range may end half a step early where the zero point is rounded
                error = std::max(error, std::abs(x[r * l.k() + i] - static_cast<double>(c.x.at(r, i))) / step);
            }
        CHECK(error < 1.001);
    });
}

TEST_CASE("packed weights, float activations: the bits of the product with the dequantized matrix") {
    for_each_case([](const layer_case& c) {
        const aq::linear l = c.packed();
        aq::linear plain;
        const matrix w = dequantized(l);
        REQUIRE(plain.assign(w.view()) == status::ok);
        for (const aq::kernel_table* kernels : runnable_kernels()) {
            aq::run_context context = context_of(*kernels);
            CHECK(is_same(run(context, c.input(), {}, l), run(context, c.input(), {}, plain)));
        }
    });
}

TEST_CASE("any number of threads, any executor, any instruction set: the same bits") {
    const std::vector<named_executor> executors = all_executors(8);
    for (const format& f : formats) {
        const layer_case c({9, 150, 96}, f, 77);
        const aq::linear packed = c.packed();
        aq::linear plain;
        REQUIRE(plain.assign(c.w.view()) == status::ok);
        struct variant {
            const aq::linear& l;
            aq::site_format site;
        };
        for (const variant& v : {variant{packed, c.site}, variant{packed, {}}, variant{plain, {}}}) {
            aq::run_context serial = context_of(*aq::isa_entries[0].kernels);
            const std::vector<float> expected = run(serial, c.input(), v.site, v.l);
            for (const aq::kernel_table* kernels : runnable_kernels())
                for (const named_executor& e : executors) {
                    CAPTURE(e.name);
                    aq::run_context context = context_of(*kernels, e.threads);
                    CHECK(is_same(run(context, c.input(), v.site, v.l), expected));
                }
        }
    }
}

TEST_CASE("linears of one site share their input") {
    const layer_case c({4, 30, 50}, formats[2], 5), other({4, 9, 50}, formats[2], 6);
    const aq::linear q = c.packed();
    aq::linear k;
    REQUIRE(k.assign(other.w.view(), c.weights, c.exponents.data()) == status::ok);
    aq::run_context context = context_of(chosen_kernels());
    aq::linear_input input;
    REQUIRE(input.prepare(context, c.input(), c.site, q) == status::ok);
    matrix y(4, 9);
    REQUIRE(aq::multiply(context, input, k, y.view()) == status::ok);
    y.data.pop_back();
    CHECK(is_same(y.data, run(context, c.input(), c.site, k)));
    // where the exponents differ, or the groups, the input is refused
    std::vector<std::uint8_t> exponents = c.exponents;
    exponents[0] ^= 1U;
    REQUIRE(k.assign(other.w.view(), c.weights, exponents.data()) == status::ok);
    matrix z(4, 9);
    CHECK(aq::multiply(context, input, k, z.view()) == status::wrong_layout);
    aq::weight_format groups = c.weights;
    groups.group = 25;
    REQUIRE(k.assign(other.w.view(), groups, c.exponents.data()) == status::ok);
    CHECK(aq::multiply(context, input, k, z.view()) == status::wrong_layout);
}

TEST_CASE("an epilogue sees each number once, in any format and cut") {
    const layer_case c({5, 70, 48}, formats[0], 8);
    const aq::linear packed = c.packed();
    random_source random(9);
    matrix residual = random_matrix(random, 5, 70, 4), bias = random_matrix(random, 1, 70), gate = random_matrix(random, 5, 70);
    for (const named_executor& e : all_executors(3))
        for (const aq::site_format& f : {c.site, aq::site_format{}}) {
            CAPTURE(e.name);
            aq::run_context context = context_of(chosen_kernels(), e.threads);
            std::vector<float> expected = run(context, c.input(), f, packed);
            for (std::size_t r = 0; r < 5; ++r) {
                float* const row = &expected[r * 70];
                for (std::size_t i = 0; i < 70; ++i) row[i] += bias.at(0, i);
                aq::silu_gate(&gate.data[r * 70], row, 70, row);
                for (std::size_t i = 0; i < 70; ++i) row[i] += residual.at(r, i);
            }
            const aq::epilogue stages{aq::add_bias{bias.data.data()}, aq::mul_silu_gate{gate.view()},
                                      aq::add_residual{residual.view()}};
            CHECK(is_same(run(context, c.input(), f, packed, stages.ref()), expected));
            // in place: y is the residual
            matrix x = residual;
            aq::linear_input input;
            REQUIRE(input.prepare(context, c.input(), f, packed) == status::ok);
            const aq::epilogue in_place{aq::add_bias{bias.data.data()}, aq::mul_silu_gate{gate.view()},
                                        aq::add_residual{x.view()}};
            REQUIRE(aq::multiply(context, input, packed, x.view(), in_place.ref()) == status::ok);
            bool same = true;
            for (std::size_t r = 0; r < 5; ++r)
                same = same && std::memcmp(&x.data[r * x.stride], &expected[r * 70], 70 * sizeof(float)) == 0;
            CHECK(same);
        }
}

TEST_CASE("a bias is added before any other stage, and leaves with the weights that it belongs to") {
    const layer_case c({5, 70, 48}, formats[0], 8);
    random_source random(9);
    const matrix residual = random_matrix(random, 5, 70, 4), bias = random_matrix(random, 1, 70);
    aq::run_context context = context_of(chosen_kernels());
    aq::linear packed = c.packed(), plain;
    REQUIRE(plain.assign(c.w.view()) == status::ok);
    for (aq::linear* l : {&packed, &plain})
        for (const bool adds_residual : {false, true}) {
            const aq::site_format f = l == &packed ? c.site : aq::site_format{};
            const std::vector<float> products = run(context, c.input(), f, *l);
            const std::size_t bytes = l->bytes();
            const auto applied = [&] {
                matrix y(5, 70);
                aq::linear_input input;
                REQUIRE(input.prepare(context, c.input(), f, *l) == status::ok);
                REQUIRE((adds_residual ? aq::apply(context, input, *l, y.view(), aq::add_residual{residual.view()})
                                       : aq::apply(context, input, *l, y.view())) == status::ok);
                return y;
            };
            const auto differences = [&](const matrix& y, bool has_bias) {
                std::size_t count = 0;
                for (std::size_t r = 0; r < 5; ++r)
                    for (std::size_t i = 0; i < 70; ++i) {
                        float expected = products[r * 70 + i];
                        if (has_bias) expected += bias.at(0, i);
                        if (adds_residual) expected += residual.at(r, i);
                        count += y.at(r, i) == expected ? 0 : 1;
                    }
                return count;
            };
            CHECK(l->bias() == nullptr);
            CHECK(differences(applied(), false) == 0);
            CHECK(l->assign_bias({bias.data.data(), 1, 69}) == status::bad_shape);
            CHECK(l->assign_bias({bias.data.data(), 2, 70}) == status::bad_shape);
            CHECK(l->assign_bias({nullptr, 1, 70}) == status::null_pointer);
            REQUIRE(l->assign_bias({bias.data.data(), 1, 70}) == status::ok);
            CHECK(l->bytes() == bytes + 70 * sizeof(float));
            CHECK(differences(applied(), true) == 0);
            if (l == &packed) packed = c.packed();
            else REQUIRE(plain.assign(c.w.view()) == status::ok);
        }
}

TEST_CASE("a linear and its input can be used again for another size and format") {
    aq::run_context context = context_of(chosen_kernels());
    aq::linear_input input;
    aq::linear l;
    std::uint64_t seed = 50;
    for (const layer_shape& s : shapes)
        for (const format& f : formats) {
            const layer_case c(s, f, ++seed);
            REQUIRE(l.assign(c.w.view(), c.weights, c.exponents.empty() ? nullptr : c.exponents.data()) == status::ok);
            REQUIRE(input.prepare(context, c.input(), c.site, l) == status::ok);
            matrix y(s.m, s.n);
            REQUIRE(aq::multiply(context, input, l, y.view()) == status::ok);
            y.data.pop_back();
            aq::run_context fresh = context_of(chosen_kernels());
            CHECK(is_same(y.data, run(fresh, c.input(), c.site, c.packed())));
        }
}

TEST_CASE("no rows, no outputs and no depth are legal; what does not fit is refused") {
    aq::run_context context = context_of(chosen_kernels());
    for (const layer_shape& s : {layer_shape{0, 5, 8}, layer_shape{3, 0, 8}, layer_shape{3, 5, 0}}) {
        const layer_case c(s, formats[0], 1);
        aq::linear plain;
        REQUIRE(plain.assign(c.w.view()) == status::ok);
        for (const std::vector<float>& y : {run(context, c.input(), c.site, c.packed()), run(context, c.input(), {}, c.packed()),
                                            run(context, c.input(), {}, plain)}) {
            CHECK(y.size() == s.m * s.n);
            for (const float v : y) CHECK(v == 0.0F);
        }
    }
    const layer_case c({3, 5, 8}, formats[0], 1);
    const aq::linear l = c.packed();
    aq::linear_input input;
    matrix wrong(3, 9);
    CHECK(input.prepare(context, std::as_const(wrong).view(), c.site, l) == status::bad_shape);
    aq::site_format bad = c.site;
    bad.activations.bits = 9;
    CHECK(input.prepare(context, c.input(), bad, l) == status::bad_argument);
    REQUIRE(input.prepare(context, c.input(), c.site, l) == status::ok);
    matrix y(3, 6);
    CHECK(aq::multiply(context, input, l, y.view()) == status::bad_shape);
    REQUIRE(input.prepare(context, c.input(), {}, l) == status::ok);
    CHECK(aq::multiply(context, input, l, y.view()) == status::bad_shape);
    aq::linear other;
    aq::weight_format format;
    format.bits = 9;
    CHECK(other.assign(c.w.view(), format, nullptr) == status::unsupported_format);
}
