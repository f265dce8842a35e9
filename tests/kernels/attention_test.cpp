// Attention against its definition in double, against integers, and against itself: widths, cuts, orders.
#include "agilequant/kernels/attention.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "kernels/attention_case.hpp"
#include "kernels/attention_expected.hpp"
#include "kernels/attention_fault.hpp"
#include "support/effort.hpp"
#include "support/guarded.hpp"
#include "support/kernel_lists.hpp"

using aq::probability_coding;
using aq::status;
using namespace aq_test;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr double u = 0x1p-24;

const aq::kernel_table& best() { return *runnable_kernels().back(); }

/// The walk as instruction sets are compared over it.
attention_case compared_case(std::size_t i) {
    attention_case c = case_number(i);
    c.has_nan = i % 11 == 10;
    return c;
}

/// The first case of the walk that tells `kernels` from scalar; `count` if none does.
std::size_t first_difference(const aq::kernel_table& kernels, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        const attention_case c = compared_case(i);
        const attention_operands o(c);
        if (differing(attend(aq::scalar::table, c, o), attend(kernels, c, o)) != 0) return i;
    }
    return count;
}

/// Some rows of a case: all of few, else the first, the last and a few between.
std::vector<std::size_t> some_rows(const attention_case& c) {
    std::vector<std::size_t> rows;
    for (std::size_t r = 0; r < c.rows; r += c.rows <= 6 ? 1 : c.rows / 4) rows.push_back(r);
    if (rows.back() != c.rows - 1) rows.push_back(c.rows - 1);
    return rows;
}

/// Every bit of some rows, from integers.
void check_exactly(const attention_case& c, const attention_operands& o, const cache_numbers& n) {
    CAPTURE(text(c));
    std::vector<attention_outcome> outcomes;
    for (const aq::kernel_table* kernels : runnable_kernels()) outcomes.push_back(attend(*kernels, c, o));
    for (const std::size_t row : some_rows(c))
        for (std::size_t h = 0; h < c.heads; ++h) {
            const exact_row e(c, o, n, h, row);
            for (std::size_t i = 0; i < outcomes.size(); ++i) {
                CAPTURE(std::string(runnable_kernels()[i]->isa));
                CAPTURE(row);
                CAPTURE(h);
                const attention_outcome& r = outcomes[i];
                REQUIRE(std::memcmp(e.out.data(), &r.out.data[row * r.out.stride + h * c.head_dim], c.head_dim * 4) == 0);
                REQUIRE(differing({e.importance}, {r.importance[h * c.rows + row]}) == 0);
            }
        }
}

}  // namespace

TEST_CASE("exact cases have the bits that integers give") {
    random_source random(7);
    for (const std::size_t length : sizes{1, 2, 15, 17, 31, 97, 255, 256, 257, 258, 511, 513, 769, 1031, 2053, 4099})
        for (const int bits : {32, 8, 4})
            for (const bool is_flat : {false, true}) {
                if ((is_flat && (length < 1000 || bits == 32)) || (slowdown > 1 && length > 1031)) continue;
                constexpr std::size_t dims[] = {1, 16, 24, 40, 64, 128}, groups[] = {16, 32, 48, 64, 256};
                attention_case c;
                c.is_exact = true, c.is_flat = is_flat, c.bits = bits, c.length = length;
                c.head_dim = is_flat ? 24 : dims[random.below(length > 1000 ? 4 : 6)], c.group = groups[random.below(5)];
                c.kv_heads = 1 + random.below(2), c.heads = c.kv_heads * (1 + random.below(8));
                c.rows = std::min<std::size_t>(length, 1 + random.below(length < 1000 ? 70 : 9));
                c.has_slopes = !is_flat && random.below(3) != 0;
                c.seed = length + static_cast<std::size_t>(bits);
                const attention_operands o(c);
                const cache_numbers n(o.cache.view());
                for (const probability_coding coding :
                     {probability_coding::log2_ceiling, probability_coding::log2_half_ceiling, probability_coding::log2_maximum,
                      probability_coding::log2_half_maximum}) {
                    c.coding = coding;
                    check_exactly(c, o, n);
                }
            }
}

