#include "calibrate/calibrator.hpp"

#include <agilequant/elementwise/hadamard.hpp>
#include <agilequant/quant/refit.hpp>
#include <algorithm>

#include "calibrate/cholesky.hpp"

namespace aq::example {

namespace {

/// Calls back with the rows of one site.
struct site_watcher {
    site where;
    std::function<status(matrix_view<const float>)> see_rows;
    status first_failure = status::ok;

    [[nodiscard]] site_observer observer() { return {this, see}; }
    static void see(void* self, std::size_t, site where, matrix_view<const float> x) {
        auto& w = *static_cast<site_watcher*>(self);
        if (where == w.where && w.first_failure == status::ok) w.first_failure = w.see_rows(x);
    }
};

constexpr std::size_t sample_rows = 512, measured_rows = 128;

matrix_view<float> view(std::vector<float>& values, std::size_t cols) { return {values.data(), values.size() / cols, cols}; }

void copy_rows(matrix_view<const float> x, std::vector<float>& out) {
    out.resize(x.rows * x.cols);
    for (std::size_t r = 0; r < x.rows; ++r)
        std::copy(x.row(r), x.row(r) + x.cols, out.begin() + static_cast<std::ptrdiff_t>(r * x.cols));
}

/// The outputs of one matrix, row by row of it, in double.
struct matrix_error {
    matrix_view<const float> x, coded_x, original;
    const coded_matrix &coded, &nearest;
    const std::vector<std::uint32_t>& columns;

    void add_row(std::size_t r, weight_report& sum) const {
        for (std::size_t t = 0; t < x.rows; ++t) {
            double exact = 0.0, by_codes = 0.0, by_both = 0.0, by_nearest = 0.0;
            for (std::size_t i = 0; i < columns.size(); ++i) {
                const double w = static_cast<double>(original.row(r)[columns[i]]);
                const double a = static_cast<double>(coded_x.row(t)[columns[i]]);
                exact += w * static_cast<double>(x.row(t)[columns[i]]);
                by_codes += w * a;
                by_both += static_cast<double>(coded.value(r, i)) * a;
                by_nearest += static_cast<double>(nearest.value(r, i)) * a;
            }
            const auto square = [](double v) { return v * v; };
            sum.energy += square(exact);
            sum.by_codes += square(by_codes - exact);
            sum.by_both += square(by_both - exact);
            sum.by_nearest += square(by_nearest - exact);
        }
    }
};

/// work(i) for all i; the first failure comes back.
template <class Work>
status over(const executor& threads, std::size_t count, Work&& work) {
    task_status result;
    threads.for_each(count, [&](std::size_t i, std::size_t) { result.note(work(i)); });
    return result.get();
}

}  // namespace

/// One site on its way.
struct calibrator::site_work {
    quantized_weights& out;
    std::size_t layer;
    const linears_of_site& linears;
    site_report report;
    std::size_t channels = 0;
    trip_calibrator plain, rotated;       // what enters the site
    std::vector<std::uint8_t> exponents;  // [channels]
    hessian sums;                         // of what its codes stand for
    coding_loss loss;
    gptq_plan plan;
    std::vector<std::uint32_t> columns;

