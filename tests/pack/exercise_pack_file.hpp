/// \file
/// Takes any bytes for a file of packed weights and does with them all that can be done: what a fuzzer calls, and the test of random damage. Stops
/// the program where a promise of pack/file.hpp is broken; arrays that kernels read stand between unreadable pages.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "agilequant/core/aligned_buffer.hpp"
#include "agilequant/dispatch/dispatch.hpp"
#include "agilequant/kernels/gemm.hpp"
#include "agilequant/pack/file.hpp"
#include "pack/file_edit.hpp"
#include "support/guarded.hpp"

namespace aq_test {

/// What was found in the bytes.
struct exercised {
    bool is_open = false;
    std::size_t entries = 0, matrices = 0, verified = 0, products = 0;
};

inline void promise(bool is_kept, const char* what) {
    if (is_kept) return;
    std::fprintf(stderr, "a promise of pack/file.hpp is broken: %s\n", what);
    std::abort();
}

/// The arrays of a packed matrix in memory of their own, as large as pack/packed_matrix.hpp says.
struct guarded_matrix {
    std::size_t lanes, groups;
    bool is_two_level;
    guarded<std::uint32_t> order;
    guarded<aq::k_run> runs;
    guarded<std::uint8_t> codes;
    guarded<float> scales;
    guarded<std::uint8_t> multipliers, zeros;
    guarded<float> offsets;
    aq::packed_weights view;

    guarded_matrix(const aq::packed_weights& w, guard side)
        : lanes(w.panels() * 16),
          groups(w.layout.groups),
          is_two_level(w.multipliers != nullptr),
          order(w.layout.order, w.layout.order == nullptr ? 0 : w.layout.packed, side),
          runs(w.layout.runs, w.layout.run_count, side),
          codes(w.codes, w.panels() * w.panel_bytes(), side),
          scales(w.scales, is_two_level ? lanes : lanes * groups, side),
          multipliers(w.multipliers, is_two_level ? lanes * groups : 0, side),
          zeros(w.zeros, w.zeros == nullptr ? 0 : lanes * groups, side),
          offsets(w.offsets, lanes, side),
          view(w) {
        view.codes = codes.data();
        view.scales = scales.data();
        view.offsets = offsets.data();
        if (w.multipliers != nullptr) view.multipliers = multipliers.data();
        if (w.zeros != nullptr) view.zeros = zeros.data();
        view.layout.runs = runs.data();
        if (w.layout.order != nullptr) view.layout.order = order.data();
    }
};

/// Quantizes activations for a matrix and multiplies, every buffer against an unreadable page.
inline void multiply_guarded(const aq::kernel_table& kernels, const aq::packed_weights& w, int activation_bits, guard side) {
    constexpr std::size_t m = 3;
    const aq::k_layout_view& l = w.layout;
    aq::activation_format format;
    format.bits = activation_bits;
    const guarded_matrix copy(w, side);
    guarded<float> x(m * l.k, side), y(m * w.n, side);
    for (std::size_t i = 0; i < m * l.k; ++i) x[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) * 0.25F;
    guarded<std::byte> memory(aq::round_up(aq::activation_bytes(m, l), aq::cache_line_bytes), side);
    guarded<std::byte> arranged(aq::round_up(aq::quantize_scratch_bytes(l), aq::cache_line_bytes), side);
    guarded<std::byte> scratch(aq::round_up(aq::gemm_scratch_bytes(kernels, w), aq::cache_line_bytes), side);
    aq::activations_view a;
    promise(aq::place_activations(m, l, format, memory.data(), memory.size(), a) == aq::status::ok, "activations have a place");
    promise(aq::quantize_rows(kernels, {x.data(), m, l.k}, copy.view.layout, format, {0, m}, arranged.data(), arranged.size(),
                              a) == aq::status::ok,
            "activations are quantized");
    const aq::gemm_job job{copy.view, a, {y.data(), m, w.n}, {}};
    promise(aq::gemm(kernels, job) == aq::status::ok, "a matrix that was handed out multiplies");
    promise(aq::gemm(kernels, job, scratch.data(), scratch.size()) == aq::status::ok, "so it does with scratch");
}

/// Reads all that can be read of an entry of floats or bytes.
inline void read_values(const aq::pack_file& file, std::string_view name) {
    volatile unsigned sum = 0;  // so that the reads take place
    std::string_view text;
    if (file.bytes(name, text) == aq::status::ok) {
        for (const char c : text) sum = sum + static_cast<unsigned char>(c);
    }
    aq::matrix_view<const float> floats;
    if (file.floats(name, floats) != aq::status::ok) return;
    for (std::size_t r = 0; r < floats.rows; ++r) {
        for (std::size_t c = 0; c < floats.cols; ++c) sum = sum + aq::bits_of(floats.row(r)[c]);
    }
}

/// Does everything with the bytes as they are.
inline exercised exercise_as_it_is(const std::uint8_t* data, std::size_t size) {
    exercised found;
    // up to a page's end where the size allows it, else from a page's begin
    const guarded<std::uint8_t> bytes(data, size, size % 64 == 0 ? guard::after : guard::before);
    aq::pack_file file;
    found.is_open = file.open(bytes.data(), bytes.size()) == aq::status::ok;
    found.entries = file.size();
    promise(found.is_open || file.size() == 0, "a file that is refused has no entries");
    promise(file.find("") == file.size() && file.verify("\x01") == aq::status::no_such_entry, "what is not there is not found");
    const aq::kernel_table* kernels = nullptr;
    promise(aq::choose_kernels(kernels) == aq::status::ok, "there are kernels");
    for (std::size_t i = 0; i < file.size(); ++i) {
        const std::string_view name = file.name(i);
        promise(file.find(name) == i, "an entry is found under its name");
        const bool is_verified = file.verify(i) == aq::status::ok;
        found.verified += is_verified ? 1 : 0;
        read_values(file, name);
        aq::packed_weights w;
        const bool is_matrix = file.matrix(name, w) == aq::status::ok;
        promise(is_matrix || !is_verified || file.kind(i) != aq::pack_kind::matrix, "a matrix that is verified is handed out");
        if (!is_matrix) continue;
        ++found.matrices;
        // so that a product stays short
        if (w.layout.packed > (1U << 16) || w.n > (1U << 12)) continue;
        for (const guard side : {guard::before, guard::after}) {
            // unverified codes may overflow sums, which in plain C++ is undefined and in vectors is not
            if (is_verified) multiply_guarded(aq::scalar::table, w, 8, side);
            if (is_verified || kernels != &aq::scalar::table) multiply_guarded(*kernels, w, side == guard::before ? 8 : 4, side);
        }
        ++found.products;
    }
    promise((file.verify_all() == aq::status::ok) == (found.verified == file.size()), "all entries are well where each one is");
    return found;
}

/// What a fuzzer calls: any bytes in, as they are and once more with size and checksums made right; what was found then. Stops the program where
/// something is wrong.
inline exercised exercise_pack_file(const std::uint8_t* data, std::size_t size) {
    static_cast<void>(exercise_as_it_is(data, size));
    byte_vector repaired(data, data + size);
    if (size >= sizeof(aq::pack_header)) {
        aq::pack_header h = header_of(repaired);
        h.file_size = size;
        std::memcpy(repaired.data(), &h, sizeof h);
        repair(repaired);
    }
    return exercise_as_it_is(repaired.data(), repaired.size());
}

}  // namespace aq_test
