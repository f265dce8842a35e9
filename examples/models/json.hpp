/// \file
/// JSON from files that nobody vouches for. nlohmann-json parses; this adds what it leaves to its user: limits on depth and
/// count, refusal of names that occur twice (it would silently keep the last), and load_error instead of its own exceptions.
/// Internal to the loaders: no header for users includes it.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "models/bytes.hpp"

namespace aq::models {

using json = nlohmann::json;

struct json_limits {
    int depth = 16;               ///< arrays and objects inside one another
    std::size_t values = 100000;  ///< names, numbers, strings, arrays and objects between two calls of the visitor
    std::size_t name_bytes = 1024;
};

/// Gets every member of the outermost object once it is complete. The member is dropped afterwards, so that memory stays
/// that of one.
using member_visitor = std::function<void(const std::string& name, const json& value)>;

/// Reads an object, member by member. Throws load_error on anything that is not JSON, not an object, beyond the limits, or
/// names a member twice, at any depth.
void for_each_member(const named_bytes& file, const json_limits& limits, const member_visitor& visit);

/// The members of a small object, held against what a loader expects of them. A member that is null counts as absent.
class json_fields {
public:
    explicit json_fields(named_bytes file);

    [[nodiscard]] const std::string& file() const noexcept { return file_; }
    /// Null where absent.
    [[nodiscard]] const json* find(const char* name) const;
    /// An integer from 1 to `limit`; required unless there is a fallback.
    [[nodiscard]] std::size_t count(const char* name, std::uint64_t limit, std::optional<std::size_t> fallback = {}) const;
    /// A float above `low` and at most `high`; required unless there is a fallback.
    [[nodiscard]] float number(const char* name, double low, double high, std::optional<float> fallback = {}) const;
    [[nodiscard]] std::optional<bool> flag(const char* name) const;
    [[nodiscard]] std::string text(const char* name, const std::string& fallback) const;

private:
    std::string file_;
    json object_;
};

/// A number in [0, limit) that stands in JSON as a non-negative integer: 1.0 and -0 are none.
[[nodiscard]] std::optional<std::uint64_t> unsigned_below(const json& value, std::uint64_t limit);

}  // namespace aq::models
