/// \file
/// How the activations of one site are best coded: of many settings of TRIP, the one with the least error of the *output* of the linears
/// that the site feeds, on calibration data [ours]. With e = x - x^ for a token x [k], and W [n,k] the weights of all those linears one
/// above the other, that is the sum over tokens of |e W^T|^2 = e G e^T with G = W^T W: what a `hessian` holds that was shown W.
///
/// Candidates: the largest exponent K from 0 up, for K > 0 each exponent_choice, and a clip of each token's range or, where the scale is
/// static, a static_range. K = 0 with nothing clipped is always measured, so that on this data TRIP never hurts.
/// Two passes: all candidates by the diagonal of G, which costs k multiplications a token, then the best few by all of it, k^2 / 2.
///
/// The candidates are independent, so threads may share them: see activation_search. The same bits everywhere.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/quant/activation_format.hpp"
#include "agilequant/quant/hessian.hpp"
#include "agilequant/quant/trip_calibrator.hpp"

namespace aq {

/// What is searched.
struct activation_search_settings {
    static constexpr std::size_t max_clips = 8;

    int bits = 4;  ///< 2..8
    bool is_asymmetric = true;
    bool is_static = false;                ///< one scale and zero point for all tokens, by each static_range in place of clips
    int top_exponent = max_trip_exponent;  ///< the largest K that is tried, 0..6; pack() must be able to hold 2^K times the depth
    float clips[max_clips] = {1.0F, .9F, .8F};  ///< falling, from 1 on
    std::size_t clip_count = 3;
    std::size_t finalists = 8;  ///< how many candidates, with the uniform quantizer, get to the second pass; 1 or more
    std::size_t rows = 0;       ///< how many of the sampled rows the second pass takes; 0: all
};

/// One way to code a site.
struct activation_candidate {
    static constexpr double not_measured = std::numeric_limits<double>::infinity();

    int top_exponent = 0;                                   ///< K
    exponent_choice choice = exponent_choice::mean_square;  ///< of no account at K = 0
    static_range range = static_range::extremes;            ///< where static
    activation_format format;              ///< with the clip, or the static scale and zero point once rank() knows it
    double diagonal_error = not_measured;  ///< of the first pass: sum of e^2 diag(G), over all sampled rows
    double error = not_measured;           ///< of the second pass: sum of e G e^T
};

/// What a search found.
struct searched_activations {
    activation_candidate best;
    double uniform_error = 0.0;  ///< of K = 0 with nothing clipped, on the same rows: never less than best.error
    double energy = 0.0;         ///< sum of x G x^T over those rows

    /// 10 log10(energy / error) of the output, in decibels; infinity where there is no error.
    [[nodiscard]] double signal_to_noise_db() const noexcept {
        if (best.error == 0.0) return std::numeric_limits<double>::infinity();
        return 10.0 * std::log10(energy / best.error);
    }
};

/// The search for one site: reset, then run. Or, for several threads: reset; rank(i) of every i < size(); select; measure(finalist(j)) of
/// every j < finalists(); take. rank and measure touch nothing but candidate i, so calls for different i may run at the same time, and
/// whatever the order, the result has the same bits. Afterwards candidate(i) is the table of what was measured.
class activation_search {
public:
    /// Lists the candidates. `site` has seen the activations [tokens,k], `outputs` the weights behind it [n,k] as rows; both stay borrowed,
    /// and unchanged, to the end. Memory: (4 K + 1) k bytes and 8 k, and some 100 a candidate; rank and measure take 4 k and 68 k for a
    /// while, rank of a static scale the sample twice.
    /// bad_shape: `outputs` is for other channels; bad_argument: a setting outside its limits, or a site that was never reset; out_of_memory.
    [[nodiscard]] status reset(const trip_calibrator& site, const hessian& outputs,
                               const activation_search_settings& settings) noexcept {
        size_ = finalist_count_ = 0;
        if (!is_valid(settings)) return status::bad_argument;
        if (outputs.channels() != site.channels()) return status::bad_shape;
        site_ = &site;
        outputs_ = &outputs;
        settings_ = settings;
        energy_ = 0.0;
        AQ_TRY(find_exponents());
        AQ_TRY(diagonal_.reset(site.channels()));
        for (std::size_t c = 0; c < site.channels(); ++c) diagonal_[c] = outputs(c, c);
        return list_candidates();
    }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    /// The first is K = 0 with nothing clipped. In order of preference where errors are equal: smaller K, then larger clip.
    [[nodiscard]] const activation_candidate& candidate(std::size_t i) const noexcept { return candidates_[i]; }
    /// Those of candidate i, [k].
    [[nodiscard]] const std::uint8_t* exponents(std::size_t i) const noexcept {
        const activation_candidate& c = candidates_[i];
        return exponents_.data() + set_of(c.top_exponent, static_cast<int>(c.choice)) * site_->channels();
    }

