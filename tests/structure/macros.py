#!/usr/bin/env python3
"""Including the whole library defines no macro but AQ_ ones, beyond those of the standard headers and xsimd that it includes."""
import sys

import compiler
import layers

# Not every header is there on every architecture; these clang has on all, and they refuse any but their own.
OF_ONE_ARCHITECTURE = {"cpuid.h": "__x86_64__", "immintrin.h": "__x86_64__", "arm_neon.h": "__aarch64__"}


def macros(args, source):
    good, text = compiler.run(compiler.command(args, "-dM", "-E"), source)
    if not good:
        sys.exit("\n".join(line for line in text.splitlines() if not line.startswith("#define ")))
    return {line.split(" ", 1)[1] for line in text.splitlines()}  # name and value: a changed macro is a leak too


def main():
    args = compiler.arguments(__doc__)
    include = args.root / "include"
    foreign = set()
    for path in include.rglob("*.hpp"):
        for line in path.read_text().splitlines():
            found = layers.INCLUDE.match(line)
            if found and not found.group(1).startswith("agilequant/"):
                foreign.add(found.group(1))
    foreign.add("cassert")
    known = "".join(f"#if __has_include(<{name}>) && {OF_ONE_ARCHITECTURE.get(name, 1)}\n#include <{name}>\n#endif\n" for name in sorted(foreign))
    leaked = sorted(macros(args, "#include <agilequant/agilequant.hpp>\n") - macros(args, known))
    leaked = [macro for macro in leaked if not macro.startswith("AQ_")]
    print("\n".join(f"leaked: {macro}" for macro in leaked) or "only AQ_ macros are defined")
    return bool(leaked)


if __name__ == "__main__":
    sys.exit(main())
