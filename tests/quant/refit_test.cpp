// Refitted weights against the normal equations of least squares, solved by elimination from the activations themselves; what they are for; and what
// is refused.
#include "agilequant/quant/refit.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "agilequant/quant/activation_format.hpp"
#include "support/plain_gptq.hpp"
#include "support/status_text.hpp"

using aq::coding_loss;
using aq::gptq_plan;
using aq::gptq_settings;
using aq::status;
using namespace aq_test;

namespace {

double at(const matrix& a, std::size_t r, std::size_t c) { return static_cast<double>(a.at(r, c)); }

/// x as 4-bit codes with a zero point stand for it, a share of its range clipped.
matrix coded_rows(const matrix& x, float clip = 0.8F, int bits = 4) {
    aq::activation_format format;
    format.bits = bits;
    format.is_asymmetric = true;
    format.clip = clip;
    matrix coded(x.rows, x.cols);
    for (std::size_t r = 0; r < x.rows; ++r) aq::decode_as_coded(x.view().row(r), x.cols, nullptr, format, coded.view().row(r));
    return coded;
}

coding_loss loss_of(const matrix& x, const matrix& coded) {
    coding_loss loss;
    REQUIRE(loss.reset(x.cols) == status::ok);
    REQUIRE(loss.add(x.view(), coded.view()) == status::ok);
    return loss;
}

gptq_plan plan_of(const matrix& coded, const gptq_settings& settings, const std::uint32_t* columns = nullptr) {
    gptq_plan plan;
    REQUIRE(plan.make(hessian_of(coded), settings, plain_cholesky(), columns) == status::ok);
    return plan;
}

matrix refitted(const matrix& x, const matrix& coded, matrix w, const gptq_settings& settings,
                const std::uint32_t* columns = nullptr) {
    REQUIRE(aq::refit_weights(loss_of(x, coded), plan_of(coded, settings, columns), w.view()) == status::ok);
    return w;
}

/// a b = y by Gauss, with pivots.
std::vector<double> solved(square a, std::vector<double> y) {
    const std::size_t k = y.size();
    for (std::size_t c = 0; c < k; ++c) {
        std::size_t pivot = c;
        for (std::size_t r = c; r < k; ++r) pivot = std::fabs(a[r][c]) > std::fabs(a[pivot][c]) ? r : pivot;
        std::swap(a[c], a[pivot]);
        std::swap(y[c], y[pivot]);
        for (std::size_t r = c + 1; r < k; ++r) {
            const double factor = a[r][c] / a[c][c];
            for (std::size_t j = c; j < k; ++j) a[r][j] -= factor * a[c][j];
            y[r] -= factor * y[c];
        }
    }
    for (std::size_t c = k; c-- > 0;) {
        for (std::size_t j = c + 1; j < k; ++j) y[c] -= a[c][j] * y[j];
        y[c] /= a[c][c];
    }
    return y;
}

/// The normal equations of min sum |w x - w' x^|^2 + d |w' - w|^2: w' (sum x^ x^^T + d I) = w (sum x x^^T + d I).
struct normal_equations {
    square h, cross;
    double damping = 0.0, condition = 0.0;  ///< the latter at most: trace / damping

    normal_equations(const matrix& x, const matrix& coded, double share) : h(x.cols, std::vector<double>(x.cols, 0.0)), cross(h) {
        double trace = 0.0, live = 0.0;
        for (std::size_t i = 0; i < x.cols; ++i) {
            for (std::size_t j = 0; j < x.cols; ++j) {
                for (std::size_t r = 0; r < x.rows; ++r) {
                    h[i][j] += at(coded, r, i) * at(coded, r, j);
                    cross[i][j] += at(x, r, i) * at(coded, r, j);
                }
            }
            trace += h[i][i];
            live += h[i][i] > 0.0 ? 1.0 : 0.0;
        }
        damping = share * trace / live;
        condition = trace / damping + 1.0;
        for (std::size_t i = 0; i < x.cols; ++i) h[i][i] += damping, cross[i][i] += damping;
    }
    std::vector<double> solution(const matrix& w, std::size_t r) const {
        std::vector<double> y(w.cols, 0.0);
        for (std::size_t i = 0; i < w.cols; ++i)
            for (std::size_t j = 0; j < w.cols; ++j) y[j] += at(w, r, i) * cross[i][j];
        return solved(h, y);  // h is symmetric
    }
};

/// sum over rows of x and of w of |w x - v x^|^2.
double output_error(const matrix& x, const matrix& coded, const matrix& w, const matrix& v) {
    double sum = 0.0;
    for (std::size_t t = 0; t < x.rows; ++t) {
        for (std::size_t r = 0; r < w.rows; ++r) {
            double y = 0.0;
            for (std::size_t i = 0; i < x.cols; ++i) y += at(w, r, i) * at(x, t, i) - at(v, r, i) * at(coded, t, i);
            sum += y * y;
        }
    }
    return sum;
}

int differences(const matrix& a, const matrix& b) {
    int wrong = 0;
    for (std::size_t r = 0; r < a.rows; ++r)
        for (std::size_t c = 0; c < a.cols; ++c) wrong += a.at(r, c) == b.at(r, c) ? 0 : 1;
    return wrong;
}

}  // namespace

