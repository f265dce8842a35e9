# What our own programs and tests add to agilequant::agilequant: warnings as errors, threads. Consumers see none of it.
find_package(Threads REQUIRED)
find_package(OpenMP COMPONENTS CXX)

option(AGILEQUANT_WARNINGS_AS_ERRORS "Warnings of our own targets are errors" ${PROJECT_IS_TOP_LEVEL})
option(AGILEQUANT_ASSERT "Check the preconditions inside kernels" OFF)
set(AGILEQUANT_SANITIZE "" CACHE STRING "Sanitizers for our own targets, e.g. address,undefined")

add_library(agilequant_own INTERFACE)
target_link_libraries(agilequant_own INTERFACE agilequant::agilequant Threads::Threads $<TARGET_NAME_IF_EXISTS:OpenMP::OpenMP_CXX>)
target_compile_options(agilequant_own INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wconversion -Wshadow>)
if(AGILEQUANT_WARNINGS_AS_ERRORS)
  target_compile_options(agilequant_own INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(AGILEQUANT_ASSERT)
  target_compile_definitions(agilequant_own INTERFACE AQ_ENABLE_ASSERT)
endif()
if(AGILEQUANT_SANITIZE)
  target_compile_options(agilequant_own INTERFACE -fsanitize=${AGILEQUANT_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(agilequant_own INTERFACE -fsanitize=${AGILEQUANT_SANITIZE})
endif()

# Kernels take most of the time that a unit takes to compile, so our own targets compile them once.
add_library(agilequant_kernels STATIC ${CMAKE_CURRENT_LIST_DIR}/kernels.cpp)
target_link_libraries(agilequant_kernels PRIVATE agilequant_own)
add_library(agilequant_compiled INTERFACE)
target_compile_definitions(agilequant_compiled INTERFACE AQ_KERNELS_ELSEWHERE)
target_link_libraries(agilequant_compiled INTERFACE agilequant_own agilequant_kernels)

enable_language(ASM)

# agilequant_embed(<target> <symbol> <file>): links the bytes of <file> into <target>, for any architecture. In C++:
#   extern "C" const unsigned char symbol[];      // the bytes; their number is symbol_end - symbol
#   extern "C" const unsigned char symbol_end[];
function(agilequant_embed target symbol file)
  get_filename_component(file ${file} ABSOLUTE)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/embed_${symbol}.S)
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT [[
    .section .rodata
    .global @symbol@, @symbol@_end
    .type @symbol@, %object
    .type @symbol@_end, %object
    .balign 64
@symbol@:
    .incbin "@file@"
@symbol@_end:
    .byte 0
    .section .note.GNU-stack, "", %progbits
]])
  set_source_files_properties(${source} PROPERTIES OBJECT_DEPENDS ${file})
  target_sources(${target} PRIVATE ${source})
endfunction()