// A step over a head with one scale a token has a path of its own: keys and values in the order in which they lie in memory.
TEST_CASE("a step has the bits that integers give, whatever the number of channels") {
    for (const std::size_t head_dim : sizes{16, 64, 96, 112, 113, 127, 128, 129, 256})
        for (const std::size_t length : sizes{1, 16, 31, 255, 256, 257, 523}) {
            for (const int bits : {8, 4})
                for (const probability_coding coding :
                     {probability_coding::log2_ceiling, probability_coding::log2_half_ceiling}) {
                    attention_case c;
                    c.is_exact = true, c.bits = bits, c.coding = coding;
                    c.head_dim = head_dim, c.length = length, c.seed = head_dim + length;
                    c.rows = 1, c.heads = c.kv_heads = 2;
                    const attention_operands o(c);
                    check_exactly(c, o, cache_numbers(o.cache.view()));
                }
        }
}

TEST_CASE("every instruction set has scalar's bits") {
    for (const aq::kernel_table* kernels : runnable_kernels()) {
        for (std::size_t i = 0; i < cases(840); ++i) {
            const attention_case c = compared_case(i);
            CAPTURE(text(c));
            CAPTURE(std::string(kernels->isa));
            const attention_operands o(c);
            REQUIRE(differing(attend(aq::scalar::table, c, o), attend(*kernels, c, o)) == 0);
        }
    }
}

TEST_CASE("blocks cannot be seen in a result, and that suite finds every wrong operation") {
    namespace faults = aq::attention_fault;
    aq::kernel_table table = aq::scalar::table;
    table.attention = faults::attention;
    const std::size_t count = 420;
    faults::active = faults::fault::none;
    CHECK(first_difference(table, cases(count)) == cases(count));
    for (int f = 1; f < static_cast<int>(faults::fault::count); ++f) {
        CAPTURE(f);
        faults::active = static_cast<faults::fault>(f);
        CHECK(first_difference(table, count) < count);
    }
    faults::active = faults::fault::none;
}

// The scores' errors become relative errors of the weights (ln 2 of each, 2^x to 1.2 units, its argument rounded once, against a reference of
// up to one more than the largest score); weights are summed in 16 lanes, weights times values in the order of keys; a product each, for a
// coded value two; 1 / sum and the last product. Shifts to a new reference are exact, but for what is next to nothing.
TEST_CASE("softmax against double") {
    for (std::size_t i = 0; i < 840; i += 7) {
        attention_case c = case_number(i);
        if (c.rows < 7) c.length += i % 3 * 100;
        CAPTURE(text(c));
        const attention_operands o(c);
        const cache_numbers numbers(o.cache.view());
        const attention_outcome r = attend(best(), c, o);
        for (const std::size_t row : some_rows(c))
            for (std::size_t h = 0; h < c.heads; ++h) {
                const expected_row e(c, o, numbers, h, row);
                const double n = static_cast<double>(e.t.size()), top = *std::max_element(e.t.begin(), e.t.end());
                double worst = 0;
                for (std::size_t j = 0; j < e.t.size(); ++j) {
                    const double far = std::min(top - e.t[j] + 1, 25.0);  // beyond, the weight itself is below the error
                    worst = std::max(worst, std::log(2.0) * (e.score_error[j] + u * far) + 2.4 * u);
                }
                const double relative = 1.01 * (2 * worst + (n + n / 16 + 10) * u);
                REQUIRE(relative < 1e-3);
                for (std::size_t k = 0; k < c.head_dim; ++k) {
                    REQUIRE(std::abs(static_cast<double>(r.out.at(row, h * c.head_dim + k)) - e.out[k]) <=
                            relative * e.magnitude[k] + 1e-37);
                }
                REQUIRE(std::abs(static_cast<double>(r.importance[h * c.rows + row]) - e.importance) <=
                        relative * e.importance + 1e-37);
            }
    }
}

