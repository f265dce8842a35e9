#include "calibrate/site_work.hpp"

#include <agilequant/elementwise/hadamard.hpp>
#include <algorithm>

#include "calibrate/cholesky.hpp"
#include "calibrate/parallel.hpp"
#include "calibrate/weight_error.hpp"

namespace aq::example {

namespace {

constexpr std::size_t measured_rows = 128;

}  // namespace

status site_work::run(quantized_weights& out) {
    const site where = weights_.where();
    channels_ = out.profile.channels(where);
    report_.layer = weights_.layer();
    report_.where = where;
    AQ_TRY(choose_coding());
    const site_coding& coding = report_.coding;
    k_layout layout;
    AQ_TRY(layout.make(channels_, recipe_.weights.group, coding.exponents.data()));
    columns_.resize(channels_);
    depth_order(layout.view(), columns_.data());
    if (recipe_.uses_gptq) {
        AQ_TRY(look_at_codes());
        AQ_TRY(plan_.make(sums_, recipe_.gptq, eigen_cholesky(), columns_.data()));
    }
    for (const weight_id id : weights_.ids()) AQ_TRY(round(id, out));
    out.profile.format(weights_.layer(), where) = coding.format;
    std::copy(coding.exponents.begin(), coding.exponents.end(), out.profile.exponents(weights_.layer(), where));
    progress_(1.0);
    return status::ok;
}

status site_work::choose_coding() {
    AQ_TRY(coder_.reset(recipe_, recipe_.format(weights_.layer(), weights_.where()), channels_));
    site_rows x;
    for (std::size_t w = 0; w < walks_.model.windows(); ++w) {
        AQ_TRY(walks_.model.look(w, weights_.where(), x));
        AQ_TRY(coder_.add(x));
        progress_(0.3 * static_cast<double>(w) / static_cast<double>(walks_.model.windows()));
    }
    report_.range = coder_.range();
    return coder_.choose(weights_, threads_, report_.coding);
}

bool site_work::refits() const noexcept { return recipe_.refits && (is_coded() || walks_.exact != nullptr); }

/// H of what the codes of the site's rows stand for, and what coding, and all layers before, have taken from them.
status site_work::look_at_codes() {
    AQ_TRY(sums_.reset(channels_));
    AQ_TRY(loss_.reset(refits() ? channels_ : 0));
    site_rows x;
    for (std::size_t w = 0; w < walks_.model.windows(); ++w) {
        AQ_TRY(walks_.model.look(w, weights_.where(), x));
        AQ_TRY(add_codes(x, w));
        progress_(0.3 + 0.5 * static_cast<double>(w) / static_cast<double>(walks_.model.windows()));
    }
    return status::ok;
}

status site_work::add_codes(site_rows& x, std::size_t window) {
    coded_ = x.values;
    const matrix_view<float> coded = view(coded_, channels_);
    AQ_TRY(rotate_and_code(coded));
    AQ_TRY(add_in_parallel(threads_, sums_, coded));
    if (!refits()) return status::ok;
    if (walks_.exact != nullptr) AQ_TRY(toward_exact(window, x));
    if (report_.coding.format.is_rotated) AQ_TRY(hadamard(x.view()));
    return add_in_parallel(threads_, loss_, x.view(), coded);
}

/// x -> between itself and what the float model has for the same tokens.
status site_work::toward_exact(std::size_t window, site_rows& x) {
    AQ_TRY(walks_.exact->look(window, weights_.where(), exact_));
    const float share = static_cast<float>(recipe_.follow);
    for (std::size_t r = 0; r < x.tokens.size(); ++r) {
        const float* const wanted = exact_.row(x.tokens[r]);  // which is not pruned
        for (std::size_t c = 0; c < channels_; ++c) x.row(r)[c] += rounded(share * (wanted[c] - x.row(r)[c]));
    }
    return status::ok;
}

status site_work::rotate_and_code(matrix_view<float> x) const {
    if (report_.coding.format.is_rotated) AQ_TRY(hadamard(x));
    return code(x);
}

/// Rows of the site, rotated where it is -> what their codes stand for.
status site_work::code(matrix_view<float> x) const {
    if (!is_coded()) return status::ok;
    const site_coding& c = report_.coding;
    return over(threads_, x.rows, [&](std::size_t r) {
        decode_as_coded(x.row(r), x.cols, c.exponents.data(), c.format.activations, x.row(r));
        return status::ok;
    });
}

status site_work::round(weight_id id, quantized_weights& out) {
    std::vector<float> original;
    AQ_TRY(weights_.read(id, report_.coding.format.is_rotated, original));
    std::vector<float> values = original;
    coded_matrix coded;
    AQ_TRY(coded.reset(recipe_.weights, values.size() / channels_, channels_));
    AQ_TRY(make_codes(view(values, channels_), coded));
    k_layout layout;
    AQ_TRY(layout.make(channels_, recipe_.weights.group, report_.coding.exponents.data()));
    packed_storage<> packed;
    AQ_TRY(packed.assign(coded, std::move(layout)));
    out.put(id, weights_.layer(), std::move(packed));
    return measure(id, view(original, channels_), coded);
}

/// w [n,k] -> codes; w is lost.
status site_work::make_codes(matrix_view<float> w, coded_matrix& out) const {
    if (!recipe_.uses_gptq) return quantize_weights(w, recipe_.weights, columns_.data(), out);
    return over_pieces(threads_, w.rows, [&](index_range rows) {
        status s = status::ok;
        if (refits()) s = refit_weights(loss_, plan_, w.rows_from(rows.begin, rows.size()));
        return s == status::ok ? quantize_gptq(w, plan_, rows.begin, rows.end, out) : s;
    });
}

status site_work::measure(weight_id id, matrix_view<const float> original, const coded_matrix& coded) {
    const matrix_view<const float> sample = coder_.sample(report_.coding.format.is_rotated);
    const matrix_view<const float> x = sample.rows_from(0, std::min(sample.rows, measured_rows));
    coded_.resize(x.rows * channels_);
    for (std::size_t r = 0; r < x.rows; ++r) std::copy(x.row(r), x.row(r) + channels_, view(coded_, channels_).row(r));
    AQ_TRY(code(view(coded_, channels_)));
    coded_matrix nearest;
    AQ_TRY(quantize_weights(original, recipe_.weights, columns_.data(), nearest));
    const weight_error error{x, view(coded_, channels_), original, coded, nearest, columns_};
    weight_report& report = report_.weights.emplace_back();
    report.id = id;
    return error.measure(threads_, report);
}

}  // namespace aq::example
