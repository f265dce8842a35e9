/// \file
/// Reads a file of packed weights in place: the caller maps it into memory, views point into it, nothing is copied or allocated. The format is in
/// pack/file_format.hpp and docs/pack-file.md.
///
///     aq::pack_file file;
///     AQ_TRY(file.open(bytes, size));
///     aq::packed_weights q;
///     AQ_TRY(file.matrix("blocks.0.q", q));
///
/// Any bytes may be given. What is promised by which call:
///
/// | call | reads | promises |
/// |---|---|---|
/// | open | header, directory, names | they are undamaged; every entry is whole, inside the file, and overlaps no other |
/// | matrix | order and runs of the entry | the layout is one that k_layout::make makes: whatever the codes are, no kernel leaves the arrays of the view |
/// | verify | all of the entry | its data are undamaged; codes, zero points and multipliers keep to their limits, so that no sum overflows; scales are finite |
///
/// Without verify, damage in scales and codes gives wrong numbers. The bytes must stay as they are while the file or a view is in use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "agilequant/core/crc32c.hpp"
#include "agilequant/core/matrix_view.hpp"
#include "agilequant/core/status.hpp"
#include "agilequant/pack/file_check.hpp"
#include "agilequant/pack/file_format.hpp"
#include "agilequant/pack/packed_matrix.hpp"

namespace aq {

/// A file of packed weights that somebody else holds in memory. Trivially copyable.
class pack_file {
public:
    /// Checks header and directory of the `size` bytes, which begin on a line of 64 bytes, as mappings do. O(entries).
    /// null_pointer; bad_argument: not so aligned; bad_file; wrong_version; bad_checksum. After a failure the file has no entries.
    [[nodiscard]] status open(const void* bytes, std::size_t size) noexcept {
        *this = pack_file();
        pack_file f;
        AQ_TRY(f.read_header(bytes, size));
        AQ_TRY(f.check_directory());
        AQ_TRY(f.check_places());
        *this = f;
        return status::ok;
    }

    /// The number of entries.
    [[nodiscard]] std::size_t size() const noexcept { return static_cast<std::size_t>(header_.entries); }

    /// Of entry i < size(), in the order of the names' bytes.
    [[nodiscard]] std::string_view name(std::size_t i) const noexcept { return name_of(entry(i)); }
    /// A kind of a newer minor version has a number that pack_kind does not name.
    [[nodiscard]] pack_kind kind(std::size_t i) const noexcept { return static_cast<pack_kind>(entry(i).kind); }

    /// The index of an entry; size() where there is none of that name.
    [[nodiscard]] std::size_t find(std::string_view wanted) const noexcept {
        std::size_t low = 0, high = size();
        while (low < high) {
            const std::size_t middle = low + (high - low) / 2;
            if (name(middle) < wanted) low = middle + 1;
            else high = middle;
        }
        return low < size() && name(low) == wanted ? low : size();
    }

    /// The packed matrix [n,k] of that name, its arrays and its layout in the file. See the file's head. O(k).
    /// no_such_entry; bad_file: its layout is none; depth_over_limit.
    [[nodiscard]] status matrix(std::string_view wanted, packed_weights& out) const noexcept {
        pack_entry e{};
        AQ_TRY(find(wanted, pack_kind::matrix, e));
        return view_of(e, out);
    }

    /// The float matrix [rows,cols] of that name, in the file. Its values may be any. no_such_entry.
    [[nodiscard]] status floats(std::string_view wanted, matrix_view<const float>& out) const noexcept {
        pack_entry e{};
        AQ_TRY(find(wanted, pack_kind::floats, e));
        pack_parts parts;
        AQ_TRY(plan_parts(e, parts));
        out = {part<float>(e, parts, part_values), static_cast<std::size_t>(e.rows), static_cast<std::size_t>(e.cols)};
        return status::ok;
    }

    /// The bytes of that name, in the file. no_such_entry.
    [[nodiscard]] status bytes(std::string_view wanted, std::string_view& out) const noexcept {
        pack_entry e{};
        AQ_TRY(find(wanted, pack_kind::bytes, e));
        out = {reinterpret_cast<const char*>(bytes_ + e.data), static_cast<std::size_t>(e.rows)};
        return status::ok;
    }