// Codes are integers, so they agree wherever no exponent is within the scores' error of a tie. The rest is one float sum of positive terms (the
// divisor), a mean over groups, and conversions; with a float cache also the sum over the keys. Exact cases are all ties: see above.
TEST_CASE("the log2 forms against double") {
    std::size_t compared = 0, near_a_tie = 0, raised = 0;
    for (std::size_t i = 0; i < 1260; ++i) {
        const attention_case c = case_number(i);
        if (c.coding == probability_coding::softmax || c.is_exact) continue;
        CAPTURE(text(c));
        const attention_operands o(c);
        const cache_numbers numbers(o.cache.view());
        const attention_outcome r = attend(best(), c, o);
        for (const std::size_t row : some_rows(c))
            for (std::size_t h = 0; h < c.heads; ++h) {
                const expected_row e(c, o, numbers, h, row);
                const double score_error = *std::max_element(e.score_error.begin(), e.score_error.end());
                REQUIRE(score_error < 2e-4);
                if (e.distance_from_tie < 4 * score_error + 1e-5) {
                    ++near_a_tie;
                    continue;
                }
                ++compared;
                raised += e.rises;
                const double n = static_cast<double>(e.t.size()), relative = 1.01 * (n + n / 16 + 20) * u;
                for (std::size_t k = 0; k < c.head_dim; ++k) {
                    REQUIRE(std::abs(static_cast<double>(r.out.at(row, h * c.head_dim + k)) - e.out[k]) <=
                            relative * e.magnitude[k]);
                }
                REQUIRE(std::abs(static_cast<double>(r.importance[h * c.rows + row]) - e.importance) <= relative * e.importance);
            }
    }
    CAPTURE(compared);
    CHECK(near_a_tie * 10 < compared);
    CHECK(raised > 50);
}

// 32 bits hold the sums of 65536 keys whichever way codes are centered; of 262144 keys they do not hold the result itself.
TEST_CASE("262144 equal keys") {
    const std::size_t length = 262144, dim = 16;
    for (const float value : {-127.0F, 127.0F, 15.0F}) {  // the scale is 1, the code the smallest or the largest that there is
        aq::kv_cache cache;
        REQUIRE(cache.reset(1, dim, length, value == 15.0F ? 4 : 8) == status::ok);
        matrix k(1, dim), v(1, dim), out(1, dim);
        for (std::size_t c = 0; c < dim; ++c) k.at(0, c) = 0.0F, v.at(0, c) = value, out.at(0, c) = 1.0F;
        for (std::size_t t = 0; t < length; ++t) REQUIRE(cache.append(k.view(), v.view()) == status::ok);
        for (const aq::kernel_table* kernels : runnable_kernels())
            for (const probability_coding coding :
                 {probability_coding::log2_maximum, probability_coding::log2_ceiling, probability_coding::log2_half_maximum,
                  probability_coding::log2_half_ceiling}) {
                float importance = 0.0F;
                aq::attention_job job;
                const matrix q = out;
                job.q = q.view(), job.cache = cache.view(), job.out = out.view(), job.heads = 1, job.coding = coding,
                job.importance = &importance;
                REQUIRE(run(*kernels, job) == status::ok);
                for (std::size_t c = 0; c < dim; ++c) CHECK(out.at(0, c) == value);
                CHECK(importance == 1.0F / static_cast<float>(length));
                job.coding = probability_coding::log2_normalized;  // every probability is 2^-18, which no code holds
                REQUIRE(run(*kernels, job) == status::ok);
                CHECK(out.at(0, 0) == 0.0F);
            }
    }
}

