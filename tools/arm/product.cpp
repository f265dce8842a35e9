// One product, or one quantizing of activations, by the library's public interface. modelled_cycles.py counts its instructions.
//
//     product ISA M N K WBITS ABITS GROUP SCALES [packed]     GROUP 0: per output channel; SCALES: float or integer;
//                                                             packed: by the packed multiplier, kernels/packed_multiplier.hpp
//     product ISA quantize M K ABITS
//
// Prints a checksum of the result, the same for every instruction set. Exit status 3: this build or CPU lacks ISA.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "agilequant/dispatch/dispatch.hpp"
#include "agilequant/kernels/gemm.hpp"
#include "agilequant/kernels/packed_multiplier.hpp"
#include "agilequant/kernels/quantized_rows.hpp"

namespace {

void require(aq::status s, const char* what) {
    if (s == aq::status::ok) return;
    std::fprintf(stderr, "product: %s: %s\n", what, aq::message(s));
    std::exit(s == aq::status::absent_isa || s == aq::status::unknown_isa ? 3 : 2);
}

/// Numbers that look random (xorshift): the emulator would spend most of its time in a distribution of the standard library.
class random_bits {
public:
    [[nodiscard]] std::uint64_t next() noexcept {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_;
    }
    /// In [0, count), for small counts.
    [[nodiscard]] std::uint8_t below(int count) noexcept {
        return static_cast<std::uint8_t>((next() >> 33) % static_cast<unsigned>(count));
    }
    /// In [-1, 1).
    [[nodiscard]] float value() noexcept { return static_cast<float>(static_cast<std::int32_t>(next() >> 32)) * 0x1p-31F; }

private:
    std::uint64_t state_ = 0x9E3779B97F4A7C15U;
};

/// FNV-1a over the bytes, a word at a time.
template <class T>
[[nodiscard]] std::uint64_t checksum(const T* values, std::size_t count, std::uint64_t sum = 0xCBF29CE484222325U) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, values + i, sizeof(T));
        sum = (sum ^ bits) * 0x100000001B3U;
    }
    return sum;
}

[[nodiscard]] aq::aligned_buffer<float> activations(std::size_t m, std::size_t k) {
    aq::aligned_buffer<float> x;
    require(x.reset(m * k), "activations");
    random_bits random;
    for (float& value : x) value = random.value();
    return x;
}

/// As the models use them: 8 bits symmetric, 4 bits with a zero point.
[[nodiscard]] aq::activation_format activations_of(int bits) {
    aq::activation_format f;
    f.bits = bits;
    f.is_asymmetric = bits < 8;
    return f;
}

/// Random codes, packed. Codes are drawn, not quantized from floats, which takes longer than the product.
void make_weights(std::size_t n, std::size_t k, const aq::weight_format& format, aq::packed_storage<>& out) {
    aq::coded_matrix coded;
    require(coded.reset(format, n, k), "weights");
    random_bits random;
    const std::uint64_t mask = 0x0101010101010101U * ((1U << format.bits) - 1U);
    for (std::size_t i = 0; i + sizeof mask <= coded.codes.size(); i += sizeof mask) {
        const std::uint64_t codes = random.next() & mask;
        std::memcpy(coded.codes.data() + i, &codes, sizeof codes);
    }
    for (std::uint8_t& zero : coded.zeros) zero = random.below(1 << format.bits);
    for (float& scale : coded.scales) scale = 0.01F + 0.001F * random.value();
    for (std::size_t i = 0; i < coded.multipliers.size(); ++i) {
        const int largest = aq::largest_multiplier(aq::stored_codes(format), coded.zeros[i]);
        coded.multipliers[i] = static_cast<std::uint8_t>(1 + random.below(largest));
    }
    aq::k_layout layout;
    require(layout.make(k, format.group), "layout");
    require(out.assign(coded, std::move(layout)), "packing");
}

struct product_shape {
    std::size_t m, n, k;
};

[[nodiscard]] std::uint64_t multiply(const aq::kernel_table& kernels, const product_shape& s, const aq::weight_format& format,
                                     const aq::activation_format& activation, bool is_packed) {
    aq::packed_storage<> weights;
    make_weights(s.n, s.k, format, weights);
    const aq::aligned_buffer<float> x = activations(s.m, s.k);
    // by scalar, so that every instruction executed in the namespace of `kernels` belongs to the product
    aq::quantized_rows rows;
    require(rows.assign(aq::scalar::table, {x.data(), s.m, s.k}, weights.view().layout, activation), "quantize_rows");
    aq::aligned_buffer<float> y;
    aq::aligned_buffer<std::byte> scratch;
    require(y.reset(s.m * s.n), "y");
    require(scratch.reset(aq::gemm_scratch_bytes(kernels, weights.view())), "scratch");
    const aq::gemm_job job{weights.view(), rows.view(), {y.data(), s.m, s.n}, {}};
    require(is_packed ? aq::gemm_packed_multiplier(kernels, job) : aq::gemm(kernels, job, scratch.data(), scratch.size()), "gemm");
    return checksum(y.data(), y.size());
}

[[nodiscard]] std::uint64_t quantize(const aq::kernel_table& kernels, std::size_t m, std::size_t k,
                                     const aq::activation_format& format) {
    const aq::aligned_buffer<float> x = activations(m, k);
    aq::k_layout layout;
    require(layout.make(k, 128), "layout");
    aq::quantized_rows rows;
    require(rows.assign(kernels, {x.data(), m, k}, layout.view(), format), "quantize_rows");
    const aq::activations_view& a = rows.view();
    return checksum(a.sums, m * layout.view().groups, checksum(a.codes, m * a.stride));
}

[[nodiscard]] std::size_t number(const char* text) { return std::strtoul(text, nullptr, 10); }
[[nodiscard]] int bits(const char* text) { return static_cast<int>(number(text)); }

}  // namespace

int main(int argc, char** argv) {
    const bool is_quantize = argc == 6 && std::strcmp(argv[2], "quantize") == 0;
    const bool is_packed = argc == 10 && std::strcmp(argv[9], "packed") == 0;
    if (argc != 9 && !is_packed && !is_quantize) {
        std::fputs("product ISA M N K WBITS ABITS GROUP float|integer [packed]\nproduct ISA quantize M K ABITS\n", stderr);
        return 2;
    }
    const aq::kernel_table* kernels = nullptr;
    require(aq::find_kernels(argv[1], aq::isa::this_cpu(), kernels), argv[1]);
    std::uint64_t sum = 0;
    if (is_quantize) {
        sum = quantize(*kernels, number(argv[3]), number(argv[4]), activations_of(bits(argv[5])));
    } else {
        aq::weight_format format;
        format.bits = bits(argv[5]);
        format.group = number(argv[7]);
        format.scales = std::strcmp(argv[8], "integer") == 0 ? aq::group_scales::integers : aq::group_scales::floats;
        sum = multiply(*kernels, {number(argv[2]), number(argv[3]), number(argv[4])}, format, activations_of(bits(argv[6])),
                       is_packed);
    }
    std::printf("%016llx\n", static_cast<unsigned long long>(sum));
}
