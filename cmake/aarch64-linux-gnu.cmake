# Toolchain: 64-bit Arm by Debian's cross compiler, its programs run by qemu.
# AGILEQUANT_QEMU_CPU chooses the processor: cortex-a72 (no dot product), cortex-a76 (dot product), max (everything qemu has).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_ASM_COMPILER aarch64-linux-gnu-gcc)

set(AGILEQUANT_QEMU_CPU "max" CACHE STRING "The processor that qemu emulates")
find_program(AGILEQUANT_QEMU NAMES qemu-aarch64 qemu-aarch64-static REQUIRED)
set(CMAKE_CROSSCOMPILING_EMULATOR ${AGILEQUANT_QEMU} -cpu ${AGILEQUANT_QEMU_CPU} -L /usr/aarch64-linux-gnu)

# Programs come from this machine, compiled libraries from the target. Headers know no architecture: xsimd, doctest, CLI11 and
# nlohmann-json of this machine serve both, and the cross compiler looks into /usr/include itself, last.
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
