#include "models/load_error.hpp"

namespace aq::models {

std::string inside(std::string_view place, std::string_view field) {
    std::string text(place);
    return text.append(": ").append(field);
}

void fail(std::string_view place, std::string_view sentence) { throw load_error(inside(place, sentence)); }

std::string in_quotes(std::string_view text) {
    constexpr std::size_t longest = 80;
    std::string result = "'";
    for (const char c : text.substr(0, longest)) result += c >= ' ' && c <= '~' ? c : '?';
    return result += text.size() > longest ? "...'" : "'";
}

}  // namespace aq::models
