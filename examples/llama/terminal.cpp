#include "llama/terminal.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace aq::example {

progress::progress(std::string what)
    : what_(std::move(what)), visible_(isatty(STDERR_FILENO) == 1), begin_(clock::now()), shown_(begin_) {}

progress::~progress() {
    if (visible_) std::fputs("\r\033[K", stderr);
}

void progress::show(std::size_t done, std::size_t all, const std::string& note) {
    const auto now = clock::now();
    if (!visible_ || done == 0 || (done < all && now - shown_ < std::chrono::milliseconds(100))) return;
    shown_ = now;
    const double spent = std::chrono::duration<double>(now - begin_).count();
    const double left = spent / static_cast<double>(done) * static_cast<double>(all - done);
    std::fprintf(stderr, "\r\033[K%s  %zu %%, %.0f s left%s%s", what_.c_str(), done * 100 / all, left, note.empty() ? "" : ", ",
                 note.c_str());
    std::fflush(stderr);
}

void table::print() const {
    std::vector<std::size_t> widths(rows_.front().size(), 0);
    for (const auto& row : rows_) {
        for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
    }
    for (std::size_t r = 0; r < rows_.size(); ++r) {
        std::string line;
        for (std::size_t c = 0; c < rows_[r].size(); ++c) {
            const std::string pad(widths[c] - rows_[r][c].size(), ' ');
            line += (c == 0 ? rows_[r][c] + pad : "  " + pad + rows_[r][c]);
        }
        std::printf("%s\n", line.c_str());
        if (r == 0) std::printf("%s\n", std::string(line.size(), '-').c_str());
    }
}

std::string number(double value, int digits) {
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return text;
}

std::string change(double value, double base) {
    const double hundredths = std::round(1e4 * (value / base - 1)) + 0.0;  // no "-0.00"
    return (hundredths < 0 ? "" : "+") + number(hundredths / 100, 2) + " %";
}

std::string bytes_text(std::size_t bytes) {
    return bytes >= 1000000 ? number(static_cast<double>(bytes) / 1e6, 2) + " MB"
                            : number(static_cast<double>(bytes) / 1e3, 1) + " kB";
}

}  // namespace aq::example