    /// Reads all of entry i < size(): see the file's head. bad_checksum; bad_file; depth_over_limit. Of a kind that is not known, the checksum alone.
    [[nodiscard]] status verify(std::size_t i) const noexcept {
        const pack_entry e = entry(i);
        const std::uint8_t *const data = bytes_ + e.data, *const line = data + e.data_size - pack_file_line;
        std::uint32_t expected = 0;
        std::memcpy(&expected, line, sizeof expected);
        if (crc32c(0, data, static_cast<std::size_t>(line - data)) != expected) return status::bad_checksum;
        if (!is_zero(line + sizeof expected, pack_file_line - sizeof expected)) return status::bad_file;
        if (e.kind > newest_kind) return status::ok;
        pack_parts parts;
        AQ_TRY(plan_parts(e, parts));
        for (std::size_t p = 0; p < pack_part_count; ++p) {
            const std::uint64_t end = parts.at[p].begin + parts.at[p].size;
            if (!is_zero(data + end, (pack_file_line - end % pack_file_line) % pack_file_line)) return status::bad_file;
        }
        if (kind(i) != pack_kind::matrix) return status::ok;
        packed_weights w;
        AQ_TRY(view_of(e, w));
        return check_codes(w);
    }

    /// The same for the entry of that name. no_such_entry besides.
    [[nodiscard]] status verify(std::string_view wanted) const noexcept {
        const std::size_t i = find(wanted);
        return i == size() ? status::no_such_entry : verify(i);
    }

    /// All entries; the first thing that is wrong.
    [[nodiscard]] status verify_all() const noexcept {
        for (std::size_t i = 0; i < size(); ++i) AQ_TRY(verify(i));
        return status::ok;
    }

private:
    static constexpr std::uint32_t newest_kind = static_cast<std::uint32_t>(pack_kind::bytes);

    [[nodiscard]] static bool is_zero(const std::uint8_t* p, std::uint64_t count) noexcept {
        std::uint8_t all = 0;
        for (std::uint64_t i = 0; i < count; ++i) all = static_cast<std::uint8_t>(all | p[i]);
        return all == 0;
    }

    [[nodiscard]] status read_header(const void* bytes, std::size_t size) noexcept {
        if (bytes == nullptr) return status::null_pointer;
        if (reinterpret_cast<std::uintptr_t>(bytes) % pack_file_line != 0) return status::bad_argument;
        if (size < sizeof header_) return status::bad_file;
        bytes_ = static_cast<const std::uint8_t*>(bytes);
        std::memcpy(&header_, bytes, sizeof header_);
        if (std::memcmp(header_.magic, pack_file_magic, sizeof pack_file_magic) != 0) return status::bad_file;
        if (header_.major != pack_file_major) return status::wrong_version;
        if (header_.file_size != size || header_.entries > max_pack_entries || header_.reserved != 0) return status::bad_file;
        if (header_.names_size > header_.entries * max_pack_name) return status::bad_file;
        const std::uint64_t names_end = sizeof header_ + header_.entries * sizeof(pack_entry) + header_.names_size;  // below 2^29
        if (header_.data != round_up(names_end, pack_file_line) || header_.data > size) return status::bad_file;
        if (checksum_of_directory() != header_.checksum) return status::bad_checksum;
        return is_zero(bytes_ + names_end, header_.data - names_end) ? status::ok : status::bad_file;
    }

    [[nodiscard]] std::uint32_t checksum_of_directory() const noexcept {
        constexpr std::size_t place = offsetof(pack_header, checksum), behind = place + sizeof header_.checksum;
        constexpr std::uint8_t zeros[sizeof header_.checksum] = {};
        const std::uint32_t crc = crc32c(crc32c(0, bytes_, place), zeros, sizeof zeros);
        return crc32c(crc, bytes_ + behind, static_cast<std::size_t>(header_.data) - behind);
    }

    [[nodiscard]] pack_entry entry(std::size_t i) const noexcept {
        pack_entry e;
        std::memcpy(&e, bytes_ + sizeof header_ + i * sizeof e, sizeof e);
        return e;
    }
    [[nodiscard]] std::string_view name_of(const pack_entry& e) const noexcept {
        return {reinterpret_cast<const char*>(bytes_ + e.name), static_cast<std::size_t>(e.name_size)};
    }

