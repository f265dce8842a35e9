# Toolchain: 64-bit Arm by Debian's cross gcc (g++-aarch64-linux-gnu), its programs run by qemu (qemu-user). One build serves every CPU:
# the environment says which one qemu is, QEMU_CPU=cortex-a53 or cortex-a72 (no dot product), cortex-a76 (dot product), max (everything
# that qemu has, and without the variable).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_ASM_COMPILER aarch64-linux-gnu-gcc)

find_program(AGILEQUANT_QEMU NAMES qemu-aarch64 qemu-aarch64-static REQUIRED)
set(CMAKE_CROSSCOMPILING_EMULATOR ${AGILEQUANT_QEMU} -L /usr/aarch64-linux-gnu)

# Programs come from this machine, compiled libraries from the target. Headers know no architecture: xsimd, doctest, CLI11 and
# nlohmann-json of this machine serve both, and the cross compiler looks into /usr/include itself, last.
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
