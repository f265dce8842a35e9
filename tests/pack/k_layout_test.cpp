#include "agilequant/pack/k_layout.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "support/random.hpp"
#include "support/status_text.hpp"

using aq::status;

namespace {

std::vector<std::uint8_t> random_exponents(std::uint64_t seed, std::size_t k, int highest) {
    aq_test::random_source random(seed);
    std::vector<std::uint8_t> e(k);
    for (std::uint8_t& v : e) v = static_cast<std::uint8_t>(random.between(0, highest));
    return e;
}

/// Everything that the head of k_layout.hpp promises; one sentence where it is broken, or nothing.
const char* broken_promise(const aq::k_layout_view& l, std::size_t k, std::size_t group, const std::uint8_t* exponents) {
    const std::size_t size = group == 0 || group > k ? k : group;
    if (l.k != k || l.group != size || l.groups != (k == 0 ? 0 : (k + size - 1) / size)) return "sizes";
    std::vector<int> seen(k, 0);
    std::size_t position = 0, in_group = 0, groups = 0;
    std::uint64_t depth = 0, deepest = 0;
    int exponent = aq::max_exponent;
    std::int64_t last_channel = -1;  // of this exponent
    std::vector<int> shifts_of_group;
    for (std::size_t i = 0; i < l.run_count; ++i) {
        const aq::k_run run = l.runs[i];
        if (run.begin != position || run.end <= run.begin || run.end % aq::k_step != 0)
            return "runs do not follow each other in whole steps";
        if (run.exponent > exponent) return "exponents rise";
        if (run.exponent != exponent) last_channel = -1;
        exponent = run.exponent;
        bool tail = false;
        std::size_t channels = 0;
        for (std::size_t p = run.begin; p < run.end; ++p) {
            const std::uint32_t c = l.channel(p);
            tail = tail || c == aq::padding;
            if (tail && c != aq::padding) return "padding stands before a channel";
            if (tail) continue;
            if (c >= k || seen[c]++ != 0) return "a channel stands twice";
            if ((exponents == nullptr ? 0 : exponents[c]) != run.exponent) return "a channel is in a run of another exponent";
            if (c <= last_channel) return "channels of one exponent change their order";
            last_channel = c;
            ++channels;
        }
        if (run.end - run.begin - channels >= aq::k_step) return "more padding than needed";
        in_group += channels;
        depth += static_cast<std::uint64_t>(channels) << run.exponent;
        shifts_of_group.push_back(run.shift);
        // Horner: what is shifted after this run and the ones that follow in the group adds up to its exponent
        if (run.ends_group) {
            int total = 0;
            for (std::size_t back = 0; back < shifts_of_group.size(); ++back) {
                total += shifts_of_group[shifts_of_group.size() - 1 - back];
                if (total != l.runs[i - back].exponent) return "the shifts do not add up to the exponents";
            }
            if (in_group != size && groups + 1 != l.groups) return "a group that is not the last is short";
            deepest = depth > deepest ? depth : deepest;
            shifts_of_group.clear();
            in_group = 0;
            depth = 0;
            ++groups;
        }
        position = run.end;
    }
    if (position != l.packed || groups != l.groups || in_group != 0) return "the last run does not end the last group";
    for (int count : seen) {
        if (count != 1) return "a channel is missing";
    }
    return deepest == l.depth ? nullptr : "depth";
}

std::string checked(std::size_t k, std::size_t group, const std::uint8_t* exponents) {
    aq::k_layout layout;
    if (layout.make(k, group, exponents) != status::ok) return "refused";
    const char* const broken = broken_promise(layout.view(), k, group, exponents);
    return broken == nullptr ? "" : broken;
}

std::uint64_t id_of(std::size_t k, std::size_t group, const std::vector<std::uint8_t>& exponents = {}) {
    aq::k_layout layout;
    REQUIRE(layout.make(k, group, exponents.empty() ? nullptr : exponents.data()) == status::ok);
    return layout.view().id;
}

}  // namespace