TEST_CASE("a row of a prompt has the bits of a single step") {
    for (std::size_t i = 0; i < 63; ++i) {
        attention_case c = case_number(i);
        c.rows = c.length = 1 + i % 35;
        c.is_flat = false;
        CAPTURE(text(c));
        const attention_operands o(c);
        const attention_outcome all = attend(best(), c, o);
        aq::kv_cache cache;
        REQUIRE(cache.reset(c.kv_heads, c.head_dim, 64, c.bits, c.group) == status::ok);
        std::size_t wrong = 0;
        for (std::size_t t = 0; t < c.length; ++t) {
            REQUIRE(cache.append(o.k.view().rows_from(t, 1), o.v.view().rows_from(t, 1)) == status::ok);
            attention_outcome step{matrix(1, c.heads * c.head_dim), std::vector<float>(c.heads)};
            aq::attention_job job = o.job(c, step.out, step.importance);
            job.q = o.q.view().rows_from(t, 1);
            job.cache = cache.view();
            REQUIRE(run(best(), job) == status::ok);
            wrong += static_cast<std::size_t>(
                std::memcmp(step.out.data.data(), &all.out.data[t * all.out.stride], step.out.cols * 4) != 0);
            for (std::size_t h = 0; h < c.heads; ++h) wrong += differing({step.importance[h]}, {all.importance[h * c.rows + t]});
        }
        REQUIRE(wrong == 0);
    }
}

TEST_CASE("a row of a prompt has the bits of a single step, also where a chunk of keys ends, whatever else the cache holds") {
    for (std::size_t i = 0; i < 42; ++i) {
        attention_case c = case_number(i);
        c.length = c.rows = 515;
        c.kv_heads = 1, c.heads = 1 + i % 3, c.head_dim = i % 2 == 0 ? 40 : 16;
        c.is_flat = false, c.is_rising = i % 4 != 3;
        CAPTURE(text(c));
        const attention_operands o(c);
        const attention_outcome all = attend(best(), c, o);
        for (const std::size_t t : sizes{1, 16, 47, 48, 49, 97, 254, 255, 256, 257, 258, 510, 511, 512, 513, 515}) {
            CAPTURE(t);
            // in pieces of any number of rows that end with row t - 1
            for (const std::size_t rows : sizes{1, 2, 7, 50}) {
                if (rows > t) continue;
                attention_outcome piece{matrix(rows, c.heads * c.head_dim), std::vector<float>(c.heads * rows)};
                aq::attention_job job = o.job(c, piece.out, piece.importance);
                job.q = o.q.view().rows_from(t - rows, rows);
                job.cache = o.cache.view().first(t);
                REQUIRE(run(best(), job) == status::ok);
                for (std::size_t r = 0; r < rows; ++r) {
                    REQUIRE(std::memcmp(&piece.out.data[r * piece.out.stride], &all.out.data[(t - rows + r) * all.out.stride],
                                        piece.out.cols * sizeof(float)) == 0);
                    for (std::size_t h = 0; h < c.heads; ++h)
                        REQUIRE(differing({piece.importance[h * rows + r]}, {all.importance[h * c.rows + t - rows + r]}) == 0);
                }
            }
        }
    }
}

TEST_CASE("what stands behind the last token is not seen") {
    for (const aq::kernel_table* kernels : runnable_kernels())
        for (std::size_t i = 0; i < cases(210); ++i) {
            attention_case c = case_number(i);
            CAPTURE(text(c));
            const attention_operands o(c);
            // the room of a longer text, of numbers that are none or huge, which was forgotten again
            matrix noise(c.length + 37, o.k.cols);
            random_source random(i);
            for (float& x : noise.data) x = c.bits == 32 && random.flip() ? not_a_number : random.flip() ? 1e37F : -infinity;
            aq::kv_cache cache;
            REQUIRE(cache.reset(c.kv_heads, c.head_dim, noise.rows, c.bits, c.group) == status::ok);
            REQUIRE(cache.append(noise.view(), noise.view()) == status::ok);
            cache.clear();
            REQUIRE(cache.append(o.k.view(), o.v.view()) == status::ok);
            attention_outcome r{matrix(c.rows, c.heads * c.head_dim, 3), std::vector<float>(c.heads * c.rows)};
            aq::attention_job job = o.job(c, r.out, r.importance);
            job.cache = cache.view();
            REQUIRE(run(*kernels, job) == status::ok);
            REQUIRE(differing(attend(*kernels, c, o), r) == 0);
        }
}

