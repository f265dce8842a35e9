/// \file
/// One entry on its way into a file of packed weights: its shape, and its data now or later. The writer's parts; users include pack/file_writer.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "agilequant/core/matrix_view.hpp"
#include "agilequant/core/status.hpp"
#include "agilequant/pack/file_check.hpp"
#include "agilequant/pack/file_format.hpp"
#include "agilequant/pack/file_sink.hpp"
#include "agilequant/pack/packed_matrix.hpp"
#include "agilequant/quant/coded_matrix.hpp"

namespace aq {

/// What a packed matrix [n,k] will be that is not there yet. Of the layout its numbers and its id are kept, not its tables.
struct packed_shape {
    std::size_t n = 0;
    weight_format format;  ///< of which bits, is_asymmetric and scales count; the group is the layout's
    k_layout_view layout;
};

/// Delivers the data of an entry when their turn to be written has come, in the order in which entries were added, so that nobody holds a
/// whole model. What `get` sets `out` to is borrowed until it is called again or the writing ends.
template <class View>
struct entry_source {
    void* self = nullptr;
    status (*get)(void* self, std::string_view name, View& out) = nullptr;
};
using matrix_source = entry_source<packed_weights>;
using float_source = entry_source<matrix_view<const float>>;

namespace detail {

struct pack_item {
    pack_entry entry{};  ///< without the places of name and data
    const void* arrays[pack_part_count] = {};
    std::size_t stride = 0;       ///< of a float matrix
    std::size_t name = 0;         ///< where it begins among the writer's names
    std::uint64_t layout_id = 0;  ///< of a packed matrix
    matrix_source matrix;         ///< one of the two has a `get` where data come later
    float_source floats;