TEST_CASE("k_layout: the examples of the header") {
    aq::k_layout layout;
    REQUIRE(layout.make(40, 32) == status::ok);
    aq::k_layout_view l = layout.view();
    CHECK(l.packed == 48);
    CHECK(l.groups == 2);
    REQUIRE(l.run_count == 2);
    CHECK((l.runs[0].begin == 0 && l.runs[0].end == 32 && l.runs[0].ends_group && l.runs[0].shift == 0));
    CHECK((l.runs[1].begin == 32 && l.runs[1].end == 48 && l.runs[1].ends_group));
    CHECK(l.channel(39) == 39);
    CHECK(l.channel(40) == aq::padding);

    std::uint8_t exponents[40] = {};
    exponents[3] = exponents[7] = 1;
    REQUIRE(layout.make(40, 32, exponents) == status::ok);
    l = layout.view();
    REQUIRE(l.run_count == 3);
    CHECK((l.channel(0) == 3 && l.channel(1) == 7 && l.channel(2) == aq::padding && l.channel(16) == 0 && l.channel(19) == 4));
    CHECK((l.runs[0].end == 16 && l.runs[0].shift == 1 && !l.runs[0].ends_group));
    CHECK((l.runs[1].end == 48 && l.runs[1].shift == 0 && l.runs[1].ends_group));
    CHECK((l.runs[2].end == 64 && l.runs[2].ends_group));
    CHECK(l.depth == 34);
    CHECK(l.has_exponents());
}

TEST_CASE("k_layout: a depth of whole steps without exponents needs no table") {
    aq::k_layout layout;
    REQUIRE(layout.make(256, 32) == status::ok);
    CHECK(layout.view().order == nullptr);
    CHECK(layout.view().packed == 256);
    CHECK_FALSE(layout.view().has_exponents());
    const std::vector<std::uint8_t> zeros(256, 0), ones(256, 1);
    REQUIRE(layout.make(256, 32, zeros.data()) == status::ok);  // TRIP with nothing to do is no TRIP
    CHECK(layout.view().order == nullptr);
    CHECK(layout.view().id == id_of(256, 32));
    REQUIRE(layout.make(256, 32, ones.data()) == status::ok);
    CHECK(layout.view().order != nullptr);  // every channel has to be divided by 2
    CHECK(layout.view().has_exponents());
}

TEST_CASE("k_layout: runs, padding, shifts and depth for every depth to 70, and groups of any size") {
    for (std::size_t k = 0; k <= 70; ++k) {
        for (std::size_t group : aq_test::sizes{0, 1, 2, 5, 15, 16, 17, 32, 69, 70, 71, 1000}) {
            CAPTURE(k);
            CAPTURE(group);
            CHECK(checked(k, group, nullptr) == "");
            for (int highest : {0, 1, 3, 7}) {
                CAPTURE(highest);
                CHECK(checked(k, group, random_exponents(k * 100 + group, k + 1, highest).data()) == "");
            }
        }
    }
    for (std::size_t k : aq_test::sizes{127, 1009, 4099}) {
        for (std::size_t group : aq_test::sizes{0, 5, 100, 128})
            CHECK(checked(k, group, random_exponents(k + group, k, 7).data()) == "");
    }
}

TEST_CASE("k_layout: the fingerprint differs when anything differs, and only then") {
    std::set<std::uint64_t> ids;
    std::size_t layouts = 0;
    const auto add = [&](std::uint64_t id) {
        ids.insert(id);
        ++layouts;
    };
    for (std::size_t k = 1; k <= 130; ++k) add(id_of(k, 0));
    for (std::size_t group = 1; group < 130; ++group) add(id_of(130, group));
    for (std::uint8_t e = 1; e <= 7; ++e) add(id_of(130, 0, std::vector<std::uint8_t>(130, e)));
    for (std::size_t c = 0; c < 130; ++c) {  // one channel raised: which one, and how far
        for (std::uint8_t e = 1; e <= 7; ++e) {
            std::vector<std::uint8_t> exponents(130, 0);
            exponents[c] = e;
            add(id_of(130, 0, exponents));
            if (c > 0) add(id_of(130, 32, exponents));
        }
    }
    CHECK(ids.size() == layouts);
    CHECK(id_of(130, 0) == id_of(130, 130));
    CHECK(id_of(130, 0) == id_of(130, 4000));
    CHECK(id_of(130, 32, random_exponents(5, 130, 7)) == id_of(130, 32, random_exponents(5, 130, 7)));
}

TEST_CASE("k_layout: limits are refused and leave an empty layout") {
    aq::k_layout layout;
    REQUIRE(layout.make(32) == status::ok);
    std::vector<std::uint8_t> exponents(40, 7);
    CHECK(layout.make(40, 0, exponents.data()) == status::ok);
    exponents[39] = 8;
    CHECK(layout.make(40, 0, exponents.data()) == status::bad_argument);
    CHECK(layout.view().k == 0);
    CHECK(layout.view().packed == 0);
    CHECK(layout.view().run_count == 0);
    CHECK(layout.make(std::size_t{1} << 31, 0) == status::bad_argument);
    CHECK(layout.make(16, std::size_t{1} << 31) == status::bad_argument);
    CHECK(layout.make(0x7FFFFFFF, 1) == status::bad_argument);  // padded to 2^35 positions, which 32 bits do not count
    CHECK(layout.make(std::size_t{1} << 28, 1) == status::bad_argument);
}
