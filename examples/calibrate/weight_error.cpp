#include "calibrate/weight_error.hpp"

#include "calibrate/parallel.hpp"

namespace aq::example {

status weight_error::measure(const executor& threads, weight_report& out) const {
    std::vector<weight_report> rows(original.rows);
    AQ_TRY(over(threads, original.rows, [&](std::size_t r) { return add_row(r, rows[r]); }));
    for (const weight_report& r : rows) {
        out.energy += r.energy;
        out.by_codes += r.by_codes;
        out.by_both += r.by_both;
        out.by_nearest += r.by_nearest;
    }
    return status::ok;
}

status weight_error::add_row(std::size_t r, weight_report& sum) const {
    aligned_buffer<float> rounded_row, nearest_row;  // by channel
    AQ_TRY(rounded_row.reset(columns.size()));
    AQ_TRY(nearest_row.reset(columns.size()));
    for (std::size_t i = 0; i < columns.size(); ++i) {
        rounded_row[columns[i]] = coded.value(r, i);
        nearest_row[columns[i]] = nearest.value(r, i);
    }
    const float* const w = original.row(r);
    for (std::size_t t = 0; t < x.rows; ++t) {
        const float *const wanted = x.row(t), *const seen = coded_x.row(t);
        double exact = 0.0, by_codes = 0.0, by_both = 0.0, by_nearest = 0.0;
        for (std::size_t c = 0; c < columns.size(); ++c) {
            const double a = static_cast<double>(seen[c]);
            exact += static_cast<double>(w[c]) * static_cast<double>(wanted[c]);
            by_codes += static_cast<double>(w[c]) * a;
            by_both += static_cast<double>(rounded_row[c]) * a;
            by_nearest += static_cast<double>(nearest_row[c]) * a;
        }
        const auto square = [](double v) { return v * v; };
        sum.energy += square(exact);
        sum.by_codes += square(by_codes - exact);
        sum.by_both += square(by_both - exact);
        sum.by_nearest += square(by_nearest - exact);
    }
    return status::ok;
}

}  // namespace aq::example
