/// \file
/// Decodes the instructions that emulated_cpu.hpp carries out: AMX tiles, AMX-INT8 and the VEX forms of AVX-VNNI. Nothing here
/// allocates, locks or prints, because a signal handler calls it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace aq_test {

/// The instructions that can be carried out; `none` is any other.
enum class emulated {
    none,
    ldtilecfg,
    sttilecfg,
    tilerelease,
    tilezero,
    tileloadd,
    tileloaddt1,
    tilestored,
    tdpbssd,
    tdpbsud,
    tdpbusd,
    tdpbuud,
    vpdpbusd,
    vpdpwssd,
    count
};

inline constexpr const char* emulated_names[] = {"none",      "ldtilecfg",   "sttilecfg",  "tilerelease", "tilezero",
                                                 "tileloadd", "tileloaddt1", "tilestored", "tdpbssd",     "tdpbsud",
                                                 "tdpbusd",   "tdpbuud",     "vpdpbusd",   "vpdpwssd"};
static_assert(sizeof(emulated_names) / sizeof(emulated_names[0]) == static_cast<std::size_t>(emulated::count));

/// What an address is made of; `general` in the order in which instructions number them: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8...
struct address_registers {
    std::uint64_t general[16] = {};
    std::uint64_t rip = 0, fs_base = 0;
};

/// One decoded instruction. Where `has_memory`, its operand is at base + index; tiles take `index` as the step from row to row.
struct x86_instruction {
    emulated kind = emulated::none;
    std::size_t length = 0;
    bool is_256 = false, has_memory = false;
    int reg = 0, rm = 0, vvvv = 0;  ///< numbers of registers; rm only without memory
    std::uint64_t base = 0, index = 0;
};

/// Memory at an address that registers made.
inline void* memory_at(std::uint64_t address) {
    void* pointer;
    std::memcpy(&pointer, &address, sizeof(pointer));
    return pointer;
}

namespace decoding {

/// The bytes of an instruction, none read before it is needed: the next page may not be readable.
class byte_reader {
public:
    explicit byte_reader(const void* code) : code_(static_cast<const std::uint8_t*>(code)) {}

    std::uint8_t peek() const { return code_[taken_]; }
    std::uint8_t take() { return code_[taken_++]; }
    /// A signed displacement, widened.
    template <class T>
    std::uint64_t take_signed() {
        T value;
        std::memcpy(&value, code_ + taken_, sizeof(T));
        taken_ += sizeof(T);
        return static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
    }
    std::size_t taken() const { return taken_; }

private:
    const std::uint8_t* code_;
    std::size_t taken_ = 0;
};

/// The fields of a three-byte VEX prefix as plain numbers (R, X, B and vvvv are stored inverted), the opcode and ModRM.
struct vex_fields {
    int r = 0, x = 0, b = 0, map = 0, w = 0, vvvv = 0, l = 0, pp = 0, opcode = 0;
    int mod = 0, reg = 0, rm = 0;
};

inline vex_fields take_vex(byte_reader& code) {
    vex_fields v;
    const int first = code.take(), second = code.take();
    v.r = (~first >> 7 & 1) << 3;
    v.x = (~first >> 6 & 1) << 3;
    v.b = (~first >> 5 & 1) << 3;
    v.map = first & 31;
    v.w = second >> 7;
    v.vvvv = ~second >> 3 & 15;
    v.l = second >> 2 & 1;
    v.pp = second & 3;
    v.opcode = code.take();
    return v;
}

inline void take_modrm(vex_fields& v, byte_reader& code) {
    const int modrm = code.take();
    v.mod = modrm >> 6;
    v.reg = (modrm >> 3 & 7) | v.r;
    v.rm = modrm & 7;
}

/// Opcode 49: the tile configuration, and tilezero.
inline emulated configuration_kind(const vex_fields& v) {
    if (v.vvvv != 0 || v.l != 0) return emulated::none;
    if (v.mod == 3 && v.rm == 0 && v.pp == 3 && v.reg < 8) return emulated::tilezero;
    if (v.reg != 0 || v.pp > 1) return emulated::none;
    if (v.mod == 3) return v.rm == 0 && v.pp == 0 ? emulated::tilerelease : emulated::none;
    return v.pp == 0 ? emulated::ldtilecfg : emulated::sttilecfg;
}

/// Which instruction this is. What the manual calls #UD for its encoding alone (VEX.W or L, a tile beyond 7, a tile's address
/// without SIB) is none of ours and traps on.
inline emulated kind_of(const vex_fields& v) {
    constexpr emulated moves[] = {emulated::none, emulated::tileloaddt1, emulated::tilestored, emulated::tileloadd};
    constexpr emulated products[] = {emulated::tdpbuud, emulated::tdpbusd, emulated::tdpbsud, emulated::tdpbssd};
    switch (v.opcode) {
        case 0x49: return configuration_kind(v);
        case 0x4B: return v.l == 0 && v.vvvv == 0 && v.mod != 3 && v.rm == 4 && v.reg < 8 ? moves[v.pp] : emulated::none;
        case 0x50: return v.pp == 1 ? emulated::vpdpbusd : emulated::none;
        case 0x52: return v.pp == 1 ? emulated::vpdpwssd : emulated::none;
        case 0x5E: {
            const bool are_tiles = v.mod == 3 && v.reg < 8 && v.vvvv < 8 && v.b == 0;
            return v.l == 0 && are_tiles ? products[v.pp] : emulated::none;
        }
        default: return emulated::none;
    }
}

/// The address of a memory operand: ModRM, perhaps SIB, perhaps a displacement.
inline void take_address(const vex_fields& v, const address_registers& registers, byte_reader& code, x86_instruction& out) {
    bool from_rip = false, has_base = true;
    int base = v.rm | v.b;
    if (v.rm == 4) {
        const int sib = code.take();
        const int index = (sib >> 3 & 7) | v.x;
        base = (sib & 7) | v.b;
        has_base = v.mod != 0 || (sib & 7) != 5;
        if (index != 4) out.index = registers.general[index] << (sib >> 6);
    } else if (v.mod == 0 && v.rm == 5) {
        from_rip = true;
        has_base = false;
    }
    if (v.mod == 1) out.base = code.take_signed<std::int8_t>();
    if (v.mod == 2 || !has_base) out.base = code.take_signed<std::int32_t>();
    if (has_base) out.base += registers.general[base];
    if (from_rip) out.base += registers.rip + code.taken();  // none of ours has an immediate, so this is the next instruction
    out.has_memory = true;
}

}  // namespace decoding

/// The instruction at `code`, whose addresses are made of `registers`.
inline x86_instruction decode(const void* code, const address_registers& registers) {
    constexpr int vex3 = 0xC4, fs_prefix = 0x64;
    decoding::byte_reader bytes(code);
    x86_instruction out;
    std::uint64_t segment = 0;
    if (bytes.peek() == fs_prefix) {  // thread-local variables
        segment = registers.fs_base;
        bytes.take();
    }
    if (bytes.peek() != vex3) return out;
    bytes.take();
    decoding::vex_fields v = decoding::take_vex(bytes);
    if (v.map != 2 || v.w != 0) return out;
    decoding::take_modrm(v, bytes);
    const emulated kind = decoding::kind_of(v);
    if (kind == emulated::none) return out;
    out.reg = v.reg;
    out.rm = v.rm | v.b;
    out.vvvv = v.vvvv;
    out.is_256 = v.l != 0;
    if (v.mod != 3) decoding::take_address(v, registers, bytes, out);
    out.base += segment;
    out.length = bytes.taken();
    out.kind = kind;
    return out;
}

}  // namespace aq_test
