// Attention against its definition in double, against integers, and against itself: widths, cuts, orders.
#include "agilequant/kernels/attention.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "kernels/attention_case.hpp"
#include "support/guarded.hpp"

using aq::probability_coding;
using aq::status;
using namespace aq_test;

// An instruction set with one operation wrong on request, to prove that the exact suite below can fail.
namespace aq {
namespace attention_fault {

enum class fault {
    none,
    value_unsigned,
    nibble_unmasked,
    high_nibble_low,
    lanes_from_one,
    scale_truncated,
    maximum_takes_nan,
    limit_short,
    select_strict,
    integer_of_half,
    power_too_small,
    dot_forgets_high,
    dot_forgets_last,
    shift_short,
    convert_low_bit,
    count
};
inline fault active = fault::none;

struct ops : scalar::ops {
    using base = scalar::ops;
    static i32 load_i8_as_i32(const std::int8_t* p) {
        return active == fault::value_unsigned ? static_cast<std::uint8_t>(*p) : *p;
    }
    static i32 low_nibble(i32 v) { return active == fault::nibble_unmasked ? v : base::low_nibble(v); }
    static i32 high_nibble(i32 v) { return active == fault::high_nibble_low ? base::low_nibble(v) : base::high_nibble(v); }
    static i32 first_lanes() { return active == fault::lanes_from_one ? 1 : 0; }
    static f32 load_bfloat16(const std::uint16_t* p) {
        return active == fault::scale_truncated ? float_of((*p & 0xFFF0U) << 16) : base::load_bfloat16(p);
    }
    static f32 greater(f32 x, f32 y) { return active == fault::maximum_takes_nan ? (y > x ? y : x) : base::greater(x, y); }
    static f32 lesser(f32 x, f32 y) { return base::lesser(x, active == fault::limit_short ? y - 1.0F : y); }
    static f32 select_at_least(f32 x, f32 limit, f32 yes, f32 no) {
        return active == fault::select_strict ? (x > limit ? yes : no) : base::select_at_least(x, limit, yes, no);
    }
    static i32 to_i32(f32 x) { return base::to_i32(active == fault::integer_of_half && x == 7.0F ? 8.0F : x); }
    static f32 times_power_of_two(f32 x, i32 e) {
        return base::times_power_of_two(x, active == fault::power_too_small && e == -9 ? -10 : e);
    }
    static i32 shift_left(i32 v, int n) { return base::shift_left(v, active == fault::shift_short && n == 15 ? 14 : n); }
    static f32 to_float(i32 v) { return base::to_float(active == fault::convert_low_bit ? v & ~1 : v); }
    template <int Bits>
    static i32 add_dot(i32 sum, const std::uint8_t* c, const std::int8_t* a) {
        std::uint8_t codes[16];
        for (int i = 0; i < 16; ++i) codes[i] = active == fault::dot_forgets_high ? c[i] & 15 : c[i];
        if (active == fault::dot_forgets_last) codes[15] = 0;
        return base::add_dot<Bits>(sum, codes, a);
    }
};

}  // namespace attention_fault
}  // namespace aq

#define AQ_ISA attention_fault
#include "agilequant/kernels/body/rows.hpp"

#include "agilequant/kernels/body/attention_scores.hpp"

#include "agilequant/kernels/body/attention.hpp"
#undef AQ_ISA

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity(), not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr double u = 0x1p-24;

/// The instruction sets that this processor runs.
std::vector<const aq::kernel_table*> all_kernels() {
    std::vector<const aq::kernel_table*> all;
    for (const aq::isa_entry& e : aq::isa_entries) {
        if (e.runs_on(aq::isa::this_cpu())) all.push_back(e.kernels);
    }
    return all;
}
const aq::kernel_table& best() { return *all_kernels().back(); }