    /// Names follow each other, fill their place and rise; shapes are legal and say how many bytes there are.
    [[nodiscard]] status check_directory() const noexcept {
        const std::uint64_t begin = sizeof header_ + header_.entries * sizeof(pack_entry);
        std::uint64_t at = begin;
        std::string_view before;
        for (std::size_t i = 0; i < size(); ++i) {
            const pack_entry e = entry(i);
            if (e.name != at || e.name_size > header_.names_size - (at - begin)) return status::bad_file;
            at += e.name_size;
            const std::string_view own = name_of(e);
            if (!is_pack_name(own) || (i != 0 && !(before < own))) return status::bad_file;
            before = own;
            if (e.kind > newest_kind && header_.minor > pack_file_minor) continue;
            pack_parts parts;
            AQ_TRY(plan_parts(e, parts));
            if ((e.reserved[0] | e.reserved[1] | e.reserved[2] | e.reserved[3]) != 0) return status::bad_file;
            std::uint64_t expected = 0;
            if (__builtin_add_overflow(parts.checksum, pack_file_line, &expected) || e.data_size != expected)
                return status::bad_file;
        }
        return at - begin == header_.names_size ? status::ok : status::bad_file;
    }

    /// From the first entry along `next`, every entry's data begin where the ones before end, and the last end with the file. No entry can come
    /// twice, since places rise; so all come once.
    [[nodiscard]] status check_places() const noexcept {
        std::uint64_t i = header_.first, at = header_.data;
        for (std::uint64_t count = 0; count < header_.entries; ++count) {
            if (i >= header_.entries) return status::bad_file;
            const pack_entry e = entry(static_cast<std::size_t>(i));
            const bool is_whole = e.data_size >= pack_file_line && e.data_size % pack_file_line == 0;
            if (e.data != at || !is_whole || e.data_size > header_.file_size - at) return status::bad_file;
            at += e.data_size;
            i = e.next;
        }
        return i == header_.entries && at == header_.file_size ? status::ok : status::bad_file;
    }

    [[nodiscard]] status find(std::string_view wanted, pack_kind kind, pack_entry& out) const noexcept {
        const std::size_t i = find(wanted);
        if (i == size()) return status::no_such_entry;
        out = entry(i);
        return out.kind == static_cast<std::uint32_t>(kind) ? status::ok : status::no_such_entry;
    }

    /// Null where the part has no bytes, as an owner's arrays are.
    template <class T>
    [[nodiscard]] const T* part(const pack_entry& e, const pack_parts& parts, pack_part which) const noexcept {
        const pack_parts::range range = parts.at[which];
        return range.size == 0 ? nullptr : reinterpret_cast<const T*>(bytes_ + e.data + range.begin);
    }

    /// Whether the runs' truth values are 0 or 1, without which they may not be read as what they are, and the bytes behind them zero.
    [[nodiscard]] static bool are_runs_readable(const k_run* runs, std::size_t count) noexcept {
        const std::uint8_t* const bytes = reinterpret_cast<const std::uint8_t*>(runs);
        std::uint8_t wrong = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint8_t* const tail = bytes + i * sizeof(k_run) + offsetof(k_run, ends_group);
            wrong = static_cast<std::uint8_t>(wrong | (tail[0] & 0xFEU) | tail[1]);
        }
        return wrong == 0;
    }

    [[nodiscard]] status view_of(const pack_entry& e, packed_weights& out) const noexcept {
        pack_parts parts;
        AQ_TRY(plan_parts(e, parts));
        packed_weights w;
        w.bits = static_cast<int>(e.bits);
        w.tile = {e.tile_nr, e.tile_kr};
        w.n = static_cast<std::size_t>(e.rows);
        w.codes = part<std::uint8_t>(e, parts, part_codes);
        w.scales = part<float>(e, parts, part_scales);
        w.multipliers = part<std::uint8_t>(e, parts, part_multipliers);
        w.zeros = part<std::uint8_t>(e, parts, part_zeros);
        w.offsets = part<float>(e, parts, part_offsets);
        k_layout_view& l = w.layout;
        l.k = static_cast<std::size_t>(e.cols);
        l.packed = static_cast<std::size_t>(e.packed);
        l.group = static_cast<std::size_t>(e.group);
        l.groups = l.k == 0 ? 0 : group_count(l.k, l.group);
        l.order = part<std::uint32_t>(e, parts, part_order);
        l.runs = part<k_run>(e, parts, part_runs);
        l.run_count = static_cast<std::size_t>(e.runs);
        if (!are_runs_readable(l.runs, l.run_count)) return status::bad_file;
        AQ_TRY(check_layout(l));
        AQ_TRY(check_depth(w));
        out = w;
        return status::ok;
    }

    const std::uint8_t* bytes_ = nullptr;
    pack_header header_{};
};

}  // namespace aq