    [[nodiscard]] site_format& format() { return report.format; }
    [[nodiscard]] const trip_calibrator& seen() const { return report.format.is_rotated ? rotated : plain; }
};

calibrator::calibrator(const models::loaded_model& model, const recipe& wanted, const walk_options& run)
    : model_(model), recipe_(wanted), options_(run) {
    options_.formats.float_weights = true;  // of those that are not packed yet
    walk_ = make_walk(model.family, model.config, model.source, options_);
}

layer_state calibrator::state(quantized_weights& out, std::size_t layer) const {
    layer_state s{out.source(), {}};
    for (std::size_t i = 0; i < site_count; ++i) s.sites[i] = out.profile.format(layer, static_cast<site>(i));
    return s;
}

status calibrator::read(weight_id id, std::size_t layer, std::vector<float>& values) const {
    const matrix_shape shape = shape_of(model_.config, id);
    values.resize(shape.rows * shape.cols);
    return model_.source.read(model_.source.self, id, layer, view(values, shape.cols));
}

status calibrator::run(const token_windows& windows, quantized_weights& out, const observer& told) {
    if (options_.kernels == nullptr) return status::bad_argument;
    AQ_TRY(walk_->begin(windows));
    const auto& sites = linears_of(model_.family);
    for (std::size_t layer = 0; layer < model_.config.layers; ++layer) {
        for (std::size_t i = 0; layer >= out.layers_done && i < sites.size(); ++i) {
            site_work work{out, layer, sites[i], {}, {}, {}, {}, {}, {}, {}, {}, {}};
            AQ_TRY(calibrate(work));
            if (told) told(work.report, layer * sites.size() + i + 1, model_.config.layers * sites.size());
        }
        out.layers_done = std::max(out.layers_done, layer + 1);
        AQ_TRY(walk_->advance(state(out, layer)));
    }
    return status::ok;
}

status calibrator::calibrate(site_work& work) {
    const site where = work.linears.where;
    work.report.layer = work.layer;
    work.report.where = where;
    work.format() = recipe_.sites[static_cast<std::size_t>(where)];
    work.channels = work.out.profile.channels(where);
    AQ_TRY(look_at_range(work));
    AQ_TRY(choose_format(work));
    AQ_TRY(look_at_codes(work));
    AQ_TRY(round_weights(work));
    work.out.profile.format(work.layer, where) = work.format();
    std::copy(work.exponents.begin(), work.exponents.end(), work.out.profile.exponents(work.layer, where));
    return status::ok;
}

/// Extremes, statistics and a sample of what enters the site; rotated too, where a rotation may be chosen.
status calibrator::look_at_range(site_work& work) {
    const bool rotates = work.format().is_rotated || recipe_.tries_rotation;
    AQ_TRY(work.plain.reset(work.channels, sample_rows));
    AQ_TRY(work.rotated.reset(work.channels, sample_rows));
    std::vector<float> copy;
    site_watcher watcher{work.report.where, [&](matrix_view<const float> x) {
                             AQ_TRY(work.plain.add(x));
                             if (!rotates) return status::ok;
                             copy_rows(x, copy);
                             AQ_TRY(hadamard(view(copy, x.cols)));
                             return work.rotated.add(view(copy, x.cols));
                         }};
    AQ_TRY(walk_->look(state(work.out, work.layer), watcher.observer()));
    work.report.range = work.plain.range();
    return watcher.first_failure;
}

status calibrator::choose_format(site_work& work) {
    work.exponents.assign(work.channels, 0);
    if (work.format().is_float) return status::ok;
    double error = 0.0;
    AQ_TRY(search(work, work.format().is_rotated, error));
    if (!recipe_.tries_rotation || work.format().is_rotated) return status::ok;
    const site_report plain = work.report;
    const std::vector<std::uint8_t> exponents = work.exponents;
    double rotated_error = 0.0;
    work.format().is_rotated = true;
    AQ_TRY(search(work, true, rotated_error));
    if (rotated_error < error) return status::ok;
    work.report = plain;
    work.exponents = exponents;
    return status::ok;
}

/// The best way to code the site's rows, rotated or not, into the report and the exponents.
status calibrator::search(site_work& work, bool is_rotated, double& error) {
    hessian outputs;
    AQ_TRY(outputs.reset(work.channels));
    std::vector<float> values;
    for (const weight_id id : work.linears.ids) {
        AQ_TRY(read(id, work.layer, values));
        if (is_rotated) AQ_TRY(hadamard(view(values, work.channels)));
        AQ_TRY(outputs.add(view(values, work.channels)));
    }
    const trip_calibrator& seen = is_rotated ? work.rotated : work.plain;
    activation_search_settings settings;
    const activation_format& wanted = work.format().activations;
    settings.bits = wanted.bits;
    settings.is_asymmetric = wanted.is_asymmetric;
    settings.is_static = wanted.is_static;
    settings.top_exponent = recipe_.exponents == exponent_search::output ? recipe_.top_exponent : 0;
    settings.clip_count = recipe_.exponents == exponent_search::output ? settings.clip_count : 1;
    activation_search all;
    AQ_TRY(all.reset(seen, outputs, settings));
    AQ_TRY(over(options_.threads, all.size(), [&](std::size_t i) { return all.rank(i); }));
    all.select();
    AQ_TRY(over(options_.threads, all.finalists(), [&](std::size_t i) { return all.measure(all.finalist(i)); }));
    searched_activations found;
    AQ_TRY(all.take(work.exponents.data(), found));
    work.format().activations = found.best.format;
    work.report.top_exponent = found.best.top_exponent;
    work.report.choice = found.best.choice;
    error = found.best.error;
    if (recipe_.exponents != exponent_search::paper) return status::ok;
    const trip_format paper{wanted.bits, wanted.is_asymmetric, recipe_.top_exponent, exponent_choice::mean_square};
    work.report.top_exponent = recipe_.top_exponent;
    work.report.choice = paper.choice;
    return seen.fit(paper, work.exponents.data(), work.format().activations.fixed);
}

/// H of what the codes of the site's rows stand for, and what coding has taken from them.
status calibrator::look_at_codes(site_work& work) {
    if (!recipe_.uses_gptq) return status::ok;
    AQ_TRY(work.sums.reset(work.channels));
    AQ_TRY(work.loss.reset(work.channels));
    std::vector<float> rows, coded;
    site_watcher watcher{work.report.where, [&](matrix_view<const float> x) {
                             copy_rows(x, rows);
                             if (work.format().is_rotated) AQ_TRY(hadamard(view(rows, x.cols)));
                             coded = rows;
                             if (!work.format().is_float) code_rows(work, view(coded, x.cols));
                             AQ_TRY(add(work.sums, view(coded, x.cols)));
                             return recipe_.refits && !work.format().is_float
                                        ? work.loss.add(view(rows, x.cols), view(coded, x.cols))
                                        : status::ok;
                         }};
    AQ_TRY(walk_->look(state(work.out, work.layer), watcher.observer()));
    return watcher.first_failure;
}

/// Rows of the site -> what their codes stand for.
void calibrator::code_rows(const site_work& work, matrix_view<float> x) const {
    static_cast<void>(over(options_.threads, x.rows, [&](std::size_t r) {
        decode_as_coded(x.row(r), x.cols, work.exponents.data(), work.report.format.activations, x.row(r));
        return status::ok;
    }));
}

/// hessian::add, in ranges of channels that are nearly equal work.
status calibrator::add(hessian& sums, matrix_view<const float> x) const {
    const std::size_t pieces = piece_count(options_.threads, x.cols);
    return over(options_.threads, pieces, [&](std::size_t i) {
        const index_range range = piece(x.cols, pieces, i);
        return sums.add(x, range.begin, range.end);
    });
}

status calibrator::round_weights(site_work& work) {
    k_layout layout;
    AQ_TRY(layout.make(work.channels, recipe_.weights.group, work.exponents.data()));
    work.columns.resize(work.channels);
    depth_order(layout.view(), work.columns.data());
    if (recipe_.uses_gptq) AQ_TRY(work.plan.make(work.sums, recipe_.gptq, eigen_cholesky(), work.columns.data()));
    for (const weight_id id : work.linears.ids) AQ_TRY(round(work, id));
    return status::ok;
}

status calibrator::round(site_work& work, weight_id id) {
    std::vector<float> values;
    AQ_TRY(read(id, work.layer, values));
    const matrix_view<float> w = view(values, work.channels);
    if (work.format().is_rotated) AQ_TRY(hadamard(w));
    const bool refits = recipe_.refits && !work.format().is_float;
    const std::vector<float> original = values;
    coded_matrix coded;
    AQ_TRY(coded.reset(recipe_.weights, w.rows, w.cols));
    if (!recipe_.uses_gptq) {
        AQ_TRY(quantize_weights(w, recipe_.weights, work.columns.data(), coded));
    } else {
        const std::size_t pieces = piece_count(options_.threads, w.rows);
        AQ_TRY(over(options_.threads, pieces, [&](std::size_t i) {
            const index_range rows = piece(w.rows, pieces, i);
            const status refitted =
                refits ? refit_weights(work.loss, work.plan, w.rows_from(rows.begin, rows.size())) : status::ok;
            return refitted != status::ok ? refitted : quantize_gptq(w, work.plan, rows.begin, rows.end, coded);
        }));
    }
    k_layout layout;
    AQ_TRY(layout.make(work.channels, recipe_.weights.group, work.exponents.data()));
    packed_storage<> packed;
    AQ_TRY(packed.assign(coded, std::move(layout)));
    work.out.put(id, work.layer, std::move(packed));
    return measure(work, id, {original.data(), w.rows, w.cols}, coded);
}

/// What the report says of one matrix, `original` being rotated where the site is.
status calibrator::measure(site_work& work, weight_id id, matrix_view<const float> original, const coded_matrix& coded) const {
    const matrix_view<const float> sample = work.seen().sample();
    const matrix_view<const float> x = sample.rows_from(0, std::min(sample.rows, measured_rows));
    std::vector<float> rows;
    copy_rows(x, rows);
    if (!work.report.format.is_float) code_rows(work, view(rows, x.cols));
    coded_matrix nearest;
    AQ_TRY(quantize_weights(original, recipe_.weights, work.columns.data(), nearest));
    const std::size_t pieces = piece_count(options_.threads, original.rows);
    std::vector<weight_report> parts(pieces);
    AQ_TRY(over(options_.threads, pieces, [&](std::size_t i) {
        const matrix_error error{x, view(rows, x.cols), original, coded, nearest, work.columns};
        const index_range range = piece(original.rows, pieces, i);
        for (std::size_t r = range.begin; r < range.end; ++r) error.add_row(r, parts[i]);
        return status::ok;
    }));
    weight_report& sum = work.report.weights.emplace_back();
    sum.id = id;
    for (const weight_report& p : parts) {
        sum.energy += p.energy;
        sum.by_codes += p.by_codes;
        sum.by_both += p.by_both;
        sum.by_nearest += p.by_nearest;
    }
    return status::ok;
}

}  // namespace aq::example
