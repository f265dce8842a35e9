/// \file
/// GPTQ as its paper derives it, in plain double and without what makes it fast: one column after the other by the Optimal Brain
/// Quantizer's equations (Frantar et al. 2022, equation 2 and 3), with an explicit inverse from which each rounded column is removed.
/// No Cholesky factor, no blocks. And the plain factorization that tests bring to the real one.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "agilequant/quant/gptq.hpp"
#include "support/random.hpp"

namespace aq_test {

using square = std::vector<std::vector<double>>;

/// Activations [m,k] whose channels share what they say and differ in size up to 16 times, as they do behind a norm's gain.
inline matrix correlated_rows(random_source& random, std::size_t m, std::size_t k) {
    const matrix mix = random_matrix(random, k, k), own = random_matrix(random, m, k);
    matrix x(m, k);
    for (std::size_t r = 0; r < m; ++r) {
        for (std::size_t c = 0; c < k; ++c) {
            float sum = own.at(r, c);
            for (std::size_t i = 0; i < k; i += 2) sum += mix.at(c, i) * own.at(r, i) * 0.25F;
            x.at(r, c) = sum * std::ldexp(1.0F, static_cast<int>(c % 5));
        }
    }
    return x;
}

inline aq::hessian hessian_of(const matrix& x) {
    aq::hessian h;
    REQUIRE(h.reset(x.cols) == aq::status::ok);
    REQUIRE(h.add(x.view()) == aq::status::ok);
    return h;
}

/// U with U^T U = h^-1: h = R R^T from the last row upwards, and U = R^-1.
inline aq::status plain_factor(void*, aq::matrix_view<double> h) {
    const std::size_t k = h.rows;
    for (std::size_t j = k; j-- > 0;) {
        double pivot = h.row(j)[j];
        for (std::size_t i = j + 1; i < k; ++i) pivot -= h.row(j)[i] * h.row(j)[i];
        if (!(pivot > 0.0)) return aq::status::not_positive_definite;
        h.row(j)[j] = std::sqrt(pivot);
        for (std::size_t r = 0; r < j; ++r) {
            double sum = h.row(r)[j];
            for (std::size_t i = j + 1; i < k; ++i) sum -= h.row(r)[i] * h.row(j)[i];
            h.row(r)[j] = sum / h.row(j)[j];
        }
    }
    for (std::size_t j = 0; j < k; ++j) {  // columns of R^-1 from the left, in place
        const double inverse = 1.0 / h.row(j)[j];
        for (std::size_t r = 0; r < j; ++r) {
            double sum = 0.0;
            for (std::size_t i = r; i < j; ++i) sum += h.row(r)[i] * h.row(i)[j];
            h.row(r)[j] = -sum * inverse;
        }
        h.row(j)[j] = inverse;
        for (std::size_t i = j + 1; i < k; ++i) h.row(i)[j] = std::nan("");  // not to be read
    }
    return aq::status::ok;
}

inline aq::inverse_cholesky plain_cholesky() { return {nullptr, plain_factor}; }

/// Everything that decides the codes but weights and activations.
struct gptq_case {
    aq::weight_format format;
    aq::gptq_settings settings;
    std::vector<std::uint32_t> columns;  ///< a permutation
};

class plain_gptq {
public:
    std::vector<int> codes, zeros, multipliers;
    std::vector<float> scales;

    plain_gptq(const matrix& w, const matrix& x, const gptq_case& c)
        : c_(c),
          k_(w.cols),
          group_(c.format.group == 0 ? k_ : std::min(c.format.group, k_)),
          groups_((k_ + group_ - 1) / group_) {
        codes.resize(w.rows * k_);
        zeros.resize(w.rows * groups_);
        is_two_level_ = c.format.scales == aq::group_scales::integers;
        multipliers.resize(is_two_level_ ? w.rows * groups_ : 0);
        scales.resize(is_two_level_ ? w.rows : w.rows * groups_);
        prepare(x);
        for (std::size_t r = 0; r < w.rows; ++r) quantize_row(w, r);
    }

private:
    void prepare(const matrix& x) {
        square h(k_, std::vector<double>(k_, 0.0));
        double mean = 0.0, live = 0.0;
        for (std::size_t p = 0; p < k_; ++p) {
            for (std::size_t q = 0; q < k_; ++q) {
                for (std::size_t r = 0; r < x.rows; ++r)
                    h[p][q] += static_cast<double>(x.at(r, c_.columns[p])) * static_cast<double>(x.at(r, c_.columns[q]));
            }
            mean += h[p][p];
            live += h[p][p] != 0.0 ? 1.0 : 0.0;
            is_dead_.push_back(h[p][p] == 0.0);
            order_.push_back(p);
        }
        if (c_.settings.activation_order)
            std::sort(order_.begin(), order_.end(),
                      [&](std::size_t a, std::size_t b) { return h[a][a] != h[b][b] ? h[a][a] > h[b][b] : a < b; });
        mean = live == 0.0 ? 1.0 : mean / live;
        for (std::size_t p = 0; p < k_; ++p) h[p][p] = is_dead_[p] ? mean : h[p][p] + c_.settings.damping * mean;
        square g = inverted(std::move(h));
        for (const std::size_t q : order_) {
            const std::vector<double> row = g[q];
            removed_.push_back(row);
            for (std::size_t a = 0; a < k_; ++a)
                for (std::size_t b = 0; b < k_; ++b) g[a][b] -= row[a] * row[b] / row[q];
        }
    }

