/// \file
/// Writes a file of packed weights: entries are named first, then everything streams to a sink in one pass. Data are borrowed until then and held
/// nowhere twice. Equal entries in equal order give equal bytes. The format is in pack/file_format.hpp.
///
///     aq::pack_writer writer;
///     AQ_TRY(writer.add("blocks.0.q", q.view()));
///     AQ_TRY(writer.add("blocks.0.norm", norm));
///     AQ_TRY(writer.add("config.json", std::string_view(json)));
///     AQ_TRY(writer.write({&out, append}));
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/core/crc32c.hpp"
#include "agilequant/core/matrix_view.hpp"
#include "agilequant/core/status.hpp"
#include "agilequant/pack/file_check.hpp"
#include "agilequant/pack/file_format.hpp"
#include "agilequant/pack/packed_matrix.hpp"

namespace aq {

/// Where bytes go, in order; anything but ok ends the writing with that status.
struct byte_sink {
    void* self = nullptr;
    status (*write)(void* self, const void* data, std::size_t size) = nullptr;
};

namespace detail {

/// A list that doubles its room.
template <class T>
class growing_list {
public:
    /// out_of_memory leaves the list as it was.
    [[nodiscard]] status append(const T* from, std::size_t count) noexcept {
        if (count > items_.size() - size_) {
            aligned_buffer<T> larger;
            AQ_TRY(larger.reset(std::max(size_ + count, 2 * size_)));
            if (size_ != 0) std::memcpy(larger.data(), items_.data(), size_ * sizeof(T));
            items_ = std::move(larger);
        }
        if (count != 0) std::memcpy(items_.data() + size_, from, count * sizeof(T));
        size_ += count;
        return status::ok;
    }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] T* data() noexcept { return items_.data(); }
    [[nodiscard]] const T* data() const noexcept { return items_.data(); }
    [[nodiscard]] T& operator[](std::size_t i) noexcept { return items_[i]; }
    [[nodiscard]] const T& operator[](std::size_t i) const noexcept { return items_[i]; }

private:
    aligned_buffer<T> items_;
    std::size_t size_ = 0;
};

/// Passes bytes on, and keeps their checksum since it was last asked for.
class summing_sink {
public:
    explicit summing_sink(byte_sink to) noexcept : to_(to) {}
    [[nodiscard]] status put(const void* data, std::size_t size) noexcept {
        if (size == 0) return status::ok;
        crc_ = crc32c(crc_, data, size);
        at_ += size;
        return to_.write(to_.self, data, size);
    }
    /// Zeros to the next line.
    [[nodiscard]] status put_padding() noexcept {
        static constexpr unsigned char zeros[pack_file_line] = {};
        return put(zeros, static_cast<std::size_t>((pack_file_line - at_ % pack_file_line) % pack_file_line));
    }
    [[nodiscard]] std::uint32_t take_checksum() noexcept { return std::exchange(crc_, 0); }

private:
    byte_sink to_;
    std::uint64_t at_ = 0;
    std::uint32_t crc_ = 0;
};

}  // namespace detail

/// Collects entries and writes them. Names are copied, data are borrowed until write. Move-only.
class pack_writer {
public:
    /// A packed matrix, for the portable tile. Reads all codes, to refuse what pack_file::verify would refuse.
    /// wrong_tile; null_pointer; bad_argument: name, shape, layout or codes are beyond what a file may hold; depth_over_limit; out_of_memory.
    [[nodiscard]] status add(std::string_view name, const packed_weights& w) noexcept {
        if (w.tile != portable_tile::shape) return status::wrong_tile;
        const k_layout_view& l = w.layout;
        item i;
        i.entry.kind = static_cast<std::uint32_t>(pack_kind::matrix);
        i.entry.flags = (w.zeros != nullptr ? pack_has_zeros : 0) | (w.multipliers != nullptr ? pack_has_multipliers : 0) |
                        (l.order != nullptr ? pack_has_order : 0);
        i.entry.rows = w.n;
        i.entry.cols = l.k;
        i.entry.group = l.group;
        i.entry.packed = l.packed;
        i.entry.runs = l.run_count;
        i.entry.bits = static_cast<std::uint32_t>(w.bits);
        i.entry.tile_nr = w.tile.nr;
        i.entry.tile_kr = w.tile.kr;
        const void* const arrays[part_count] = {l.order, l.runs, w.codes, w.scales, w.multipliers, w.zeros, w.offsets};
        std::copy(arrays, arrays + part_count, i.arrays);
        AQ_TRY(complete(i));
        packed_weights checked = w;
        checked.layout.groups = l.k == 0 ? 0 : group_count(l.k, l.group);
        if (check_layout(checked.layout) != status::ok || checked.layout.id != l.id) return status::bad_argument;
        AQ_TRY(check_depth(checked));
        if (check_codes(checked) != status::ok) return status::bad_argument;
        return append(name, i);
    }