TEST_CASE("exact: D is the sum of (x - x^) x^^T, however rows are cut into calls") {
    random_source random(171);
    for (const std::size_t k : sizes{1, 2, 7, 33, 64, 131}) {
        for (const std::size_t rows : sizes{0, 1, 16, 41}) {
            const matrix x = random_matrix(random, rows, k, 2);  // multiples of 2^-15, as is what follows: every sum is exact
            matrix coded = random_matrix(random, rows, k, 3);
            for (std::size_t r = 0; r < rows; ++r)
                if (r % 3 != 0) coded.at(r, r % k) = x.at(r, r % k);
            coding_loss pieces;
            REQUIRE(pieces.reset(k) == status::ok);
            REQUIRE(pieces.add(coded.view(), x.view()) == status::ok);
            REQUIRE(pieces.reset(k) == status::ok);  // nothing of an earlier use is left
            for (std::size_t first = 0; first < rows;) {
                const std::size_t count = 1 + random.below(rows - first);
                REQUIRE(pieces.add(x.view().rows_from(first, count), coded.view().rows_from(first, count)) == status::ok);
                first += count;
            }
            const coding_loss whole = loss_of(x, coded);
            int wrong = 0;
            for (std::size_t i = 0; i < k; ++i) {
                for (std::size_t j = 0; j < k; ++j) {
                    double sum = 0.0;
                    for (std::size_t r = 0; r < rows; ++r) sum += (at(x, r, i) - at(coded, r, i)) * at(coded, r, j);
                    wrong += whole.row(i)[j] == sum && pieces.row(i)[j] == sum ? 0 : 1;
                }
            }
            CHECK(wrong == 0);
        }
    }
}