    /// Gauss and Jordan with pivots.
    static square inverted(square a) {
        const std::size_t k = a.size();
        square result(k, std::vector<double>(k, 0.0));
        for (std::size_t i = 0; i < k; ++i) result[i][i] = 1.0;
        for (std::size_t c = 0; c < k; ++c) {
            std::size_t pivot = c;
            for (std::size_t r = c; r < k; ++r) pivot = std::fabs(a[r][c]) > std::fabs(a[pivot][c]) ? r : pivot;
            std::swap(a[c], a[pivot]);
            std::swap(result[c], result[pivot]);
            const double scale = 1.0 / a[c][c];
            for (std::size_t j = 0; j < k; ++j) a[c][j] *= scale, result[c][j] *= scale;
            for (std::size_t r = 0; r < k; ++r) {
                const double factor = r == c ? 0.0 : a[r][c];
                for (std::size_t j = 0; j < k; ++j) a[r][j] -= factor * a[c][j], result[r][j] -= factor * result[c][j];
            }
        }
        return result;
    }

    void quantize_row(const matrix& w, std::size_t r) {
        std::vector<double> row(k_);
        for (std::size_t p = 0; p < k_; ++p) row[p] = is_dead_[p] ? 0.0 : static_cast<double>(w.at(r, c_.columns[p]));
        std::vector<aq::affine> fits(groups_);
        std::vector<bool> is_fitted(groups_, false), is_done(k_, false);
        if (c_.settings.scales == aq::gptq_scales::original || is_two_level_) {
            for (std::size_t g = 0; g < groups_; ++g) fits[g] = fit(row, r, g), is_fitted[g] = true;
            if (is_two_level_) fit_two_levels(row, r, fits);
        }
        for (std::size_t i = 0; i < k_; ++i) {
            const std::size_t q = order_[i], g = q / group_;
            const std::vector<double>& inverse = removed_[i];
            if (!is_fitted[g]) fits[g] = fit(row, r, g), is_fitted[g] = true;
            const int code =
                aq::encode(static_cast<float>(row[q]), 1.0F / fits[g].scale, fits[g].zero, aq::stored_codes(c_.format));
            codes[r * k_ + q] = code;
            const double error = (row[q] - static_cast<double>(aq::decode(code, fits[g]))) / inverse[q];
            is_done[q] = true;
            for (std::size_t p = 0; p < k_; ++p) row[p] -= is_done[p] ? 0.0 : error * inverse[p];
        }
    }

    aq::affine fit(const std::vector<double>& row, std::size_t r, std::size_t g) {
        const std::vector<float> slice(row.begin() + static_cast<std::ptrdiff_t>(g * group_),
                                       row.begin() + static_cast<std::ptrdiff_t>(std::min(k_, (g + 1) * group_)));
        const aq::affine a = aq::fit_weights(slice.data(), slice.size(), c_.format);
        zeros[r * groups_ + g] = a.zero;
        if (!is_two_level_) scales[r * groups_ + g] = a.scale;
        return a;
    }

    void fit_two_levels(const std::vector<double>& row, std::size_t r, std::vector<aq::affine>& fits) {
        const std::vector<float> x(row.begin(), row.end());
        std::vector<std::uint8_t> m(groups_), z(groups_);
        scales[r] = aq::fit_two_level(x.data(), k_, group_, fits.data(), aq::stored_codes(c_.format), c_.format.is_asymmetric,
                                      m.data(), z.data());
        for (std::size_t g = 0; g < groups_; ++g) {
            fits[g] = {scales[r] * static_cast<float>(m[g]), z[g]};
            multipliers[r * groups_ + g] = m[g];
            zeros[r * groups_ + g] = z[g];
        }
    }

    const gptq_case& c_;
    std::size_t k_, group_, groups_;
    bool is_two_level_ = false;
    std::vector<bool> is_dead_;
    std::vector<std::size_t> order_;
    square removed_;  // row i: of the inverse, the row of the column removed i-th
};

}  // namespace aq_test
