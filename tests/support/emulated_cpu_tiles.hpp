/// \file
/// The tile registers of AMX, palette 1, as the Intel manual defines them. What would be #GP or #UD on hardware stops the program
/// with a sentence that says why. A signal handler calls all of this: it allocates, locks and throws nothing.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "support/emulated_cpu_decode.hpp"

namespace aq_test {

/// The last words of an emulated instruction: text << text << number, then stop().
class last_words {
public:
    explicit last_words(emulated kind) { *this << "emulated " << emulated_names[static_cast<int>(kind)] << ": "; }

    last_words& operator<<(const char* text) {
        while (*text != '\0') put(*text++);
        return *this;
    }
    last_words& operator<<(std::size_t number) {
        if (number >= 10) *this << number / 10;
        put(static_cast<char>('0' + number % 10));
        return *this;
    }
    [[noreturn]] void stop() {
        put('\n');
        if (write(STDERR_FILENO, text_, length_) < 0) std::abort();
        std::abort();
    }

private:
    void put(char c) {
        if (length_ < sizeof(text_)) text_[length_++] = c;
    }
    char text_[256] = {};
    std::size_t length_ = 0;
};

/// 64 bytes in memory, as ldtilecfg takes them.
struct tile_config {
    std::uint8_t palette = 0, start_row = 0, reserved[14] = {};
    std::uint16_t colsb[16] = {};  ///< bytes in a row; from 8 on reserved
    std::uint8_t rows[16] = {};    ///< from 8 on reserved
};
static_assert(sizeof(tile_config) == 64);

class emulated_tiles {
public:
    static constexpr std::size_t names = 8, max_rows = 16, max_colsb = 64;

    bool configured() const { return config_.palette != 0; }

    void load_config(const void* from) {
        tile_config c;
        std::memcpy(&c, from, sizeof(c));
        if (c.palette != 0) check(c);
        *this = {};
        if (c.palette != 0) config_ = c;
    }
    void store_config(void* to) const { std::memcpy(to, &config_, sizeof(config_)); }

    void zero(int t) {
        valid(emulated::tilezero, t);
        std::memset(data_[t], 0, sizeof(data_[t]));
        config_.start_row = 0;
    }
    /// Rows from `base` on, `stride` bytes from one to the next.
    void load(emulated kind, int t, std::uint64_t base, std::uint64_t stride) {
        movable(kind, t);
        for (std::size_t r = config_.start_row; r < config_.rows[t]; ++r)
            std::memcpy(data_[t][r], memory_at(base + r * stride), config_.colsb[t]);
        config_.start_row = 0;
    }
    void store(int t, std::uint64_t base, std::uint64_t stride) {
        movable(emulated::tilestored, t);
        for (std::size_t r = config_.start_row; r < config_.rows[t]; ++r)
            std::memcpy(memory_at(base + r * stride), data_[t][r], config_.colsb[t]);
        config_.start_row = 0;
    }

    /// c[m,n] += a[m,4k] b[k,4n]: four bytes of a row of a by four neighbouring bytes of b, sums in 32 bits that wrap.
    void multiply(emulated kind, int c, int a, int b) {
        check_product(kind, c, a, b);
        const bool a_signed = kind == emulated::tdpbssd || kind == emulated::tdpbsud;
        const bool b_signed = kind == emulated::tdpbssd || kind == emulated::tdpbusd;
        for (std::size_t m = 0; m < config_.rows[c]; ++m) {
            for (std::size_t n = 0; n < config_.colsb[c]; n += 4) {
                std::uint32_t sum;
                std::memcpy(&sum, data_[c][m] + n, 4);
                for (std::size_t k = 0; k < config_.colsb[a]; ++k)
                    sum += static_cast<std::uint32_t>(widened(data_[a][m][k], a_signed) *
                                                      widened(data_[b][k / 4][n + k % 4], b_signed));
                std::memcpy(data_[c][m] + n, &sum, 4);
            }
        }
        config_.start_row = 0;
    }

private:
    static int widened(std::uint8_t byte, bool is_signed) { return is_signed && byte >= 128 ? byte - 256 : byte; }

    static bool any(const void* bytes, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            if (static_cast<const std::uint8_t*>(bytes)[i] != 0) return true;
        }
        return false;
    }

    static last_words refusal(emulated kind, int t) { return last_words(kind) << "tile " << static_cast<std::size_t>(t) << ": "; }

    static void check(const tile_config& c) {
        last_words words(emulated::ldtilecfg);
        if (c.palette != 1) (words << "palette " << c.palette << ", there are 0 and 1 (#GP)").stop();
        if (any(c.reserved, sizeof(c.reserved)) || any(c.colsb + names, 2 * names) || any(c.rows + names, names))
            (words << "a reserved byte is not 0 (#GP)").stop();
        for (std::size_t t = 0; t < names; ++t) {
            words << "tile " << t << ": rows " << c.rows[t] << ", colsb " << c.colsb[t];
            if (c.rows[t] > max_rows) (words << ", at most 16 rows (#GP)").stop();
            if (c.colsb[t] > max_colsb) (words << ", at most 64 bytes (#GP)").stop();
            if ((c.rows[t] == 0) != (c.colsb[t] == 0)) (words << ", only one of them is 0 (#GP)").stop();
            words = last_words(emulated::ldtilecfg);
        }
    }
    void valid(emulated kind, int t) const {
        if (!configured()) (last_words(kind) << "no ldtilecfg before it in this thread (#UD)").stop();
        if (config_.rows[t] == 0) (refusal(kind, t) << "not in the configuration (#UD)").stop();
    }
    void whole_dwords(emulated kind, int t) const {
        if (config_.colsb[t] % 4 != 0) (refusal(kind, t) << "colsb " << config_.colsb[t] << " is no multiple of 4 (#UD)").stop();
    }
    void movable(emulated kind, int t) const {
        valid(kind, t);
        whole_dwords(kind, t);
        if (config_.start_row >= config_.rows[t])
            (refusal(kind, t) << "start_row " << config_.start_row << " of " << config_.rows[t] << " rows (#UD)").stop();
    }
    void check_product(emulated kind, int c, int a, int b) const {
        if (c == a || c == b || a == b) (last_words(kind) << "a tile stands twice among its operands (#UD)").stop();
        for (int t : {c, a, b}) {
            valid(kind, t);
            whole_dwords(kind, t);
        }
        const auto agree = [kind](std::size_t left, std::size_t right, const char* what) {
            if (left != right) (last_words(kind) << what << ": " << left << " and " << right << " (#UD)").stop();
        };
        agree(config_.rows[c], config_.rows[a], "rows of the sum and of the first factor");
        agree(config_.colsb[c], config_.colsb[b], "colsb of the sum and of the second factor");
        agree(config_.colsb[a] / 4U, config_.rows[b], "colsb / 4 of the first factor and rows of the second");
    }

    tile_config config_;
    /// Beyond rows and colsb always zero, as hardware makes it anew with each instruction: here the configuration zeroes everything
    /// and nothing writes there.
    std::uint8_t data_[names][max_rows][max_colsb] = {};
};

}  // namespace aq_test