    /// A float matrix [rows,cols] of any values; what is between its rows is not written. bad_stride, null_pointer, bad_argument, out_of_memory.
    [[nodiscard]] status add(std::string_view name, matrix_view<const float> values) noexcept {
        AQ_TRY(check(values));
        item i;
        i.entry.kind = static_cast<std::uint32_t>(pack_kind::floats);
        i.entry.rows = values.rows;
        i.entry.cols = values.cols;
        i.arrays[part_values] = values.data;
        i.stride = values.stride;
        AQ_TRY(complete(i));
        return append(name, i);
    }

    /// Bytes. null_pointer, bad_argument, out_of_memory.
    [[nodiscard]] status add(std::string_view name, std::string_view bytes) noexcept {
        item i;
        i.entry.kind = static_cast<std::uint32_t>(pack_kind::bytes);
        i.entry.rows = bytes.size();
        i.entry.cols = 1;
        i.arrays[part_values] = bytes.data();
        AQ_TRY(complete(i));
        return append(name, i);
    }

    /// The size of the file so far, in bytes.
    [[nodiscard]] std::uint64_t file_size() const noexcept { return data_begin() + data_size_; }

    /// Writes the whole file. bad_argument: two entries have one name; null_pointer: no sink; out_of_memory, for the directory; what the sink says.
    [[nodiscard]] status write(byte_sink to) const noexcept {
        if (to.write == nullptr) return status::null_pointer;
        aligned_buffer<std::uint8_t> head;
        AQ_TRY(make_head(head));
        detail::summing_sink out(to);
        AQ_TRY(out.put(head.data(), head.size()));
        static_cast<void>(out.take_checksum());
        for (std::size_t i = 0; i < items_.size(); ++i) AQ_TRY(write_item(items_[i], out));
        return status::ok;
    }

private:
    struct item {
        pack_entry entry{};
        const void* arrays[part_count] = {};
        std::size_t stride = 0;  ///< of a float matrix
        std::size_t name = 0;    ///< where it begins in names_
    };

    /// Plans the parts of an entry; null_pointer where one with bytes has no array.
    [[nodiscard]] static status complete(item& i) noexcept {
        pack_parts parts;
        if (plan_parts(i.entry, parts) != status::ok) return status::bad_argument;
        for (std::size_t p = 0; p < part_count; ++p) {
            if (parts.at[p].size != 0 && i.arrays[p] == nullptr) return status::null_pointer;
        }
        i.entry.data_size = parts.checksum + pack_file_line;
        return status::ok;
    }

    [[nodiscard]] status append(std::string_view name, item& i) noexcept {
        if (!is_pack_name(name) || items_.size() == max_pack_entries) return status::bad_argument;
        i.name = names_.size();
        i.entry.name_size = name.size();
        i.entry.data = data_size_;  // from the begin of all data; their place follows when all names are known
        AQ_TRY(names_.append(name.data(), name.size()));
        AQ_TRY(items_.append(&i, 1));
        names_size_ += name.size();  // names_ itself may hold one more, whose entry found no memory
        data_size_ += i.entry.data_size;
        return status::ok;
    }

    [[nodiscard]] std::string_view name_of(const item& i) const noexcept {
        return {names_.data() + i.name, static_cast<std::size_t>(i.entry.name_size)};
    }
    [[nodiscard]] std::uint64_t names_begin() const noexcept { return sizeof(pack_header) + items_.size() * sizeof(pack_entry); }
    [[nodiscard]] std::uint64_t data_begin() const noexcept { return round_up(names_begin() + names_size_, pack_file_line); }

