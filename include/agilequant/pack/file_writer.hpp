/// \file
/// Writes a file of packed weights in two phases: entries are added, with their data or with a source that will deliver them, then everything
/// streams to a sink in one pass. Nothing is held twice, and of what a source delivers one entry at a time. Equal entries in equal order give
/// equal bytes. The format is in pack/file_format.hpp.
///
///     aq::pack_writer writer;
///     AQ_TRY(writer.add("config.json", std::string_view(json)));
///     AQ_TRY(writer.add("blocks.0.norm", norm));
///     AQ_TRY(writer.add("blocks.0.q", q.view()));
///     AQ_TRY(writer.add("blocks.1.q", {n, format, layout.view()}, {&quantizer, quantize}));
///     AQ_TRY(writer.write({&out, append}));
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/core/crc32c.hpp"
#include "agilequant/core/matrix_view.hpp"
#include "agilequant/core/status.hpp"
#include "agilequant/pack/file_format.hpp"
#include "agilequant/pack/file_item.hpp"
#include "agilequant/pack/file_sink.hpp"
#include "agilequant/pack/packed_matrix.hpp"

namespace aq {

/// Collects entries and writes them. Names are copied, data are borrowed until write. Move-only. An `add` that fails leaves the writer as it was.
class pack_writer {
public:
    /// A packed matrix, for the portable tile. Reads all codes, to refuse what pack_file::verify would refuse.
    /// wrong_tile; null_pointer; bad_argument: name, shape, layout or codes are beyond what a file may hold; depth_over_limit; out_of_memory.
    [[nodiscard]] status add(std::string_view name, const packed_weights& w) noexcept {
        detail::pack_item i;
        AQ_TRY(detail::item_of(w, i));
        return append(name, i);
    }

    /// A packed matrix that `source` delivers during write; the layout's memory may go before. null_pointer, bad_argument, out_of_memory.
    [[nodiscard]] status add(std::string_view name, const packed_shape& shape, matrix_source source) noexcept {
        detail::pack_item i;
        AQ_TRY(detail::item_of(shape, source, i));
        return append(name, i);
    }

    /// A float matrix [rows,cols] of any values; what is between its rows is not written. bad_stride, null_pointer, bad_argument, out_of_memory.
    [[nodiscard]] status add(std::string_view name, matrix_view<const float> values) noexcept {
        detail::pack_item i;
        AQ_TRY(detail::item_of(values, i));
        return append(name, i);
    }

    /// A float matrix [rows,cols] that `source` delivers during write. null_pointer, bad_argument, out_of_memory.
    [[nodiscard]] status add(std::string_view name, matrix_shape shape, float_source source) noexcept {
        detail::pack_item i;
        AQ_TRY(detail::item_of(shape, source, i));
        return append(name, i);
    }

    /// Bytes. null_pointer, bad_argument, out_of_memory.
    [[nodiscard]] status add(std::string_view name, std::string_view bytes) noexcept {
        detail::pack_item i;
        AQ_TRY(detail::item_of(bytes, i));
        return append(name, i);
    }

    /// The size of the file so far, in bytes.
    [[nodiscard]] std::uint64_t file_size() const noexcept { return data_begin() + data_size_; }

    /// Writes the whole file; what a failure leaves in the sink is none.
    /// bad_argument: two entries have one name, or a source's matrix is beyond what a file may hold; bad_shape: a source delivers what was not announced;
    /// null_pointer: no sink, or a source's array is missing; out_of_memory, for the directory; wrong_tile, depth_over_limit and bad_stride of what
    /// sources deliver; what sink and sources say.
    [[nodiscard]] status write(byte_sink to) const noexcept {
        if (to.write == nullptr) return status::null_pointer;
        aligned_buffer<std::uint8_t> head;
        AQ_TRY(make_head(head));
        detail::summing_sink out(to);
        AQ_TRY(out.put(head.data(), head.size()));
        static_cast<void>(out.take_checksum());
        for (std::size_t i = 0; i < items_.size(); ++i) {
            detail::pack_item fetched;
            const bool comes_later = items_[i].comes_later();
            if (comes_later) AQ_TRY(detail::fetch(items_[i], name_of(items_[i]), fetched));
            AQ_TRY(detail::write_item(comes_later ? fetched : items_[i], out));
        }
        return status::ok;
    }

private:
    [[nodiscard]] status append(std::string_view name, detail::pack_item& i) noexcept {
        if (!is_pack_name(name) || items_.size() == max_pack_entries) return status::bad_argument;
        if (i.entry.data_size > max_pack_file_size - data_size_) return status::bad_argument;
        i.name = names_.size();
        i.entry.name_size = name.size();
        i.entry.data = data_size_;  // from the begin of all data; their place follows when all names are known
        AQ_TRY(names_.append(name.data(), name.size()));
        AQ_TRY(items_.append(&i, 1));
        names_size_ += name.size();  // names_ itself may hold one more, whose entry found no memory
        data_size_ += i.entry.data_size;
        return status::ok;
    }

    [[nodiscard]] std::string_view name_of(const detail::pack_item& i) const noexcept {
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
            const detail::pack_item& from = items_[sorted[i]];
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

    detail::growing_list<detail::pack_item> items_;
    detail::growing_list<char> names_;
    std::uint64_t names_size_ = 0, data_size_ = 0;
};

}  // namespace aq
