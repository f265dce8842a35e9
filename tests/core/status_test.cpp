#include "agilequant/core/status.hpp"

#include <doctest/doctest.h>

#include <set>
#include <string>

namespace {

aq::status passes_on(aq::status s, bool& reached_end) {
    AQ_TRY(s);
    reached_end = true;
    return aq::status::ok;
}

}  // namespace

TEST_CASE("every status has a sentence of its own") {
    std::set<std::string> seen;
    int count = 0;
    const std::string unknown = aq::message(static_cast<aq::status>(1000));
    for (; aq::message(static_cast<aq::status>(count)) != unknown; ++count) {
        const std::string text = aq::message(static_cast<aq::status>(count));
        CAPTURE(text);
        CHECK(!text.empty());
        CHECK(text.back() != '.');
        CHECK(seen.insert(text).second);
    }
    CHECK(count > static_cast<int>(aq::status::no_such_entry));  // the walk above went through all of them
}

TEST_CASE("AQ_TRY leaves with what is not ok") {
    bool reached_end = false;
    CHECK(passes_on(aq::status::bad_shape, reached_end) == aq::status::bad_shape);
    CHECK(!reached_end);
    CHECK(passes_on(aq::status::ok, reached_end) == aq::status::ok);
    CHECK(reached_end);
}
