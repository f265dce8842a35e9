/// \file
/// How the program says that it cannot do something: one sentence, and exit code 2.
#pragma once

#include <agilequant/core/status.hpp>
#include <stdexcept>
#include <string>

namespace aq::example {

class failure : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Throws "what: why" unless the status is ok.
inline void require(status s, const std::string& what) {
    if (s != status::ok) throw failure(what + ": " + message(s));
}

}  // namespace aq::example
