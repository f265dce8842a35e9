#include "calibrate/weight_error.hpp"

#include "calibrate/parallel.hpp"

namespace aq::example {

status weight_error::measure(const executor& threads, weight_report& out) const {
    std::vector<weight_report> rows(original.rows);
    AQ_TRY(over(threads, original.rows, [&](std::size_t r) {
        add_row(r, rows[r]);
        return status::ok;
    }));
    for (const weight_report& r : rows) {
        out.energy += r.energy;
        out.by_codes += r.by_codes;
        out.by_both += r.by_both;
        out.by_nearest += r.by_nearest;
    }
    return status::ok;
}

void weight_error::add_row(std::size_t r, weight_report& sum) const {
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

}  // namespace aq::example
