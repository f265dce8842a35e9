# Makes agilequant::xsimd, the one dependency of the headers. Used by the build and, installed beside it, by agilequantConfig.cmake.
#
# A target `xsimd` that the surrounding project already has is used for its include directory; otherwise the headers are
# looked for. Not find_package(xsimd): the package of Debian 12 makes a target that links a library `xtl`, which it neither
# needs nor has, and it is not found at all when cross-compiling although headers know no architecture.
if(NOT TARGET agilequant::xsimd)
  add_library(agilequant::xsimd INTERFACE IMPORTED)
  if(TARGET xsimd)
    target_include_directories(agilequant::xsimd INTERFACE $<TARGET_PROPERTY:xsimd,INTERFACE_INCLUDE_DIRECTORIES>)
  else()
    find_path(AGILEQUANT_XSIMD_INCLUDE_DIR xsimd/xsimd.hpp DOC "the directory that holds xsimd/xsimd.hpp")
    if(NOT AGILEQUANT_XSIMD_INCLUDE_DIR)
      message(FATAL_ERROR "agilequant needs the headers of xsimd 8.1 or later (Debian: libxsimd-dev). "
                          "Say where they are with -DAGILEQUANT_XSIMD_INCLUDE_DIR=...")
    endif()
    target_include_directories(agilequant::xsimd INTERFACE ${AGILEQUANT_XSIMD_INCLUDE_DIR})
  endif()
endif()
