/// \file
/// How a loader says that it cannot read something: one sentence that names the file, the field and the limit.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace aq::models {

/// The only exception that loaders throw on account of a file, e.g.
/// "model.safetensors: tensor 'lm_head.weight': data_offsets end at 1300 but the file holds 1200 bytes of data".
class load_error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// `place` is a file, or a file and a field made by inside().
[[noreturn]] void fail(std::string_view place, std::string_view sentence);

/// "place: field".
[[nodiscard]] std::string inside(std::string_view place, std::string_view field);

/// 'text', fit for a terminal: cut after 80 bytes, control characters and bytes beyond ASCII replaced. For text from files.
[[nodiscard]] std::string in_quotes(std::string_view text);

}  // namespace aq::models