/// Case number i of a walk through all codings and widths, with shapes that fit no register.
attention_case case_number(std::size_t i) {
    random_source random(1000 + i);
    constexpr int widths[] = {32, 8, 4};
    constexpr std::size_t dims[] = {1, 8, 15, 16, 17, 32, 40, 64, 80, 100, 128, 256};
    attention_case c;
    c.coding = all_codings[i % 7];
    c.bits = widths[i / 7 % 3];
    c.head_dim = dims[random.below(12)];
    c.kv_heads = 1 + random.below(3);
    c.heads = c.kv_heads * (1 + random.below(3));
    c.length = 1 + random.below(i % 5 == 0 ? 90 : 40);
    c.rows = 1 + random.below(std::min<std::size_t>(c.length, 6));
    c.has_slopes = random.flip();
    c.seed = 1000 + i;
    return c;
}

/// Which cases of the walk differ from scalar's.
std::size_t cases_that_differ(const aq::kernel_table& kernels, std::size_t count) {
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < count; ++i) {
        attention_case c = case_number(i);
        c.has_nan = i % 11 == 10;
        const attention_operands o(c);
        wrong += differing(attend(aq::scalar::table, c, o), attend(kernels, c, o)) == 0 ? 0 : 1;
    }
    return wrong;
}

/// Sums of shifted codes against the same in 64 bits.
template <class Plane, class AddTerms>
void check_exact_sums(int bits, AddTerms add_terms) {
    random_source random(static_cast<std::uint64_t>(bits));
    for (const std::size_t count : sizes{0, 1, 2, 3, 17, 512, 516, 517, 1031, 1033})
        for (const std::size_t channels : sizes{16, 32, 48, 64, 112, 256})
            for (const bool is_extreme : {false, true}) {
                if (bits == 4 && channels != 32) continue;
                CAPTURE(count);
                CAPTURE(channels);
                const std::size_t row_bytes = channels * static_cast<std::size_t>(bits) / 8;
                std::vector<std::uint8_t> rows((count + 1) * row_bytes), zeros(count + 1);
                for (std::uint8_t& b : rows)
                    b = static_cast<std::uint8_t>(is_extreme ? (bits == 8 ? 0x81 : 0xFF) : random.below(256));
                for (std::uint8_t& b : rows) b = bits == 8 && b == 0x80 ? 0x81 : b;  // -128 is no code
                for (std::uint8_t& z : zeros) z = static_cast<std::uint8_t>(is_extreme ? 0 : random.below(256));
                std::vector<aq::attention_term> terms;
                for (std::size_t t = 0; t < count; ++t) {
                    terms.push_back({static_cast<std::uint32_t>(is_extreme ? t : random.below(count)),
                                     is_extreme ? 15 : random.between(1, 15)});
                }
                std::vector<std::int64_t> sums(channels, -1), expected(channels, 0);
                add_terms(Plane{rows.data(), row_bytes, channels, nullptr, zeros.data()}, terms.data(), count, sums.data());
                for (const aq::attention_term& t : terms)
                    for (std::size_t c = 0; c < channels; ++c) {
                        const std::uint8_t byte = rows[t.key * row_bytes + (bits == 8 ? c : c % 16)];
                        const int code =
                            bits == 8 ? static_cast<std::int8_t>(byte) : (byte >> (c < 16 ? 0 : 4) & 15) - (zeros[t.key] >> 4);
                        expected[c] += static_cast<std::int64_t>(code) * (std::int64_t{1} << t.shift);
                    }
                REQUIRE(sums == expected);
            }
}

}  // namespace

TEST_CASE("sums of shifted values are exact integers") {
    check_exact_sums<aq::scalar::value_plane>(8, aq::scalar::add_terms<8>);
    check_exact_sums<aq::scalar::value_plane>(4, aq::scalar::add_terms<4>);
#if AQ_HAS_AVX2
    if (!aq::isa::avx2::runs_on(aq::isa::this_cpu())) return;
    check_exact_sums<aq::avx2::value_plane>(8, aq::avx2::add_terms<8>);
    check_exact_sums<aq::avx2::value_plane>(4, aq::avx2::add_terms<4>);
#endif
}

TEST_CASE("every instruction set has scalar's bits") {
    for (const aq::kernel_table* kernels : all_kernels()) {
        for (std::size_t i = 0; i < 420; ++i) {
            attention_case c = case_number(i);
            c.has_nan = i % 11 == 10;
            CAPTURE(text(c));
            CAPTURE(std::string(kernels->isa));
            const attention_operands o(c);
            REQUIRE(differing(attend(aq::scalar::table, c, o), attend(*kernels, c, o)) == 0);
        }
    }
}