    /// Header, directory and names, with their checksum.
    [[nodiscard]] status make_head(aligned_buffer<std::uint8_t>& head) const noexcept {
        aligned_buffer<std::uint32_t> sorted, rank;  // items by name; the place of an item among them
        AQ_TRY(sorted.reset(items_.size()));
        AQ_TRY(rank.reset(items_.size()));
        for (std::size_t i = 0; i < items_.size(); ++i) sorted[i] = static_cast<std::uint32_t>(i);
        std::sort(sorted.begin(), sorted.end(),
                  [&](std::uint32_t a, std::uint32_t b) { return name_of(items_[a]) < name_of(items_[b]); });
        for (std::size_t i = 0; i < items_.size(); ++i) {
            rank[sorted[i]] = static_cast<std::uint32_t>(i);
            if (i != 0 && name_of(items_[sorted[i - 1]]) == name_of(items_[sorted[i]])) return status::bad_argument;
        }
        AQ_TRY(head.reset(static_cast<std::size_t>(data_begin())));
        std::uint64_t at = names_begin();
        for (std::size_t i = 0; i < items_.size(); ++i) {
            const item& from = items_[sorted[i]];
            pack_entry e = from.entry;
            e.name = at;
            e.data += data_begin();
            e.next = sorted[i] + 1 < items_.size() ? rank[sorted[i] + 1] : items_.size();
            std::memcpy(head.data() + sizeof(pack_header) + i * sizeof e, &e, sizeof e);
            std::memcpy(head.data() + at, name_of(from).data(), name_of(from).size());
            at += e.name_size;
        }
        pack_header h{};
        std::memcpy(h.magic, pack_file_magic, sizeof h.magic);
        h.major = pack_file_major;
        h.minor = pack_file_minor;
        h.file_size = file_size();
        h.entries = items_.size();
        h.names_size = names_size_;
        h.data = data_begin();
        h.first = items_.size() == 0 ? 0 : rank[0];
        std::memcpy(head.data(), &h, sizeof h);
        h.checksum = crc32c(0, head.data(), head.size());
        std::memcpy(head.data(), &h, sizeof h);
        return status::ok;
    }

    [[nodiscard]] static status write_item(const item& i, detail::summing_sink& out) noexcept {
        pack_parts parts;
        AQ_TRY(plan_parts(i.entry, parts));
        const pack_kind kind = static_cast<pack_kind>(i.entry.kind);
        for (std::size_t p = 0; p < part_count; ++p) {
            const std::size_t size = static_cast<std::size_t>(parts.at[p].size);
            if (kind == pack_kind::matrix && p == part_runs) AQ_TRY(write_runs(static_cast<const k_run*>(i.arrays[p]), i, out));
            else if (kind == pack_kind::floats && p == part_values) AQ_TRY(write_rows(i, out));
            else AQ_TRY(out.put(i.arrays[p], size));
            AQ_TRY(out.put_padding());
        }
        const std::uint32_t checksum = out.take_checksum();
        AQ_TRY(out.put(&checksum, sizeof checksum));
        AQ_TRY(out.put_padding());
        static_cast<void>(out.take_checksum());
        return status::ok;
    }

    [[nodiscard]] static status write_rows(const item& i, detail::summing_sink& out) noexcept {
        const float* const values = static_cast<const float*>(i.arrays[part_values]);
        for (std::size_t r = 0; r < i.entry.rows && i.entry.cols != 0; ++r)
            AQ_TRY(out.put(values + r * i.stride, static_cast<std::size_t>(i.entry.cols) * sizeof(float)));
        return status::ok;
    }

    /// Field by field, since the byte behind a run's truth value holds anything in memory.
    [[nodiscard]] static status write_runs(const k_run* runs, const item& i, detail::summing_sink& out) noexcept {
        for (std::size_t r = 0; r < i.entry.runs; ++r) {
            unsigned char record[sizeof(k_run)] = {};
            std::memcpy(record + offsetof(k_run, begin), &runs[r].begin, sizeof runs[r].begin);
            std::memcpy(record + offsetof(k_run, end), &runs[r].end, sizeof runs[r].end);
            record[offsetof(k_run, exponent)] = runs[r].exponent;
            record[offsetof(k_run, shift)] = runs[r].shift;
            record[offsetof(k_run, ends_group)] = runs[r].ends_group ? 1 : 0;
            AQ_TRY(out.put(record, sizeof record));
        }
        return status::ok;
    }

    detail::growing_list<item> items_;
    detail::growing_list<char> names_;
    std::uint64_t names_size_ = 0, data_size_ = 0;
};

}  // namespace aq
