/// \file
/// The format of a file of packed weights: its header, its directory, its limits, and where the parts of an entry stand. Normative beside
/// docs/pack-file.md, which has it as tables and an example. Numbers are little-endian; every range begins on a line of 64 bytes.
///
///     header [64] | directory [entries][128], sorted by name | names | zeros to a line | data of the entries, in any order
///     data of an entry: its parts, each followed by zeros to a line | checksum line [64]: CRC-32C of what is before, 60 zeros
///
/// Every byte has one meaning and one place, so equal contents in equal order are equal files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "agilequant/core/bits.hpp"
#include "agilequant/pack/k_layout.hpp"
#include "agilequant/pack/packed_matrix.hpp"
#include "agilequant/pack/tile.hpp"

namespace aq {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && sizeof(std::size_t) == 8,
              "aq: files are used in place, which takes a little-endian 64-bit machine.");

/// As PNG's: a transfer that takes the file for text breaks one of the last five.
inline constexpr unsigned char pack_file_magic[8] = {'A', 'Q', 'P', 'K', '\r', '\n', 0x1A, '\n'};

/// Another major version is refused. A newer minor version may have kinds of entries beyond these, which are passed over.
inline constexpr std::uint16_t pack_file_major = 1, pack_file_minor = 0;

inline constexpr std::uint64_t pack_file_line = 64;
inline constexpr std::uint64_t max_pack_entries = std::uint64_t{1} << 20;
inline constexpr std::uint64_t max_pack_name = 255;                          ///< bytes
inline constexpr std::uint64_t max_pack_dimension = std::uint64_t{1} << 24;  ///< rows and columns of matrices
inline constexpr std::uint64_t max_pack_bytes = std::uint64_t{1} << 40;      ///< of an entry of bytes
inline constexpr std::uint64_t max_pack_file_size = std::uint64_t{1} << 62;  ///< so that no sum of sizes wraps

enum class pack_kind : std::uint32_t { none = 0, matrix = 1, floats = 2, bytes = 3 };

/// Bits of pack_entry::flags, for packed matrices.
inline constexpr std::uint32_t pack_has_zeros = 1, pack_has_multipliers = 2, pack_has_order = 4;

struct pack_header {
    unsigned char magic[8];
    std::uint16_t major, minor;
    std::uint32_t checksum;   ///< CRC-32C of the bytes before `data`, with zeros in this place
    std::uint64_t file_size;  ///< bytes
    std::uint64_t entries;
    std::uint64_t names_size;  ///< bytes of all names
    std::uint64_t data;        ///< where the data of the entries begin: the line after the names
    std::uint64_t first;       ///< index of the entry whose data come first; `entries` where there is none
    std::uint64_t reserved;    ///< 0
};

struct pack_entry {
    std::uint64_t name, name_size;  ///< bytes from the file's begin; names follow each other in the order of the directory
    std::uint64_t data, data_size;  ///< bytes from the file's begin, the checksum line included
    std::uint64_t next;             ///< index of the entry whose data follow; `entries` for the last
    std::uint32_t kind;             ///< pack_kind
    std::uint32_t flags;
    std::uint64_t rows, cols;  ///< n and k of a packed matrix; bytes: their number, and 1
    // of packed matrices, else 0:
    std::uint64_t group, packed, runs;  ///< as in k_layout_view
    std::uint32_t bits;
    std::uint16_t tile_nr, tile_kr;
    std::uint64_t reserved[4];  ///< 0
};

static_assert(sizeof(pack_header) == 64 && sizeof(pack_entry) == 128 && sizeof(float) == 4);
static_assert(offsetof(pack_header, checksum) == 12 && offsetof(pack_header, first) == 48);
static_assert(offsetof(pack_entry, kind) == 40 && offsetof(pack_entry, rows) == 48 && offsetof(pack_entry, bits) == 88);
static_assert(std::is_trivially_copyable_v<pack_header> && std::is_trivially_copyable_v<pack_entry>);

// Runs stand in the file as they do in memory: begin, end, exponent, shift, whether the group ends, a zero.
static_assert(sizeof(k_run) == 12 && offsetof(k_run, begin) == 0 && offsetof(k_run, end) == 4 && offsetof(k_run, exponent) == 8 &&
              offsetof(k_run, shift) == 9 && offsetof(k_run, ends_group) == 10 && sizeof(bool) == 1);

/// The parts of a packed matrix, in the order in which they stand. The other kinds have one part, the first.
enum pack_part : std::size_t {
    part_order,
    part_runs,
    part_codes,
    part_scales,
    part_multipliers,
    part_zeros,
    part_offsets,
    pack_part_count,
    part_values = 0
};

/// Where the parts of an entry stand, in bytes from the begin of its data.
struct pack_parts {
    struct range {
        std::uint64_t begin = 0, size = 0;
    };
    range at[pack_part_count];
    std::uint64_t checksum = 0;  ///< where the checksum line begins
};

