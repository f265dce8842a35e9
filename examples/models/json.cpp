#include "models/json.hpp"

#include <sstream>

namespace aq::models {
namespace {

/// The parser's callback. It also drops each member of the outermost object after its visit.
class guard {
public:
    guard(const std::string& file, const json_limits& limits, const member_visitor& visit)
        : file_(file), limits_(limits), visit_(visit) {}

    bool operator()(int depth, json::parse_event_t event, json& parsed) {
        using event_t = json::parse_event_t;
        const bool opens = event == event_t::object_start || event == event_t::array_start;
        const bool closes = event == event_t::object_end || event == event_t::array_end;
        if (depth == 0 && event != event_t::object_start && event != event_t::object_end)
            fail(file_, "the JSON is not an object");
        if (opens && depth >= limits_.depth)
            fail(file_, "the JSON is nested deeper than " + std::to_string(limits_.depth) + " levels");
        if (!closes && ++values_ > limits_.values)
            fail(file_, "the JSON of " + in_quotes(member_) + " has more than " + std::to_string(limits_.values) + " values");
        if (event == event_t::object_start) names_.emplace_back();
        if (event == event_t::key) take_name(depth, parsed.get_ref<const std::string&>());
        if (event == event_t::object_end) names_.pop_back();
        if (depth != 1 || !(closes || event == event_t::value)) return true;
        visit_(member_, parsed);
        values_ = 0;
        return false;
    }

private:
    void take_name(int depth, const std::string& name) {
        if (name.size() > limits_.name_bytes)
            fail(file_, "the name " + in_quotes(name) + " is longer than " + std::to_string(limits_.name_bytes) + " bytes");
        if (!names_.back().insert(name).second) fail(file_, "the name " + in_quotes(name) + " occurs twice");
        if (depth == 1) member_ = name;
    }

    const std::string& file_;
    const json_limits& limits_;
    const member_visitor& visit_;
    std::vector<std::set<std::string>> names_;  // of the objects that are open
    std::string member_;
    std::size_t values_ = 0;
};

std::string expected(const std::string& what, const json& found) {
    return "is " + found.dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 40) + " but must be " + what;
}

}  // namespace

void for_each_member(const named_bytes& file, const json_limits& limits, const member_visitor& visit) {
    guard callback(file.name, limits, visit);
    try {
        [[maybe_unused]] const json rest = json::parse(file.bytes.begin(), file.bytes.end(), std::ref(callback));
    } catch (const json::parse_error& error) {
        fail(file.name, "the JSON is broken at its byte " + std::to_string(error.byte));
    } catch (const json::exception&) {
        fail(file.name, "the JSON has a number that is too large");
    }
}

std::optional<std::uint64_t> unsigned_below(const json& value, std::uint64_t limit) {
    if (!value.is_number_unsigned()) return std::nullopt;
    const auto number = value.get<std::uint64_t>();
    return number < limit ? std::optional(number) : std::nullopt;
}

json_fields::json_fields(named_bytes file) : file_(std::move(file.name)), object_(json::object()) {
    constexpr std::size_t largest = 1 << 20;
    if (file.bytes.size() > largest)
        fail(file_, "holds " + std::to_string(file.bytes.size()) + " bytes, more than the limit of " + std::to_string(largest));
    for_each_member({file_, file.bytes}, {}, [this](const std::string& name, const json& value) { object_[name] = value; });
}

const json* json_fields::find(const char* name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::size_t json_fields::count(const char* name, std::uint64_t limit, std::optional<std::size_t> fallback) const {
    const json* value = find(name);
    if (value == nullptr) {
        if (fallback) return *fallback;
        fail(inside(file_, name), "is missing");
    }
    const auto number = unsigned_below(*value, limit + 1);
    if (!number || *number == 0) fail(inside(file_, name), expected("an integer from 1 to " + std::to_string(limit), *value));
    return static_cast<std::size_t>(*number);
}

float json_fields::number(const char* name, double low, double high, std::optional<float> fallback) const {
    const json* value = find(name);
    if (value == nullptr) {
        if (fallback) return *fallback;
        fail(inside(file_, name), "is missing");
    }
    if (!value->is_number()) fail(inside(file_, name), expected("a number", *value));
    const auto number = value->get<double>();
    if (!(number > low && number <= high)) {
        std::ostringstream range;
        range << "above " << low << " and at most " << high;
        fail(inside(file_, name), expected(range.str(), *value));
    }
    return static_cast<float>(number);
}

std::optional<bool> json_fields::flag(const char* name) const {
    const json* value = find(name);
    if (value == nullptr) return std::nullopt;
    if (!value->is_boolean()) fail(inside(file_, name), expected("true or false", *value));
    return value->get<bool>();
}

std::string json_fields::text(const char* name, const std::string& fallback) const {
    const json* value = find(name);
    if (value == nullptr) return fallback;
    if (!value->is_string()) fail(inside(file_, name), expected("a string", *value));
    return value->get<std::string>();
}

}  // namespace aq::models
