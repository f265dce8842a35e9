/// \file
/// Header and directory of a file of packed weights as numbers, and its checksums made right again: for tests and for a fuzzer, whose damage would
/// otherwise end at the first checksum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "agilequant/core/crc32c.hpp"
#include "agilequant/pack/file_format.hpp"

namespace aq_test {

using byte_vector = std::vector<std::uint8_t>;

inline aq::pack_header header_of(const byte_vector& file) {
    aq::pack_header h;
    std::memcpy(&h, file.data(), sizeof h);
    return h;
}

/// Where directory entry i stands; an exception where the file has no room for it.
inline std::size_t place_of_entry(const byte_vector& file, std::size_t i) {
    const std::size_t place = sizeof(aq::pack_header) + i * sizeof(aq::pack_entry);
    static_cast<void>(file.at(place + sizeof(aq::pack_entry) - 1));
    return place;
}

inline aq::pack_entry entry_of(const byte_vector& file, std::size_t i) {
    aq::pack_entry e;
    std::memcpy(&e, file.data() + place_of_entry(file, i), sizeof e);
    return e;
}

/// Makes all checksums right that have a place, whatever else is wrong.
inline void repair(byte_vector& file) {
    if (file.size() < sizeof(aq::pack_header)) return;
    aq::pack_header h = header_of(file);
    const std::size_t most = (file.size() - sizeof h) / sizeof(aq::pack_entry);
    for (std::size_t i = 0; i < most && i < h.entries; ++i) {
        const aq::pack_entry e = entry_of(file, i);
        if (e.data > file.size() || e.data_size > file.size() - e.data || e.data_size < 64 || e.data < sizeof h) continue;
        const std::uint32_t crc = aq::crc32c(0, file.data() + e.data, e.data_size - 64);
        std::memcpy(file.data() + e.data + e.data_size - 64, &crc, sizeof crc);
    }
    if (h.data > file.size() || h.data < sizeof h) return;
    h.checksum = 0;
    std::memcpy(file.data(), &h, sizeof h);
    h.checksum = aq::crc32c(0, file.data(), h.data);
    std::memcpy(file.data(), &h, sizeof h);
}

}  // namespace aq_test