TEST_CASE("that suite finds every wrong operation") {
    namespace faults = aq::attention_fault;
    aq::kernel_table table = aq::scalar::table;
    table.attention = faults::attention;
    for (int f = 0; f < static_cast<int>(faults::fault::count); ++f) {
        CAPTURE(f);
        faults::active = static_cast<faults::fault>(f);
        CHECK((cases_that_differ(table, 210) == 0) == (f == 0));
    }
    faults::active = faults::fault::none;
}

// The scores' errors become relative errors of the weights (ln 2 of each, 2^x to 1.2 units, its argument rounded once); weights are
// summed in 16 lanes, weights times values in the order of keys; a product each, for a coded value two; 1 / sum and the last product.
TEST_CASE("softmax against double") {
    for (std::size_t i = 0; i < 420; i += 7) {
        attention_case c = case_number(i);
        c.length += i % 3 * 100;
        CAPTURE(text(c));
        const attention_operands o(c);
        const attention_outcome r = attend(best(), c, o);
        for (std::size_t row = 0; row < c.rows; ++row)
            for (std::size_t h = 0; h < c.heads; ++h) {
                const expected_row e(c, o, h, row);
                const double n = static_cast<double>(e.t.size()), top = *std::max_element(e.t.begin(), e.t.end());
                double worst = 0;
                for (std::size_t j = 0; j < e.t.size(); ++j) {
                    const double far = std::min(top - e.t[j], 24.0);  // beyond, the weight itself is below the error
                    worst = std::max(worst, std::log(2.0) * (e.score_error[j] + u * far) + 2.4 * u);
                }
                const double relative = 1.01 * (2 * worst + (n + n / 16 + 10) * u);
                REQUIRE(relative < 1e-4);
                for (std::size_t k = 0; k < c.head_dim; ++k) {
                    REQUIRE(std::abs(static_cast<double>(r.out.at(row, h * c.head_dim + k)) - e.out[k]) <=
                            relative * e.magnitude[k]);
                }
                REQUIRE(std::abs(static_cast<double>(r.importance[h * c.rows + row]) - e.importance) <=
                        relative * e.importance + 1e-37);
            }
    }
}

// Codes are integers, so they agree wherever no exponent is within the scores' error of a tie. The rest is one float sum of positive terms (the
// divisor), a mean over planes, and conversions; with a float cache also the sum over the keys.
TEST_CASE("the log2 forms against double") {
    std::size_t compared = 0, near_a_tie = 0;
    for (std::size_t i = 0; i < 840; ++i) {
        const attention_case c = case_number(i);
        if (c.coding == probability_coding::softmax) continue;
        CAPTURE(text(c));
        const attention_operands o(c);
        const attention_outcome r = attend(best(), c, o);
        for (std::size_t row = 0; row < c.rows; ++row)
            for (std::size_t h = 0; h < c.heads; ++h) {
                const expected_row e(c, o, h, row);
                const double score_error = *std::max_element(e.score_error.begin(), e.score_error.end());
                REQUIRE(score_error < 1e-4);
                if (e.distance_from_tie < 4 * score_error + 1e-5) {
                    ++near_a_tie;
                    continue;
                }
                ++compared;
                const double n = static_cast<double>(e.t.size()), relative = 1.01 * (n + n / 16 + 20) * u;
                for (std::size_t k = 0; k < c.head_dim; ++k) {
                    REQUIRE(std::abs(static_cast<double>(r.out.at(row, h * c.head_dim + k)) - e.out[k]) <=
                            relative * e.magnitude[k]);
                }
                REQUIRE(std::abs(static_cast<double>(r.importance[h * c.rows + row]) - e.importance) <= relative * e.importance);
            }
    }
    CAPTURE(compared);
    CHECK(near_a_tie * 20 < compared);
}

