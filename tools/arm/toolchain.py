"""The programs that the model needs, and the two things it builds: the driver product.cpp for Arm, and the plugin for this machine."""
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SYSROOT = "/usr/aarch64-linux-gnu"

PACKAGES = {  # program -> its Debian package
    "clang++-19": "clang-19",
    "llvm-mc-19": "llvm-19",
    "llvm-mca-19": "llvm-19",
    "llvm-cxxfilt-19": "llvm-19",
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "qemu-aarch64": "qemu-user",
    "gcc": "gcc",
}
COMPILERS = {
    "clang": ["clang++-19", "--target=aarch64-linux-gnu"],
    "gcc": ["aarch64-linux-gnu-g++"],
}
FLAGS = ["-O2", "-DNDEBUG", "-std=c++17", "-static", f"-I{ROOT / 'include'}"]


@dataclasses.dataclass(frozen=True)
class Built:
    driver: pathlib.Path
    plugin: pathlib.Path
    compiler: str  # its first line about itself


def need(programs):
    for program in programs:
        if shutil.which(program) is None:
            sys.exit(f"{program} is missing; install Debian's package {PACKAGES[program]}.")


def build(compiler, folder):
    """Compiles what is older than its sources."""
    # clang links with the libraries that come with the cross gcc
    need(PACKAGES if compiler == "clang" else [name for name in PACKAGES if name != "clang++-19"])
    folder.mkdir(parents=True, exist_ok=True)
    driver, plugin = folder / f"product-{compiler}", folder / "count_blocks.so"
    headers = list((ROOT / "include").rglob("*.hpp"))
    compile_newer([*COMPILERS[compiler], *FLAGS, str(HERE / "product.cpp"), "-o", str(driver)], driver, [HERE / "product.cpp", *headers])
    compile_newer(["gcc", "-O2", "-shared", "-fPIC", str(HERE / "count_blocks.c"), "-o", str(plugin)], plugin, [HERE / "count_blocks.c"])
    version = subprocess.run([COMPILERS[compiler][0], "--version"], capture_output=True, text=True, check=True)
    return Built(driver, plugin, version.stdout.splitlines()[0])


def compile_newer(command, output, sources):
    if output.exists() and output.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return
    print(" ".join(command), file=sys.stderr, flush=True)
    start = time.time()
    if subprocess.run(command).returncode != 0:
        sys.exit(f"Compiling {output.name} failed.")
    os.utime(output, (start, start))  # older than a source that was edited meanwhile