    /// The first pass of candidate i. out_of_memory.
    [[nodiscard]] status rank(std::size_t i) noexcept {
        activation_candidate& c = candidates_[i];
        if (c.format.is_static) AQ_TRY(site_->fit_static(trip_format_of(c), exponents(i), c.range, c.format.fixed));
        const matrix_view<const float> x = site_->sample();
        aligned_buffer<float> decoded;
        AQ_TRY(decoded.reset(x.cols));
        double sum = 0.0;
        for (std::size_t r = 0; r < x.rows; ++r) {
            decode_as_coded(x.row(r), x.cols, exponents(i), c.format, decoded.data());
            for (std::size_t k = 0; k < x.cols; ++k) {
                const double e = static_cast<double>(x.row(r)[k]) - static_cast<double>(decoded[k]);
                sum += rounded(diagonal_[k] * (e * e));
            }
        }
        c.diagonal_error = sum;
        return status::ok;
    }

    /// Chooses the finalists: candidate 0, and those with the least error in the first pass. Of equal ones, which as a rule stand for the
    /// same codes, the first.
    void select() noexcept {
        finalist_count_ = 0;
        for (std::size_t next = 0; next != size_ && finalist_count_ < settings_.finalists; next = best_remaining())
            finalists_[finalist_count_++] = next;
    }
    [[nodiscard]] std::size_t finalists() const noexcept { return finalist_count_; }
    [[nodiscard]] std::size_t finalist(std::size_t j) const noexcept { return finalists_[j]; }

    /// The second pass of candidate i, ranked before; of candidate 0 the energy beside. out_of_memory.
    [[nodiscard]] status measure(std::size_t i) noexcept {
        activation_candidate& c = candidates_[i];
        AQ_TRY(sum_forms(&c, exponents(i), c.error));
        return i == 0 ? sum_forms(nullptr, nullptr, energy_) : status::ok;
    }

    /// The best of what was measured, and its exponents [k]. null_pointer; bad_argument: candidate 0 is not measured.
    [[nodiscard]] status take(std::uint8_t* exponents_out, searched_activations& result) const noexcept {
        if (size_ == 0 || candidates_[0].error == activation_candidate::not_measured) return status::bad_argument;
        const std::size_t k = site_->channels();
        if (exponents_out == nullptr && k != 0) return status::null_pointer;
        std::size_t best = 0;
        for (std::size_t i = 1; i < size_; ++i) best = candidates_[i].error < candidates_[best].error ? i : best;
        std::copy(exponents(best), exponents(best) + k, exponents_out);
        result = {candidates_[best], candidates_[0].error, energy_};
        return status::ok;
    }

    /// All of it, after reset. What the steps say.
    [[nodiscard]] status run(std::uint8_t* exponents_out, searched_activations& result) noexcept {
        for (std::size_t i = 0; i < size_; ++i) AQ_TRY(rank(i));
        select();
        for (std::size_t j = 0; j < finalist_count_; ++j) AQ_TRY(measure(finalists_[j]));
        return take(exponents_out, result);
    }

private:
    static constexpr exponent_choice choices[] = {exponent_choice::mean_square, exponent_choice::maximum,
                                                  exponent_choice::percentile_99, exponent_choice::root_mean_square};
    static constexpr static_range ranges[] = {static_range::extremes, static_range::percentile_99_99,
                                              static_range::percentile_99_9, static_range::mean_square};
    static constexpr int choice_count = 4, range_count = 4;

    [[nodiscard]] static bool is_valid(const activation_search_settings& s) noexcept {
        if (s.bits < 2 || s.bits > 8 || s.top_exponent < 0 || s.top_exponent > max_trip_exponent || s.finalists == 0)
            return false;
        if (s.clip_count == 0 || s.clip_count > s.max_clips || s.clips[0] != 1.0F) return false;
        for (std::size_t i = 1; i < s.clip_count; ++i) {
            if (!(s.clips[i] > 0.0F && s.clips[i] < s.clips[i - 1])) return false;
        }
        return true;
    }

    /// Where the exponents of K and choice are. K = 0 has one set.
    [[nodiscard]] static std::size_t set_of(int top, int choice) noexcept {
        return top == 0 ? 0 : static_cast<std::size_t>(1 + (top - 1) * choice_count + choice);
    }

