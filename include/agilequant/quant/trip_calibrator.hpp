/// \file
/// Finds TRIP's exponents of one site from a stream of activations, in bounded memory: extremes and sums over every row, and
/// a sample of rows for what needs the values themselves. Show it the tokens that survive pruning, and no others: pruning takes
/// outliers away, the range shrinks, and that is the "improved by pruning" in the name. Quantizes nothing: quant/trip.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/core/matrix_view.hpp"
#include "agilequant/quant/trip.hpp"

namespace aq {

/// What the exponent of a channel is chosen by.
enum class exponent_choice {
    mean_square,       ///< the least squared error with the tensor's scale, in the sampled rows: the paper's
    maximum,           ///< the largest |x|; this and what follows: round(log2(b_c / (max b / 2^K))) [ours]
    percentile_99,     ///< the 99th percentile of |x|, in the sampled rows
    root_mean_square,  ///< sqrt(mean x^2)
};

/// What the scale and zero point of the static form are made for.
enum class static_range {
    extremes,          ///< the smallest and the largest value of every row, divided by 2^K: the paper's
    percentile_99_99,  ///< this and what follows: of the sampled values, each divided by 2^exponent of its channel [ours]
    percentile_99_9,
    mean_square,  ///< the clip with the least squared error (least_error_range)
};

struct trip_format {
    int bits = 4;  ///< 2..8
    bool is_asymmetric = true;
    int top_exponent = 3;  ///< K, 0..6; 0 is the uniform quantizer
    exponent_choice choice = exponent_choice::mean_square;
};

class trip_calibrator {
public:
    static constexpr std::size_t default_sample_rows = 512;

    /// Forgets everything and prepares for rows of `channels`, of which up to `sample_rows` are kept. Memory: the sample,
    /// sample_rows * channels floats, and 16 bytes a channel. bad_argument: no sample; out_of_memory.
    [[nodiscard]] status reset(std::size_t channels, std::size_t sample_rows = default_sample_rows) noexcept {
        if (sample_rows == 0) return status::bad_argument;
        channels_ = rows_ = capacity_ = 0;
        range_ = {};
        AQ_TRY(maxima_.reset(channels));
        AQ_TRY(squares_.reset(channels));
        if (channels != 0 && sample_rows > static_cast<std::size_t>(-1) / channels) return status::out_of_memory;
        AQ_TRY(sample_.reset(sample_rows * channels));
        channels_ = channels;
        capacity_ = sample_rows;
        return status::ok;
    }

    /// Takes in x [tokens,channels]. The result does not depend on how rows are cut into calls. NaN counts as 0, magnitudes
    /// above 2^126 as 2^126. bad_shape, bad_stride, null_pointer; bad_argument before a reset.
    [[nodiscard]] status add(matrix_view<const float> x) noexcept {
        AQ_TRY(check(x));
        if (capacity_ == 0) return status::bad_argument;
        if (x.cols != channels_) return status::bad_shape;
        for (std::size_t r = 0; r < x.rows; ++r) add_row(x.row(r));
        return status::ok;
    }

    /// The exponents [channels] for this format, and scale and zero point for those who want them static (activation_format's
    /// `fixed`); quantizing with a scale for each token needs only the exponents. Without any row: exponents 0, scale 1.
    /// bad_argument: bits or K outside their limits, or no reset; null_pointer, out_of_memory.
    [[nodiscard]] status fit(const trip_format& format, std::uint8_t* exponents, affine& fixed) const noexcept {
        AQ_TRY(check_format(format));
        const int top = format.top_exponent;
        if (exponents == nullptr && channels_ != 0) return status::null_pointer;
        const code_range codes = activation_codes(format.bits, format.is_asymmetric);
        const affine a = fit_trip(range_, codes, format.is_asymmetric, top);
        if (format.choice == exponent_choice::mean_square) {
            for (std::size_t c = 0; c < channels_; ++c) {
                const int e = sampled() == 0 ? 0 : least_error_exponent(sample_.data() + c, sampled(), channels_, a, codes, top);
                exponents[c] = static_cast<std::uint8_t>(e);
            }
        } else {
            aligned_buffer<double> b;
            AQ_TRY(b.reset(channels_));
            AQ_TRY(statistic(format.choice, b.data()));
            const double largest = channels_ == 0 ? 0.0 : *std::max_element(b.begin(), b.end());
            for (std::size_t c = 0; c < channels_; ++c)
                exponents[c] = static_cast<std::uint8_t>(statistic_exponent(b[c], largest, top));
        }
        fixed = a;
        return status::ok;
    }