namespace detail {

/// Lays parts one after the other, each on a line of its own; remembers whether 64 bits were too few.
class part_planner {
public:
    void add(pack_part part, std::uint64_t count, std::uint64_t each) noexcept {
        pack_parts::range& range = parts_.at[part];
        range.begin = parts_.checksum;
        is_sound_ = is_sound_ && !__builtin_mul_overflow(count, each, &range.size) &&
                    !__builtin_add_overflow(range.begin, range.size, &parts_.checksum) &&
                    !__builtin_add_overflow(parts_.checksum, pack_file_line - 1, &parts_.checksum);
        parts_.checksum -= parts_.checksum % pack_file_line;
    }
    [[nodiscard]] status finish(pack_parts& out) const noexcept {
        out = parts_;
        return is_sound_ ? status::ok : status::bad_file;
    }

private:
    pack_parts parts_;
    bool is_sound_ = true;
};

/// Whether the numbers of a packed matrix are ones that a k_layout can have; its table of runs is not looked at.
[[nodiscard]] inline bool is_possible_matrix(const pack_entry& e) noexcept {
    constexpr std::uint32_t known_flags = pack_has_zeros | pack_has_multipliers | pack_has_order;
    const bool has_order = (e.flags & pack_has_order) != 0, is_two_level = (e.flags & pack_has_multipliers) != 0;
    if (e.rows > max_pack_dimension || e.cols > max_pack_dimension || (e.flags & ~known_flags) != 0) return false;
    if (e.bits < 2 || e.bits > (is_two_level ? 7U : 8U)) return false;
    if (tile_shape{e.tile_nr, e.tile_kr} != portable_tile::shape) return false;
    if (e.rows == 0 || e.cols == 0) {  // no such bytes exist, so no flag says that they do
        if ((e.flags & ~pack_has_order) != 0) return false;
    }
    if (e.cols == 0) return e.group == 0 && e.packed == 0 && e.runs == 0 && !has_order;
    if (e.group == 0 || e.group > e.cols || e.packed > 0xFFFFFFFFU || e.packed < e.cols || e.packed % k_step != 0) return false;
    const std::uint64_t groups = group_count(e.cols, e.group);
    return e.runs >= groups && e.runs <= groups + static_cast<std::uint64_t>(max_exponent) && (has_order || e.packed == e.cols);
}

[[nodiscard]] inline status matrix_parts(const pack_entry& e, pack_parts& out) noexcept {
    if (!is_possible_matrix(e)) return status::bad_file;
    // lanes and groups are at most 2^24 and a panel's bytes less than 2^36; what the planner multiplies and adds it checks
    const std::uint64_t panels = portable_tile::panels(e.rows), lanes = panels * portable_tile::nr;
    const std::uint64_t groups = e.cols == 0 ? 0 : group_count(e.cols, e.group);
    const std::uint64_t panel_bytes = portable_tile::panel_bytes(e.packed, static_cast<int>(e.bits));
    const bool is_two_level = (e.flags & pack_has_multipliers) != 0;
    part_planner plan;
    plan.add(part_order, (e.flags & pack_has_order) != 0 ? e.packed : 0, sizeof(std::uint32_t));
    plan.add(part_runs, e.runs, sizeof(k_run));
    plan.add(part_codes, panels, panel_bytes);
    plan.add(part_scales, lanes * (is_two_level ? 1 : groups), sizeof(float));
    plan.add(part_multipliers, is_two_level ? lanes : 0, groups);
    plan.add(part_zeros, (e.flags & pack_has_zeros) != 0 ? lanes : 0, groups);
    plan.add(part_offsets, lanes, sizeof(float));
    return plan.finish(out);
}

}  // namespace detail

/// Where the parts of an entry stand, as they follow from its kind and shape, which are held against the limits. bad_file.
[[nodiscard]] inline status plan_parts(const pack_entry& e, pack_parts& out) noexcept {
    const pack_kind kind = static_cast<pack_kind>(e.kind);
    if (kind == pack_kind::matrix) return detail::matrix_parts(e, out);
    const bool is_plain = (e.flags | e.group | e.packed | e.runs | e.bits | e.tile_nr | e.tile_kr) == 0;
    const bool is_floats = kind == pack_kind::floats && e.rows <= max_pack_dimension && e.cols <= max_pack_dimension;
    const bool is_bytes = kind == pack_kind::bytes && e.rows <= max_pack_bytes && e.cols == 1;
    if (!is_plain || !(is_floats || is_bytes)) return status::bad_file;
    detail::part_planner plan;
    plan.add(part_values, e.rows * e.cols, is_floats ? sizeof(float) : 1);  // at most 2^48 elements
    return plan.finish(out);
}

/// Whether a name is 1 to 255 bytes of well-formed UTF-8 (Unicode 15, table 3-7) without control characters.
[[nodiscard]] inline bool is_pack_name(std::string_view name) noexcept {
    if (name.empty() || name.size() > max_pack_name) return false;
    for (std::size_t i = 0; i < name.size();) {
        const auto byte = [&](std::size_t at) { return at < name.size() ? static_cast<unsigned char>(name[at]) : 0U; };
        const unsigned lead = byte(i), second = byte(i + 1);
        const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
        if (length == 1 ? lead < 0x20 || lead == 0x7F : lead < 0xC2 || lead > 0xF4) return false;
        for (std::size_t j = 1; j < length; ++j) {
            if (byte(i + j) >> 6 != 2) return false;
        }
        // no longer form of a shorter one, no surrogate, nothing beyond U+10FFFF, and of U+0080 to U+009F none
        if ((lead == 0xC2 && second < 0xA0) || (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F)) return false;
        if ((lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) return false;
        i += length;
    }
    return true;
}

}  // namespace aq
