#include "agilequant/pack/file_check.hpp"

#include <doctest/doctest.h>

#include <utility>
#include <vector>

#include "support/random.hpp"
#include "support/status_text.hpp"

using aq::status;
using namespace aq_test;

namespace {

/// A layout whose tables may be changed.
struct open_layout {
    std::vector<std::uint32_t> order;
    std::vector<aq::k_run> runs;
    aq::k_layout_view numbers;

    explicit open_layout(const aq::k_layout_view& l) : runs(l.runs, l.runs + l.run_count), numbers(l) {
        if (l.order != nullptr) order.assign(l.order, l.order + l.packed);
    }
    aq::k_layout_view view() const {
        aq::k_layout_view v = numbers;
        v.order = order.empty() ? nullptr : order.data();
        v.runs = runs.data();
        v.run_count = runs.size();
        return v;
    }
};

aq::k_layout random_layout(random_source& random) {
    const std::size_t k = 1 + random.below(60), group = random.below(40);
    const std::size_t highest = random.below(9);
    std::vector<std::uint8_t> exponents(k);
    for (std::uint8_t& e : exponents) e = static_cast<std::uint8_t>(highest == 0 ? 0 : random.below(highest));
    aq::k_layout layout;
    REQUIRE(layout.make(k, group, exponents.data()) == status::ok);
    return layout;
}

bool is_same(const aq::k_layout_view& a, const aq::k_layout_view& b) {
    bool same = a.k == b.k && a.packed == b.packed && a.group == b.group && a.groups == b.groups && a.run_count == b.run_count &&
                a.depth == b.depth && a.total_depth == b.total_depth && a.id == b.id &&
                (a.order == nullptr) == (b.order == nullptr);
    for (std::size_t i = 0; same && i < a.run_count; ++i) {
        const aq::k_run &x = a.runs[i], &y = b.runs[i];
        same = x.begin == y.begin && x.end == y.end && x.exponent == y.exponent && x.shift == y.shift &&
               x.ends_group == y.ends_group;
    }
    for (std::size_t p = 0; same && p < a.packed; ++p) same = a.channel(p) == b.channel(p);
    return same;
}

/// What k_layout::make makes of the channels and exponents of a layout that was accepted.
aq::k_layout made_again(const aq::k_layout_view& l) {
    std::vector<std::uint8_t> exponents(l.k, 0);
    for (std::size_t i = 0; i < l.run_count; ++i) {
        for (std::size_t p = l.runs[i].begin; p < l.runs[i].end; ++p) {
            if (l.channel(p) != aq::padding) exponents.at(l.channel(p)) = l.runs[i].exponent;
        }
    }
    aq::k_layout layout;
    REQUIRE(layout.make(l.k, l.group, exponents.data()) == status::ok);
    return layout;
}

/// One change that keeps to the limits that check_layout takes for given.
void change(random_source& random, open_layout& l) {
    aq::k_run& run = l.runs[random.below(l.runs.size())];
    const std::uint32_t steps = static_cast<std::uint32_t>(l.numbers.packed / 16 + 2);
    switch (random.below(l.order.empty() ? 7 : 10)) {
        case 0: run.begin = 16 * static_cast<std::uint32_t>(random.below(steps)); break;
        case 1: run.end = 16 * static_cast<std::uint32_t>(random.below(steps)); break;
        case 2: run.exponent = static_cast<std::uint8_t>(random.below(9)); break;
        case 3: run.shift = static_cast<std::uint8_t>(random.below(9)); break;
        case 4: run.ends_group = !run.ends_group; break;
        case 5: l.numbers.group = 1 + random.below(l.numbers.k); break;
        case 6: std::swap(run, l.runs[random.below(l.runs.size())]); break;
        case 7: std::swap(l.order[random.below(l.order.size())], l.order[random.below(l.order.size())]); break;
        case 8:
            l.order[random.below(l.order.size())] =
                random.below(3) == 0 ? aq::padding : static_cast<std::uint32_t>(random.below(70));
            break;
        default: l.numbers.k = 1 + random.below(l.numbers.packed); l.numbers.group = 1 + random.below(l.numbers.k);
    }
    l.numbers.groups = aq::group_count(l.numbers.k, l.numbers.group);
}

}  // namespace

TEST_CASE("check_layout: accepts what k_layout::make makes, with its depths and its id") {
    random_source random(1);
    for (int i = 0; i < 2000; ++i) {
        const aq::k_layout layout = random_layout(random);
        aq::k_layout_view l = layout.view();
        l.depth = 77;
        l.total_depth = 77;
        l.id = 77;
        CHECK(aq::check_layout(l) == status::ok);
        CHECK(is_same(l, layout.view()));
    }
}

TEST_CASE("check_layout: accepts nothing else") {
    random_source random(2);
    std::size_t accepted = 0, refused = 0;
    for (int i = 0; i < 20000; ++i) {
        open_layout changed(random_layout(random).view());
        for (std::size_t count = 1 + random.below(3); count != 0; --count) change(random, changed);
        aq::k_layout_view l = changed.view();
        if (aq::check_layout(l) != status::ok) {
            ++refused;
            continue;
        }
        ++accepted;
        CHECK(is_same(l, made_again(l).view()));
    }
    CHECK(accepted >
          500);  // a change that changes nothing, another group that cuts no run, two channels swapped with their exponents
    CHECK(refused > 10000);
}

TEST_CASE("check_layout: steps of padding that no run needs are refused, between runs, within them and at the end") {
    aq::k_layout layout;
    std::vector<std::uint8_t> exponents(20, 0);
    exponents[3] = 2;
    REQUIRE(layout.make(20, 0, exponents.data()) == status::ok);  // runs [0,16) and [16,48)
    const auto with_step_at = [&](std::size_t place, std::size_t first_moved, bool grows) {
        open_layout l(layout.view());
        l.order.insert(l.order.begin() + static_cast<long>(place), 16, aq::padding);
        l.numbers.packed += 16;
        for (std::size_t i = first_moved; i < l.runs.size(); ++i) {
            l.runs[i].begin += 16;
            l.runs[i].end += 16;
        }
        if (grows) l.runs[first_moved - 1].end += 16;
        aq::k_layout_view v = l.view();
        return aq::check_layout(v);
    };
    aq::k_layout_view whole = layout.view();
    REQUIRE((whole.run_count == 2 && whole.packed == 48 && aq::check_layout(whole) == status::ok));
    CHECK(with_step_at(0, 0, false) == status::bad_file);
    CHECK(with_step_at(16, 1, false) == status::bad_file);
    CHECK(with_step_at(16, 1, true) == status::bad_file);
    CHECK(with_step_at(48, 2, false) == status::bad_file);
    CHECK(with_step_at(48, 2, true) == status::bad_file);
}