TEST_CASE("131072 equal keys") {
    const std::size_t length = 131072, dim = 16;
    for (const int bits : {8, 4}) {
        const float value = bits == 8 ? -127.0F : 15.0F;  // the scale is 1, the code the largest that there is
        aq::kv_cache cache;
        REQUIRE(cache.reset(1, dim, length, bits) == status::ok);
        matrix k(1, dim), v(1, dim), out(1, dim);
        for (std::size_t c = 0; c < dim; ++c) k.at(0, c) = 0.0F, v.at(0, c) = value, out.at(0, c) = 1.0F;
        for (std::size_t t = 0; t < length; ++t) REQUIRE(cache.append(k.view(), v.view()) == status::ok);
        for (const aq::kernel_table* kernels : all_kernels())
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
                job.coding = probability_coding::log2_normalized;  // every probability is 2^-17, which no code holds
                REQUIRE(run(*kernels, job) == status::ok);
                CHECK(out.at(0, 0) == 0.0F);
            }
    }
}

TEST_CASE("a row of a prompt has the bits of a single step") {
    for (std::size_t i = 0; i < 63; ++i) {
        attention_case c = case_number(i);
        c.rows = c.length = 1 + i % 35;
        CAPTURE(text(c));
        const attention_operands o(c);
        const attention_outcome all = attend(best(), c, o);
        aq::kv_cache cache;
        REQUIRE(cache.reset(c.kv_heads, c.head_dim, 64, c.bits) == status::ok);
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

TEST_CASE("grouped heads read the key-value head of their group") {
    for (std::size_t i = 0; i < 42; ++i) {
        attention_case c = case_number(i);
        CAPTURE(text(c));
        const attention_operands o(c);
        const attention_outcome all = attend(best(), c, o);
        for (std::size_t h = 0; h < c.heads; ++h) {
            const std::size_t at = h / (c.heads / c.kv_heads) * c.head_dim;
            aq::kv_cache cache;
            REQUIRE(cache.reset(1, c.head_dim, c.length, c.bits) == status::ok);
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

TEST_CASE("heads one by one, and a result in the place of q") {
    for (std::size_t i = 0; i < 21; ++i) {
        attention_case c = case_number(i);
        c.kv_heads = 2, c.heads = 6;
        CAPTURE(text(c));
        const attention_operands o(c);
        const attention_outcome all = attend(best(), c, o);
        attention_outcome r{matrix(c.rows, all.out.cols, 3), std::vector<float>(c.heads * c.rows)};
        aq::aligned_buffer<std::byte> scratch;
        REQUIRE(scratch.reset(aq::attention_scratch_bytes(o.cache.view().first(o.cache.view().capacity))) == status::ok);
        for (std::size_t h = c.heads; h-- > 0;) {
            REQUIRE(aq::attention(best(), o.job(c, r.out, r.importance), {h, h + 1}, scratch.data(), scratch.size()) ==
                    status::ok);
        }
        CHECK(differing(all, r) == 0);
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
    for (const aq::kernel_table* kernels : all_kernels())
        for (std::size_t i = 0; i < 42; ++i)
            for (const guard side : {guard::before, guard::after}) {
                const attention_case c = case_number(i);
                CAPTURE(text(c));
                const attention_operands o(c);
                const attention_outcome expected = attend(*kernels, c, o);
                aq::kv_view v = o.cache.view();
                const std::size_t rows = v.kv_heads * v.planes() * v.capacity, bytes = rows * v.row_bytes(),
                                  scales = c.bits == 32 ? 0 : rows;
                const guarded<std::uint8_t> keys(static_cast<const std::uint8_t*>(v.keys), bytes, side);
                const guarded<std::uint8_t> values(static_cast<const std::uint8_t*>(v.values), bytes, side);
                const guarded<std::uint16_t> key_scales(v.key_scales, scales, side), value_scales(v.value_scales, scales, side);
                const guarded<std::uint8_t> zeros(v.zeros, c.bits == 4 ? rows : 0, side);
                const guarded<float> q(o.q.data.data(), o.q.data.size() - 1 - (o.q.stride - o.q.cols), side);
                guarded<float> out(c.rows * o.q.cols, side), importance(c.heads * c.rows, side);
                guarded<std::byte> scratch(aq::attention_scratch_bytes(v), side);
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
    const std::size_t bytes = aq::attention_scratch_bytes(good.cache);
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