    /// Scale and zero point of the static form for exponents [channels] that fit() gave for this format. bad_argument: as there, or an
    /// exponent above K; null_pointer, out_of_memory: the other ranges take twice the memory of the sample meanwhile.
    [[nodiscard]] status fit_static(const trip_format& format, const std::uint8_t* exponents, static_range range,
                                    affine& fixed) const noexcept {
        AQ_TRY(check_format(format));
        if (exponents == nullptr && channels_ != 0) return status::null_pointer;
        const bool has_large = std::any_of(exponents, exponents + channels_, [&](int e) { return e > format.top_exponent; });
        if (has_large) return status::bad_argument;
        const code_range codes = activation_codes(format.bits, format.is_asymmetric);
        if (range == static_range::extremes) {
            fixed = fit_trip(range_, codes, format.is_asymmetric, format.top_exponent);
            return status::ok;
        }
        const std::size_t count = sampled() * channels_;
        aligned_buffer<float> values, scratch;
        AQ_TRY(values.reset(count));
        for (std::size_t i = 0; i < count; ++i)
            values[i] = sample_[i] * power_of_two(-static_cast<int>(exponents[i % channels_]));
        value_range found;
        if (range == static_range::mean_square) {
            found = least_error_range(values.data(), count, codes, format.is_asymmetric);
        } else {
            AQ_TRY(scratch.reset(count));
            found = percentile_range(values.data(), count, range == static_range::percentile_99_9 ? 99.9 : 99.99, scratch.data());
        }
        fixed = aq::fit(found, codes, format.is_asymmetric);
        return status::ok;
    }

    [[nodiscard]] std::size_t channels() const noexcept { return channels_; }
    [[nodiscard]] std::size_t rows() const noexcept { return rows_; }    ///< that were added
    [[nodiscard]] value_range range() const noexcept { return range_; }  ///< of all of them
    /// The rows that were kept [sampled rows,channels], in no particular order.
    [[nodiscard]] matrix_view<const float> sample() const noexcept { return {sample_.data(), sampled(), channels_}; }

private:
    [[nodiscard]] status check_format(const trip_format& f) const noexcept {
        const bool is_valid = f.bits >= 2 && f.bits <= 8 && f.top_exponent >= 0 && f.top_exponent <= max_trip_exponent;
        return is_valid && capacity_ != 0 ? status::ok : status::bad_argument;
    }

    void add_row(const float* x) noexcept {
        const std::size_t slot = slot_of(rows_++);
        float* const kept = slot < capacity_ ? sample_.data() + slot * channels_ : nullptr;
        for (std::size_t c = 0; c < channels_; ++c) {
            const float v = made_finite(x[c]);
            range_ = including(range_, v);
            maxima_[c] = std::max(maxima_[c], std::fabs(v));
            squares_[c] += static_cast<double>(v) * static_cast<double>(v);
            if (kept != nullptr) kept[c] = v;
        }
    }

    /// Where row `index` goes: a reservoir (Vitter's algorithm R), so that every row has the same chance to be in the sample,
    /// with a hash of the index for chance (SplitMix64's finish), so that a calibration can be repeated. Beyond the capacity: nowhere.
    [[nodiscard]] std::size_t slot_of(std::size_t index) const noexcept {
        if (index < capacity_) return index;
        std::uint64_t h = (static_cast<std::uint64_t>(index) + 1) * 0x9E3779B97F4A7C15U;
        h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9U;
        h = (h ^ (h >> 27)) * 0x94D049BB133111EBU;
        return static_cast<std::size_t>((h ^ (h >> 31)) % (static_cast<std::uint64_t>(index) + 1));
    }

    [[nodiscard]] std::size_t sampled() const noexcept { return std::min(rows_, capacity_); }

    /// b [channels] of the formula.
    [[nodiscard]] status statistic(exponent_choice choice, double* b) const noexcept {
        aligned_buffer<float> column, scratch;
        AQ_TRY(column.reset(sampled()));
        AQ_TRY(scratch.reset(sampled()));
        for (std::size_t c = 0; c < channels_; ++c) {
            if (choice == exponent_choice::maximum) {
                b[c] = static_cast<double>(maxima_[c]);
            } else if (choice == exponent_choice::root_mean_square) {
                b[c] = rows_ == 0 ? 0.0 : std::sqrt(squares_[c] / static_cast<double>(rows_));
            } else {
                for (std::size_t r = 0; r < sampled(); ++r) column[r] = std::fabs(sample_[r * channels_ + c]);
                b[c] = static_cast<double>(percentile_range(column.data(), sampled(), 99.0, scratch.data()).high);
            }
        }
        return status::ok;
    }

    std::size_t channels_ = 0, rows_ = 0, capacity_ = 0;
    value_range range_;
    aligned_buffer<float> maxima_;    // [channels]
    aligned_buffer<double> squares_;  // [channels]
    aligned_buffer<float> sample_;    // [capacity,channels]
};

}  // namespace aq