TEST_CASE("grouped heads read the key-value head of their group") {
    for (std::size_t i = 0; i < 42; ++i) {
        attention_case c = case_number(i);
        CAPTURE(text(c));
        const attention_operands o(c);
        const attention_outcome all = attend(best(), c, o);
        for (std::size_t h = 0; h < c.heads; ++h) {
            const std::size_t at = h / (c.heads / c.kv_heads) * c.head_dim;
            aq::kv_cache cache;
            REQUIRE(cache.reset(1, c.head_dim, c.length, c.bits, c.group) == status::ok);
            REQUIRE(cache.append({o.k.data.data() + at, c.length, c.head_dim, o.k.stride},
                                 {o.v.data.data() + at, c.length, c.head_dim, o.v.stride}) == status::ok);
            matrix out(c.rows, c.head_dim);
            std::vector<float> importance(c.rows);
            aq::attention_job job = o.job(c, out, importance);
            job.q = {o.q.data.data() + h * c.head_dim, c.rows, c.head_dim, o.q.stride};
            job.cache = cache.view();
            job.heads = 1;
            if (c.has_slopes) job.slopes += h;
            REQUIRE(run(best(), job) == status::ok);
            for (std::size_t row = 0; row < c.rows; ++row) {
                REQUIRE(std::memcmp(&out.data[row * out.stride], &all.out.data[row * all.out.stride + h * c.head_dim],
                                    c.head_dim * 4) == 0);
                REQUIRE(importance[row] == all.importance[h * c.rows + row]);
            }
        }
    }
}

TEST_CASE("importance is column 0, as the values see it") {
    for (const probability_coding coding : all_codings) {
        attention_case c;
        c.length = c.rows = 33, c.head_dim = 16, c.coding = coding;
        attention_operands o(c);
        for (std::size_t t = 0; t < c.length; ++t)
            for (std::size_t i = 0; i < c.head_dim; ++i) o.v.at(t, i) = t == 0 ? 1.0F : 0.0F;
        o.cache.clear();
        REQUIRE(o.cache.append(o.k.view(), o.v.view()) == status::ok);
        const attention_outcome r = attend(best(), c, o);
        for (std::size_t row = 0; row < c.rows; ++row)
            CHECK(std::abs(r.out.at(row, 5) - r.importance[row]) <= 4 * u * r.importance[row]);
        CHECK(r.importance[0] == 1.0F);
    }
}