    [[nodiscard]] bool comes_later() const noexcept { return matrix.get != nullptr || floats.get != nullptr; }
};

/// Plans the parts of an entry. bad_argument: beyond what a file may hold.
[[nodiscard]] inline status complete(pack_item& i, pack_parts& parts) noexcept {
    if (plan_parts(i.entry, parts) != status::ok) return status::bad_argument;
    const bool fits = !__builtin_add_overflow(parts.checksum, pack_file_line, &i.entry.data_size);
    return fits ? status::ok : status::bad_argument;
}

/// The same where the data are there; null_pointer where a part with bytes has no array.
[[nodiscard]] inline status complete(pack_item& i) noexcept {
    pack_parts parts;
    AQ_TRY(complete(i, parts));
    for (std::size_t p = 0; p < pack_part_count; ++p) {
        if (parts.at[p].size != 0 && i.arrays[p] == nullptr) return status::null_pointer;
    }
    return status::ok;
}

/// The numbers of a packed matrix in the portable tile.
inline void describe(std::size_t n, int bits, const k_layout_view& l, std::uint32_t flags, pack_item& i) noexcept {
    i.entry.kind = static_cast<std::uint32_t>(pack_kind::matrix);
    i.entry.flags = flags | (l.order != nullptr ? pack_has_order : 0);
    i.entry.rows = n;
    i.entry.cols = l.k;
    i.entry.group = l.group;
    i.entry.packed = l.packed;
    i.entry.runs = l.run_count;
    i.entry.bits = static_cast<std::uint32_t>(bits);
    i.entry.tile_nr = portable_tile::nr;
    i.entry.tile_kr = portable_tile::kr;
    i.layout_id = l.id;
}

/// Reads all codes, to refuse what pack_file::verify would refuse.
[[nodiscard]] inline status item_of(const packed_weights& w, pack_item& i) noexcept {
    if (w.tile != portable_tile::shape) return status::wrong_tile;
    const k_layout_view& l = w.layout;
    const std::uint32_t zeros = w.zeros != nullptr ? pack_has_zeros : 0;
    describe(w.n, w.bits, l, zeros | (w.multipliers != nullptr ? pack_has_multipliers : 0), i);
    const void* const arrays[pack_part_count] = {l.order, l.runs, w.codes, w.scales, w.multipliers, w.zeros, w.offsets};
    std::copy(arrays, arrays + pack_part_count, i.arrays);
    AQ_TRY(complete(i));
    packed_weights checked = w;
    checked.layout.groups = l.k == 0 ? 0 : group_count(l.k, l.group);
    if (check_layout(checked.layout) != status::ok || checked.layout.id != l.id) return status::bad_argument;
    AQ_TRY(check_depth(checked));
    return check_codes(checked) == status::ok ? status::ok : status::bad_argument;
}

[[nodiscard]] inline status item_of(const packed_shape& shape, matrix_source source, pack_item& i) noexcept {
    if (source.get == nullptr) return status::null_pointer;
    const bool is_empty = shape.n == 0 || shape.layout.k == 0, is_two_level = shape.format.scales == group_scales::integers;
    const std::uint32_t zeros = shape.format.is_asymmetric ? pack_has_zeros : 0;
    describe(shape.n, shape.format.bits, shape.layout, is_empty ? 0 : zeros | (is_two_level ? pack_has_multipliers : 0), i);
    i.matrix = source;
    pack_parts parts;
    return complete(i, parts);
}

inline void describe_floats(matrix_shape shape, pack_item& i) noexcept {
    i.entry.kind = static_cast<std::uint32_t>(pack_kind::floats);
    i.entry.rows = shape.rows;
    i.entry.cols = shape.cols;
}

[[nodiscard]] inline status item_of(matrix_view<const float> values, pack_item& i) noexcept {
    AQ_TRY(check(values));
    describe_floats({values.rows, values.cols}, i);
    i.arrays[part_values] = values.data;
    i.stride = values.stride;
    return complete(i);
}

[[nodiscard]] inline status item_of(matrix_shape shape, float_source source, pack_item& i) noexcept {
    if (source.get == nullptr) return status::null_pointer;
    describe_floats(shape, i);
    i.floats = source;
    pack_parts parts;
    return complete(i, parts);
}

[[nodiscard]] inline status item_of(std::string_view bytes, pack_item& i) noexcept {
    i.entry.kind = static_cast<std::uint32_t>(pack_kind::bytes);
    i.entry.rows = bytes.size();
    i.entry.cols = 1;
    i.arrays[part_values] = bytes.data();
    return complete(i);
}

/// Gets the data that come later. bad_shape: they are not what was announced; what item_of says of them; what the source says.
[[nodiscard]] inline status fetch(const pack_item& announced, std::string_view name, pack_item& out) noexcept {
    if (announced.matrix.get != nullptr) {
        packed_weights w;
        AQ_TRY(announced.matrix.get(announced.matrix.self, name, w));
        AQ_TRY(item_of(w, out));
    } else {
        matrix_view<const float> values;
        AQ_TRY(announced.floats.get(announced.floats.self, name, values));
        AQ_TRY(item_of(values, out));
    }
    constexpr std::size_t shape = offsetof(pack_entry, kind);  // everything behind the places
    const auto bytes_of = [](const pack_item& i) { return reinterpret_cast<const unsigned char*>(&i.entry) + shape; };
    const bool is_same = std::memcmp(bytes_of(announced), bytes_of(out), sizeof(pack_entry) - shape) == 0;
    return is_same && announced.layout_id == out.layout_id ? status::ok : status::bad_shape;
}

[[nodiscard]] inline status write_rows(const pack_item& i, summing_sink& out) noexcept {
    const float* const values = static_cast<const float*>(i.arrays[part_values]);
    for (std::size_t r = 0; r < i.entry.rows && i.entry.cols != 0; ++r)
        AQ_TRY(out.put(values + r * i.stride, static_cast<std::size_t>(i.entry.cols) * sizeof(float)));
    return status::ok;
}

/// Field by field, since the byte behind a run's truth value holds anything in memory.
[[nodiscard]] inline status write_runs(const pack_item& i, summing_sink& out) noexcept {
    const k_run* const runs = static_cast<const k_run*>(i.arrays[part_runs]);
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

/// Writes the data of an item that are there: its parts, and their checksum.
[[nodiscard]] inline status write_item(const pack_item& i, summing_sink& out) noexcept {
    pack_parts parts;
    AQ_TRY(plan_parts(i.entry, parts));
    const pack_kind kind = static_cast<pack_kind>(i.entry.kind);
    for (std::size_t p = 0; p < pack_part_count; ++p) {
        if (kind == pack_kind::matrix && p == part_runs) AQ_TRY(write_runs(i, out));
        else if (kind == pack_kind::floats && p == part_values) AQ_TRY(write_rows(i, out));
        else AQ_TRY(out.put(i.arrays[p], static_cast<std::size_t>(parts.at[p].size)));
        AQ_TRY(out.put_padding());
    }
    const std::uint32_t checksum = out.take_checksum();
    AQ_TRY(out.put(&checksum, sizeof checksum));
    AQ_TRY(out.put_padding());
    static_cast<void>(out.take_checksum());
    return status::ok;
}

}  // namespace detail

}  // namespace aq
