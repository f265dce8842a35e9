#include "calibrate/report_text.hpp"

#include <iomanip>
#include <limits>
#include <sstream>

namespace aq::example {

namespace {

bool read(std::istringstream& in, weight_report& w) {
    std::size_t id = 0;
    if (!(in >> id >> w.energy >> w.by_codes >> w.by_both >> w.by_nearest) || id >= weight_count) return false;
    w.id = static_cast<weight_id>(id);
    return true;
}

/// layer site K choice low high count, and of each matrix: id energy by_codes by_both by_nearest.
bool read(const std::string& line, const activation_profile& profile, std::size_t layers, site_report& r) {
    std::istringstream in(line);
    std::size_t where = 0, choice = 0, count = 0;
    if (!(in >> r.layer >> where >> r.coding.top_exponent >> choice >> r.range.low >> r.range.high >> count)) return false;
    if (r.layer >= layers || where >= site_count || choice > 3 || count > weight_count) return false;
    r.where = static_cast<site>(where);
    r.coding.choice = static_cast<exponent_choice>(choice);
    r.coding.format = profile.format(r.layer, r.where);
    const std::uint8_t* const exponents = profile.exponents(r.layer, r.where);
    r.coding.exponents.assign(exponents, exponents + profile.channels(r.where));
    r.weights.resize(count);
    for (weight_report& w : r.weights)
        if (!read(in, w)) return false;
    return true;
}

}  // namespace

std::string text_of(const std::vector<site_report>& sites, std::size_t layer) {
    std::ostringstream out;
    out << std::setprecision(std::numeric_limits<double>::max_digits10);
    for (const site_report& r : sites) {
        if (r.layer != layer) continue;
        out << r.layer << ' ' << static_cast<int>(r.where) << ' ' << r.coding.top_exponent << ' '
            << static_cast<int>(r.coding.choice) << ' ' << r.range.low << ' ' << r.range.high << ' ' << r.weights.size();
        for (const weight_report& w : r.weights)
            out << ' ' << static_cast<int>(w.id) << ' ' << w.energy << ' ' << w.by_codes << ' ' << w.by_both << ' '
                << w.by_nearest;
        out << '\n';
    }
    return out.str();
}

bool add_reports(const std::string& text, const activation_profile& profile, std::vector<site_report>& sites) {
    std::vector<site_report> found;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);)
        if (!read(line, profile, profile.layers(), found.emplace_back())) return false;
    if (found.empty()) return false;
    sites.insert(sites.end(), found.begin(), found.end());
    return true;
}

}  // namespace aq::example