TEST_CASE("heads one by one, in any ranges, and a result in the place of q") {
    for (std::size_t i = 0; i < 63; ++i) {
        attention_case c = case_number(i);
        c.kv_heads = 2, c.heads = i % 2 == 0 ? 6 : 16;
        CAPTURE(text(c));
        const attention_operands o(c);
        const attention_outcome all = attend(best(), c, o);
        attention_outcome r{matrix(c.rows, all.out.cols, 3), std::vector<float>(c.heads * c.rows)};
        aq::aligned_buffer<std::byte> scratch;
        const aq::kv_view full = o.cache.view().first(o.cache.view().capacity);
        REQUIRE(scratch.reset(aq::attention_scratch_bytes(full, c.coding)) == status::ok);
        for (std::size_t h = c.heads; h-- > 0;) {
            REQUIRE(aq::attention(best(), o.job(c, r.out, r.importance), {h, h + 1}, scratch.data(), scratch.size()) ==
                    status::ok);
        }
        CHECK(differing(all, r) == 0);
        random_source random(i);
        for (int cut = 0; cut < 4; ++cut) {  // in ranges that end inside groups
            std::fill(r.importance.begin(), r.importance.end(), not_a_number);
            for (std::size_t row = 0; row < c.rows; ++row) std::fill_n(&r.out.at(row, 0), r.out.cols, not_a_number);
            for (std::size_t begin = 0, end; begin < c.heads; begin = end) {
                end = std::min(c.heads, begin + 1 + random.below(7));
                REQUIRE(aq::attention(best(), o.job(c, r.out, r.importance), {begin, end}, scratch.data(), scratch.size()) ==
                        status::ok);
            }
            CHECK(differing(all, r) == 0);
        }
        for (std::size_t row = 0; row < c.rows; ++row)
            std::memcpy(&r.out.data[row * r.out.stride], &o.q.data[row * o.q.stride], r.out.cols * 4);
        aq::attention_job job = o.job(c, r.out, r.importance);
        job.q = r.out.view();
        REQUIRE(run(best(), job) == status::ok);
        CHECK(differing(all, r) == 0);
    }
}

TEST_CASE("a scale of one's own") {
    attention_case c;
    c.length = 20, c.rows = 3, c.head_dim = 16;
    const attention_operands o(c);
    const attention_outcome usual = attend(best(), c, o);
    attention_outcome own = usual;
    aq::attention_job job = o.job(c, own.out, own.importance);
    job.scale = 0.25F;
    REQUIRE(run(best(), job) == status::ok);
    CHECK(differing(usual, own) == 0);
    job.scale = 0.5F;
    REQUIRE(run(best(), job) == status::ok);
    CHECK(differing(usual, own) != 0);
}

TEST_CASE("nothing outside the buffers is touched") {
    for (const aq::kernel_table* kernels : runnable_kernels())
        for (std::size_t i = 0; i < cases(147); ++i)
            for (const guard side : {guard::before, guard::after}) {
                const attention_case c = case_number(i);
                CAPTURE(text(c));
                const attention_operands o(c);
                const attention_outcome expected = attend(*kernels, c, o);
                aq::kv_view v = o.cache.view();
                const std::size_t bytes = v.kv_heads * v.capacity * v.row_bytes(), all = v.kv_heads * v.groups() * v.capacity,
                                  scales = c.bits == 32 ? 0 : all;
                const guarded<std::uint8_t> keys(static_cast<const std::uint8_t*>(v.keys), bytes, side);
                const guarded<std::uint8_t> values(static_cast<const std::uint8_t*>(v.values), bytes, side);
                const guarded<std::uint16_t> key_scales(v.key_scales, scales, side), value_scales(v.value_scales, scales, side);
                const guarded<std::uint8_t> zeros(v.zeros, c.bits == 4 ? all : 0, side);
                const guarded<float> q(o.q.data.data(), o.q.data.size() - 1 - (o.q.stride - o.q.cols), side);
                guarded<float> out(c.rows * o.q.cols, side), importance(c.heads * c.rows, side);
                guarded<std::byte> scratch(aq::attention_scratch_bytes(v, c.coding), side);
                v.keys = keys.data(), v.values = values.data(), v.key_scales = key_scales.data(),
                v.value_scales = value_scales.data(), v.zeros = zeros.data();
                attention_outcome r = expected;
                aq::attention_job job = o.job(c, r.out, r.importance);
                job.q.data = q.data(), job.cache = v, job.out = {out.data(), c.rows, o.q.cols},
                job.importance = importance.data();
                REQUIRE(aq::attention(*kernels, job, scratch.data(), scratch.size()) == status::ok);
                for (std::size_t row = 0; row < c.rows; ++row) {
                    REQUIRE(std::memcmp(out.data() + row * o.q.cols, &expected.out.data[row * expected.out.stride],
                                        o.q.cols * 4) == 0);
                }
                REQUIRE(std::memcmp(importance.data(), expected.importance.data(), c.heads * c.rows * 4) == 0);
            }
}