    [[nodiscard]] trip_format trip_format_of(const activation_candidate& c) const noexcept {
        return {settings_.bits, settings_.is_asymmetric, c.top_exponent, c.choice};
    }

    [[nodiscard]] status find_exponents() noexcept {
        const std::size_t k = site_->channels();
        AQ_TRY(exponents_.reset(set_of(settings_.top_exponent + 1, 0) * k));
        for (int top = 0; top <= settings_.top_exponent; ++top) {
            for (int choice = 0; choice < (top == 0 ? 1 : choice_count); ++choice) {
                activation_candidate c;
                c.top_exponent = top;
                c.choice = choices[choice];
                affine unused;
                AQ_TRY(site_->fit(trip_format_of(c), exponents_.data() + set_of(top, choice) * k, unused));
            }
        }
        return status::ok;
    }

    [[nodiscard]] status list_candidates() noexcept {
        const std::size_t forms = settings_.is_static ? range_count : settings_.clip_count;
        const std::size_t count = set_of(settings_.top_exponent + 1, 0) * forms;
        AQ_TRY(candidates_.reset(count));
        AQ_TRY(finalists_.reset(std::min(count, settings_.finalists)));
        std::size_t next = 0;
        for (int top = 0; top <= settings_.top_exponent; ++top) {
            for (std::size_t form = 0; form < forms; ++form) {
                for (int choice = 0; choice < (top == 0 ? 1 : choice_count); ++choice) {
                    activation_candidate c;
                    c.top_exponent = top;
                    c.choice = choices[choice];
                    c.format.bits = settings_.bits;
                    c.format.is_asymmetric = settings_.is_asymmetric;
                    c.format.is_static = settings_.is_static;
                    if (settings_.is_static) c.range = ranges[form];
                    else c.format.clip = settings_.clips[form];
                    candidates_[next++] = c;
                }
            }
        }
        size_ = next;
        return status::ok;
    }

    /// The candidate with the least error in the first pass that no finalist has; size() where there is none.
    [[nodiscard]] std::size_t best_remaining() const noexcept {
        std::size_t best = size_;
        double least = activation_candidate::not_measured;
        for (std::size_t i = 0; i < size_; ++i) {
            const double e = candidates_[i].diagonal_error;
            const bool is_known = std::any_of(finalists_.data(), finalists_.data() + finalist_count_,
                                              [&](std::size_t f) { return candidates_[f].diagonal_error == e; });
            if (is_known || !(e < least)) continue;
            best = i;
            least = e;
        }
        return best;
    }

    /// sum of d G d^T over the rows of the second pass, d being the error of `coded` or, where null, the row itself.
    [[nodiscard]] status sum_forms(const activation_candidate* coded, const std::uint8_t* exponents,
                                   double& result) const noexcept {
        constexpr std::size_t step = hessian::form_count;
        const matrix_view<const float> x = site_->sample();
        const std::size_t rows = settings_.rows == 0 ? x.rows : std::min(settings_.rows, x.rows);
        aligned_buffer<float> decoded;
        aligned_buffer<double> d;  // [k,step]
        AQ_TRY(decoded.reset(x.cols));
        AQ_TRY(d.reset(x.cols * step));
        double sum = 0.0;
        for (std::size_t first = 0; first < rows; first += step) {
            for (std::size_t i = 0; i < step; ++i) {
                if (first + i >= rows) {
                    for (std::size_t k = 0; k < x.cols; ++k) d[k * step + i] = 0.0;
                    continue;
                }
                const float* const row = x.row((first + i) * x.rows / rows);  // evenly out of the sample
                if (coded != nullptr) decode_as_coded(row, x.cols, exponents, coded->format, decoded.data());
                for (std::size_t k = 0; k < x.cols; ++k)
                    d[k * step + i] = static_cast<double>(row[k]) - static_cast<double>(decoded[k]);  // zeros where not coded
            }
            double forms[step];
            outputs_->forms(d.data(), forms);
            for (const double f : forms) sum += f;
        }
        result = sum;
        return status::ok;
    }

    const trip_calibrator* site_ = nullptr;
    const hessian* outputs_ = nullptr;
    activation_search_settings settings_;
    double energy_ = 0.0;
    std::size_t size_ = 0, finalist_count_ = 0;
    aligned_buffer<std::uint8_t> exponents_;           // [sets,k]
    aligned_buffer<double> diagonal_;                  // [k] of G
    aligned_buffer<activation_candidate> candidates_;  // [size]
    aligned_buffer<std::size_t> finalists_;
};

}  // namespace aq
