# Installs the headers and a CMake package: find_package(agilequant) then gives agilequant::agilequant.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/agilequant)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/agilequantConfigVersion.cmake
                                 COMPATIBILITY SameMajorVersion ARCH_INDEPENDENT)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/agilequant DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
install(TARGETS agilequant EXPORT agilequantTargets)
install(EXPORT agilequantTargets NAMESPACE agilequant:: DESTINATION ${package_dir})
install(FILES ${PROJECT_SOURCE_DIR}/cmake/agilequantConfig.cmake ${PROJECT_SOURCE_DIR}/cmake/agilequant_xsimd.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/agilequantConfigVersion.cmake
        DESTINATION ${package_dir})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/agilequant)