TEST_CASE("numbers that are none") {
    for (const probability_coding coding : all_codings) {
        attention_case c;
        c.length = 9, c.rows = 2, c.head_dim = 16, c.coding = coding;
        attention_operands o(c);
        const attention_outcome expected = attend(best(), c, o);
        o.q.at(0, 3) = not_a_number;  // one row has no score that is a number; the other does not see it
        const attention_outcome r = attend(best(), c, o);
        for (std::size_t i = 0; i < 16; ++i) {
            if (coding == probability_coding::softmax) CHECK(std::isnan(r.out.at(0, i)));
            else CHECK(r.out.at(0, i) == 0.0F);
            CHECK(r.out.at(1, i) == expected.out.at(1, i));
        }

        // a key that is NaN or infinitely far below counts as if it were not there
        for (const float key : {not_a_number, -infinity}) {
            attention_operands with(c), without(c);
            for (std::size_t i = 0; i < 16; ++i) with.q.at(1, i) = without.q.at(1, i) = 1.0F;
            for (std::size_t i = 0; i < 16; ++i) with.k.at(4, i) = key, without.k.at(4, i) = -1e6F;
            for (attention_operands* p : {&with, &without}) {
                p->cache.clear();
                REQUIRE(p->cache.append(p->k.view(), p->v.view()) == status::ok);
            }
            const attention_outcome a = attend(best(), c, with), b = attend(best(), c, without);
            for (std::size_t i = 0; i < 16; ++i) CHECK(a.out.at(1, i) == b.out.at(1, i));
        }
    }
}

TEST_CASE("scores of any size: the largest gets the whole weight") {
    std::size_t compared = 0;
    for (std::size_t i = 0; i < 210; ++i)
        for (const float scale : {1e5F, 1e6F, 1e7F, 1e9F, 1e20F, 1e33F}) {
            attention_case c = case_number(i);
            c.is_exact = c.is_flat = c.has_slopes = false;
            c.rows = 1, c.head_dim = std::max<std::size_t>(c.head_dim, 16);
            CAPTURE(text(c));
            CAPTURE(scale);
            attention_operands o(c);
            o.scale = scale;
            const attention_outcome r = attend(aq::scalar::table, c, o);
            for (const aq::kernel_table* kernels : runnable_kernels()) REQUIRE(differing(attend(*kernels, c, o), r) == 0);
            const cache_numbers numbers(o.cache.view());
            for (std::size_t h = 0; h < c.heads; ++h) {
                const expected_row e(c, o, numbers, h, 0);
                std::vector<double> sorted = e.t;
                std::sort(sorted.rbegin(), sorted.rend());
                const double error = *std::max_element(e.score_error.begin(), e.score_error.end());
                if (sorted.size() > 1 && sorted[0] - sorted[1] < 40 + 8 * error) continue;
                const std::size_t top = static_cast<std::size_t>(std::max_element(e.t.begin(), e.t.end()) - e.t.begin());
                const double* const value = numbers.row(aq::kv_side::value, h / (c.heads / c.kv_heads), top);
                if (c.coding == probability_coding::log2_paper) continue;  // not divided by what that weight is
                ++compared;
                for (std::size_t k = 0; k < c.head_dim; ++k)
                    REQUIRE(std::abs(static_cast<double>(r.out.at(0, h * c.head_dim + k)) - value[k]) <=
                            4 * u * std::abs(value[k]));
            }
        }
    CHECK(compared > 1000);
}

