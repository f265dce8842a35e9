/// \file
/// Makes doctest print a status as its sentence.
#pragma once

#include <doctest/doctest.h>

#include "agilequant/core/status.hpp"

namespace doctest {
template <>
struct StringMaker<aq::status> {
    static String convert(aq::status s) { return aq::message(s); }
};
}  // namespace doctest