TEST_CASE("exact: where sums are rounded, they are added row by row, each product rounded first, by any ranges of channels") {
    random_source random(177);
    for (const std::size_t k : sizes{1, 9, 64, 75}) {
        matrix x = random_matrix(random, 37, k, 1), coded = random_matrix(random, 37, k, 2);
        for (float& v : x.data) v = std::sin(v);
        for (float& v : coded.data) v = std::sin(v) * 0x1p-3F;
        coding_loss loss;
        REQUIRE(loss.reset(k) == status::ok);
        for (std::size_t first = 0; first < k;) {
            const std::size_t last = first + 1 + random.below(k - first);
            REQUIRE(loss.add(x.view(), coded.view(), first, last) == status::ok);
            first = last;
        }
        int wrong = 0;
        for (std::size_t i = 0; i < k; ++i) {
            for (std::size_t j = 0; j < k; ++j) {
                double sum = 0.0;
                for (std::size_t r = 0; r < x.rows; ++r) sum += aq::rounded((at(x, r, i) - at(coded, r, i)) * at(coded, r, j));
                wrong += loss.row(i)[j] == sum ? 0 : 1;
            }
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE("numeric: refitted weights solve the normal equations, whatever the order of the columns") {
    random_source random(172);
    for (std::size_t number = 0; number < 40; ++number) {
        CAPTURE(number);
        const std::size_t k = 1 + random.below(33), n = 5, rows = number % 4 == 0 ? k / 2 + 1 : 4 * k;
        const matrix w = random_matrix(random, n, k, 1);
        matrix x = correlated_rows(random, rows, k);
        matrix coded = coded_rows(x);
        // A dead channel: what it said is for the others to say.
        for (std::size_t r = 0; r < rows && number % 3 == 0; ++r) coded.at(r, k / 2) = 0.0F;
        std::vector<std::uint32_t> columns(k);
        for (std::size_t i = 0; i < k; ++i) columns[i] = static_cast<std::uint32_t>(i);
        for (std::size_t i = k; i > 1; --i) std::swap(columns[i - 1], columns[random.below(i)]);
        gptq_settings settings;
        settings.damping = number % 2 == 0 ? 0.01 : 0.3;
        settings.activation_order = random.flip();
        if (k == 1 && number % 3 == 0) continue;  // nobody is left

        const matrix found = refitted(x, coded, w, settings, columns.data());
        const normal_equations plain(x, coded, settings.damping);
        for (std::size_t r = 0; r < n; ++r) {
            const std::vector<double> expected = plain.solution(w, r);
            double norm = 0.0;
            for (std::size_t i = 0; i < k; ++i) norm += std::fabs(expected[i]) + std::fabs(at(w, r, i));
            // Solving in double is off by some k^2 units for each of the condition's; then a float is rounded.
            const double bound = static_cast<double>(k * k + rows) * plain.condition * 0x1p-52 * norm;
            CHECK(bound < 1e-5 * norm);
            int wrong = 0;
            for (std::size_t i = 0; i < k; ++i)
                wrong += std::fabs(at(found, r, i) - expected[i]) <= bound + 0x1p-24 * std::fabs(expected[i]) ? 0 : 1;
            CHECK(wrong == 0);
        }
    }
}

TEST_CASE("activations that coding leaves alone leave the weights alone; halved ones double them") {
    random_source random(173);
    constexpr std::size_t k = 20, n = 4;
    const matrix x = correlated_rows(random, 100, k), w = random_matrix(random, n, k);
    CHECK(differences(refitted(x, x, w, {}), w) == 0);
    matrix half = x;
    for (float& v : half.data) v *= 0.5F;
    gptq_settings undamped;
    undamped.damping = 0.0;
    const matrix doubled = refitted(x, half, w, undamped);
    for (std::size_t r = 0; r < n; ++r)
        for (std::size_t c = 0; c < k; ++c) CHECK(doubled.at(r, c) == doctest::Approx(2.0F * w.at(r, c)).epsilon(1e-5));
}

TEST_CASE("rows know nothing of each other: the same bits in pieces") {
    random_source random(174);
    constexpr std::size_t k = 30, n = 9;
    const matrix x = correlated_rows(random, 80, k), coded = coded_rows(x), w = random_matrix(random, n, k, 4);
    const matrix whole = refitted(x, coded, w, {});
    matrix pieces = w;
    const coding_loss loss = loss_of(x, coded);
    const gptq_plan plan = plan_of(coded, {});
    for (const std::size_t first : sizes{4, 8, 0})
        REQUIRE(aq::refit_weights(loss, plan, pieces.view().rows_from(first, first == 8 ? 1 : 4)) == status::ok);
    CHECK(differences(pieces, whole) == 0);
    CHECK(std::isnan(pieces.data[k]));  // nothing is written between rows
}

TEST_CASE("on coded activations refitted weights are better on each of 50 layers, before GPTQ rounds them and after") {
    random_source random(175);
    double before = 0.0, after = 0.0;
    constexpr std::size_t layers = 50;
    for (std::size_t i = 0; i < layers; ++i) {
        CAPTURE(i);
        constexpr std::size_t k = 48, n = 16;
        const matrix x = correlated_rows(random, 300, k), w = random_matrix(random, n, k);
        const matrix coded = coded_rows(x, i % 2 == 0 ? 1.0F : 0.8F, 3);
        const matrix better = refitted(x, coded, w, {});
        const double share = output_error(x, coded, w, better) / output_error(x, coded, w, w);
        CHECK(share < 1.0);
        before += share / layers;
        const gptq_plan plan = plan_of(coded, {});
        const auto rounded = [&](const matrix& from) {
            aq::coded_matrix codes;
            REQUIRE(aq::quantize_gptq(from.view(), {4, true, 16}, plan, codes) == status::ok);
            matrix result(n, k);
            for (std::size_t r = 0; r < n; ++r)
                for (std::size_t c = 0; c < k; ++c) result.at(r, c) = codes.value(r, c);
            return result;
        };
        const double rounded_share = output_error(x, coded, w, rounded(better)) / output_error(x, coded, w, rounded(w));
        CHECK(rounded_share < 1.0);
        after += rounded_share / layers;
    }
    MESSAGE("of the outputs' squared error: ", before, " before rounding, ", after, " after");
    CHECK(before < 0.9);
    CHECK(after < 0.9);
}

TEST_CASE("odd values: NaN counts as 0, a dead channel keeps its weight, and nothing becomes infinite") {
    random_source random(176);
    constexpr float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    coding_loss loss;
    REQUIRE(loss.reset(2) == status::ok);
    const float odd[2] = {nan, infinity}, plain[2] = {-infinity, 2.0F};
    REQUIRE(loss.add({odd, 1, 2}, {plain, 1, 2}) == status::ok);
    CHECK(loss.row(0)[0] == -0x1p252);
    CHECK(loss.row(0)[1] == 0x1p127);
    CHECK(loss.row(1)[0] == -(0x1p126 - 2.0) * 0x1p126);
    CHECK(loss.row(1)[1] == 0x1p127);

    constexpr std::size_t k = 6;
    const matrix x = correlated_rows(random, 40, k);
    matrix coded = coded_rows(x), w = random_matrix(random, 2, k), zero = w;
    for (std::size_t r = 0; r < x.rows; ++r) coded.at(r, 3) = 0.0F;
    w.at(0, 1) = nan;
    zero.at(0, 1) = 0.0F;
    const matrix found = refitted(x, coded, w, {}), expected = refitted(x, coded, zero, {});
    CHECK(differences(found, expected) == 0);
    CHECK(found.at(0, 3) == w.at(0, 3));
    CHECK(found.at(1, 3) == w.at(1, 3));

    const auto noisy = [](void* self, aq::matrix_view<double> m) {  // a factorization may leave noise where zeros belong
        AQ_TRY(plain_factor(self, m));
        for (std::size_t i = 0; i + 1 < k; ++i) m.row(i)[k - 1] += 1.0;
        return status::ok;
    };
    gptq_plan plan;
    REQUIRE(plan.make(hessian_of(coded), {}, {nullptr, noisy}) == status::ok);
    matrix despite_noise = zero;
    REQUIRE(aq::refit_weights(loss_of(x, coded), plan, despite_noise.view()) == status::ok);
    CHECK(differences(despite_noise, expected) == 0);

    matrix small = x;
    for (float& v : small.data) v *= 0x1p-40F;
    for (std::size_t c = 0; c < k; ++c) w.at(0, c) = 0x1p120F, w.at(1, c) = c % 2 == 0 ? infinity : -infinity;
    gptq_settings undamped;
    undamped.damping = 0.0;
    const matrix large = refitted(x, small, w, undamped);
    for (std::size_t c = 0; c < k; ++c) {
        CHECK(large.at(0, c) == 0x1p126F);
        CHECK(large.at(1, c) == (c % 2 == 0 ? 0x1p126F : -0x1p126F));
    }
}

TEST_CASE("refit: sizes of zero and refusals") {
    random_source random(177);
    coding_loss loss;
    CHECK(loss.channels() == 0);
    CHECK(loss.add({nullptr, 0, 0}, {nullptr, 0, 0}) == status::ok);
    gptq_plan none;
    REQUIRE(none.make(aq::hessian(), {}, plain_cholesky()) == status::ok);
    CHECK(aq::refit_weights(loss, none, {nullptr, 3, 0}) == status::ok);
    REQUIRE(loss.reset(3) == status::ok);
    CHECK(loss.channels() == 3);
    float x[6] = {1, 2, 3, 4, 5, 6};
    CHECK(loss.add({nullptr, 0, 3}, {nullptr, 0, 3}) == status::ok);
    CHECK(loss.add({x, 1, 2}, {x, 1, 2}) == status::bad_shape);
    CHECK(loss.add({x, 1, 3}, {x, 2, 3}) == status::bad_shape);
    CHECK(loss.add({x, 1, 3}, {x, 1, 2}) == status::bad_shape);
    CHECK(loss.add({nullptr, 1, 3}, {x, 1, 3}) == status::null_pointer);
    CHECK(loss.add({x, 1, 3}, {nullptr, 1, 3}) == status::null_pointer);
    CHECK(loss.add({x, 1, 3, 2}, {x, 1, 3}) == status::bad_stride);
    CHECK(loss.add({x, 1, 3}, {x, 1, 3, 2}) == status::bad_stride);
    for (std::size_t i = 0; i < 9; ++i) CHECK(loss.row(i / 3)[i % 3] == 0.0);

    const gptq_plan plan = plan_of(correlated_rows(random, 20, 3), {});
    CHECK(aq::refit_weights(loss, plan, {nullptr, 0, 3}) == status::ok);
    CHECK(aq::refit_weights(loss, plan, {x, 2, 2}) == status::bad_shape);
    CHECK(aq::refit_weights(loss, none, {x, 2, 3}) == status::bad_shape);
    CHECK(aq::refit_weights(loss, plan, {nullptr, 2, 3}) == status::null_pointer);
    CHECK(aq::refit_weights(loss, plan, {x, 2, 3, 2}) == status::bad_stride);
    REQUIRE(loss.reset(4) == status::ok);
    CHECK(aq::refit_weights(loss, plan, {x, 2, 3}) == status::bad_shape);
    CHECK(loss.reset(std::size_t{1} << 33) == status::out_of_memory);
    CHECK(loss.reset(std::size_t{0xFFFFFFFFU}) == status::out_of_memory);
    CHECK(loss.channels() == 0);
}
