# find_package(agilequant): the target agilequant::agilequant.
include(${CMAKE_CURRENT_LIST_DIR}/agilequant_xsimd.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/agilequantTargets.cmake)
