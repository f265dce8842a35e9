/// \file
/// The library's version, by semantic versioning. The build reads it from here: it is written nowhere else.
#pragma once

#define AQ_VERSION_MAJOR 0
#define AQ_VERSION_MINOR 1
#define AQ_VERSION_PATCH 0

namespace aq {

inline constexpr int version_major = AQ_VERSION_MAJOR;
inline constexpr int version_minor = AQ_VERSION_MINOR;
inline constexpr int version_patch = AQ_VERSION_PATCH;

}  // namespace aq
