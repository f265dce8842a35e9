/// \file
/// What a public function answers. No exceptions, no printing: the caller decides what to tell its user.
#pragma once

namespace aq {

/// The result of a public call; anything but `ok` means that no output was written, unless the function says otherwise.
enum class [[nodiscard]] status{
    ok,
    bad_shape,              ///< sizes of the operands do not fit together
    bad_stride,             ///< a stride is smaller than the row that it has to hold
    bad_argument,           ///< a number is outside the limits given in the function's comment
    null_pointer,           ///< a buffer of non-zero size is null
    depth_over_limit,       ///< k is beyond what the 32-bit sums can hold: see core/bits.hpp
    unsupported_format,     ///< no kernel for these widths
    wrong_tile,             ///< packed for another tile than the kernels read: repack
    wrong_layout,           ///< activations were quantized for another k_layout than the weights'
    scratch_too_small,      ///< the scratch buffer is smaller than the size function says
    out_of_memory,          ///< an owner (buffer, packed matrix, model) could not allocate
    unknown_isa,            ///< no instruction set of that name
    absent_isa,             ///< the CPU or the build lacks that instruction set
    cache_full,             ///< the key-value cache has no room for the tokens
    source_failed,          ///< a weight_source could not deliver a tensor
    not_positive_definite,  ///< a Hessian, damped as asked for, has no Cholesky factor
    bad_file,               ///< bytes are no file of packed weights, or one that breaks its rules: see pack/file.hpp
    wrong_version,          ///< a file of packed weights of a major version that this library does not read
    bad_checksum,           ///< a file of packed weights is damaged
    no_such_entry,          ///< a file of packed weights has no entry of this name and kind
};

/// One sentence for a person, without a full stop.
[[nodiscard]] constexpr const char* message(status s) noexcept {
    switch (s) {
        case status::ok: return "ok";
        case status::bad_shape: return "the shapes of the operands do not fit together";
        case status::bad_stride: return "a stride is smaller than its row";
        case status::bad_argument: return "an argument is outside its limits";
        case status::null_pointer: return "a buffer that is needed is null";
        case status::depth_over_limit: return "the depth k is beyond what 32-bit sums hold";
        case status::unsupported_format: return "there is no kernel for this format";
        case status::wrong_tile: return "the matrix is packed for another tile";
        case status::wrong_layout: return "the activations are quantized for another layout";
        case status::scratch_too_small: return "the scratch buffer is too small";
        case status::out_of_memory: return "out of memory";
        case status::unknown_isa: return "there is no instruction set of this name";
        case status::absent_isa: return "this machine or this build lacks the instruction set";
        case status::cache_full: return "the key-value cache is full";
        case status::source_failed: return "the model's weights could not be read";
        case status::not_positive_definite: return "the Hessian is not positive definite: it needs more damping";
        case status::bad_file: return "this is no well-formed file of packed weights";
        case status::wrong_version: return "the file of packed weights has a version that this library does not read";
        case status::bad_checksum: return "the file of packed weights is damaged: a checksum is wrong";
        case status::no_such_entry: return "the file of packed weights has no entry of this name and kind";
    }
    return "unknown status";
}

/// Leaves the enclosing function with the status unless it is ok.
#define AQ_TRY(expression)                                                                                \
    do {                                                                                                  \
        if (const ::aq::status aq_result = (expression); aq_result != ::aq::status::ok) return aq_result; \
    } while (false)

}  // namespace aq