TEST_CASE("2^x against double") {
    double worst = 0;
    for (float x = 0.0F; x >= -126.0F; x = x - 0x1p-13F - 0x1p-14F * x / 126.0F) {
        const double exact = std::exp2(static_cast<double>(x)), unit = std::exp2(std::floor(static_cast<double>(x)) - 23);
        worst = std::max(worst, std::abs(static_cast<double>(aq::scalar::exp2(x)) - exact) / unit);
    }
    CHECK(worst <= 1.2);
    CHECK(aq::scalar::exp2(0.0F) == 1.0F);
    CHECK(aq::scalar::exp2(-126.0F) == 0x1p-126F);
    for (const float x : {-126.001F, -127.0F, -1e30F, -infinity, not_a_number}) CHECK(aq::scalar::exp2(x) == 0.0F);
}

TEST_CASE("what is refused") {
    attention_case c;
    c.length = 5, c.rows = 3, c.heads = 4, c.kv_heads = 2, c.bits = 4;
    const attention_operands o(c);
    matrix out(3, 64);
    std::vector<float> importance(12);
    const aq::attention_job good = o.job(c, out, importance);
    aq::aligned_buffer<std::byte> scratch;
    const std::size_t bytes = aq::attention_scratch_bytes(good.cache, good.coding);
    REQUIRE(scratch.reset(bytes + 64) == status::ok);
    const auto answer = [&](auto change) {
        aq::attention_job job = good;
        change(job);
        return aq::attention(best(), job, scratch.data(), bytes);
    };
    CHECK(answer([](auto&) {}) == status::ok);
    CHECK(answer([](auto& j) { j.q.cols = 48; }) == status::bad_shape);
    CHECK(answer([](auto& j) { j.q.rows = 2; }) == status::bad_shape);
    CHECK(answer([](auto& j) { j.heads = 3; }) == status::bad_shape);
    CHECK(answer([](auto& j) { j.heads = 0; }) == status::bad_shape);
    CHECK(answer([](auto& j) { j.cache.length = 2; }) == status::bad_shape);
    CHECK(answer([](auto& j) { j.cache.length = 17; }) == status::bad_shape);
    CHECK(answer([](auto& j) { j.cache.capacity = 15; }) == status::bad_shape);
    CHECK(answer([](auto& j) { j.cache.kv_heads = 0; }) == status::bad_shape);
    CHECK(answer([](auto& j) { j.cache.head_dim = 8; }) == status::bad_shape);
    CHECK(answer([](auto& j) { j.cache.bits = 5; }) == status::unsupported_format);
    for (const std::size_t group : sizes{1, 8, 15, 17, 40})
        CHECK(answer([&](auto& j) { j.cache.group = group; }) == status::unsupported_format);
    CHECK(answer([](auto& j) { j.q.stride = 63; }) == status::bad_stride);
    CHECK(answer([](auto& j) { j.out.stride = 63; }) == status::bad_stride);
    CHECK(answer([](auto& j) { j.q.data = nullptr; }) == status::null_pointer);
    CHECK(answer([](auto& j) { j.cache.keys = nullptr; }) == status::null_pointer);
    CHECK(answer([](auto& j) { j.cache.value_scales = nullptr; }) == status::null_pointer);
    CHECK(answer([](auto& j) { j.cache.zeros = nullptr; }) == status::null_pointer);
    CHECK(answer([](auto& j) { j.q.rows = j.out.rows = 0; }) == status::ok);
    CHECK(aq::attention(best(), good, scratch.data(), bytes - 1) == status::scratch_too_small);
    CHECK(aq::attention(best(), good, nullptr, bytes) == status::null_pointer);
    CHECK(aq::attention(best(), good, scratch.data() + 8, bytes) == status::bad_argument);
    CHECK(aq::attention(best(), good, {0, 5}, scratch.data(), bytes) == status::bad_shape);
    CHECK(aq::attention(best(), good, {3, 2}, scratch.data(), bytes) == status::bad_shape);
    CHECK(aq::attention(best(), good, {2, 2}, scratch.data(), bytes) == status::ok);
}
