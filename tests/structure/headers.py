#!/usr/bin/env python3
"""Every header compiles alone and when included twice, without a warning, without exceptions and without run-time types."""
import sys

import compiler
import layers


def main():
    args = compiler.arguments(__doc__)
    include = args.root / "include"
    names = [path.relative_to(include).as_posix() for path in sorted(include.rglob("*.hpp"))]
    names = [name for name in names if not layers.IN_REGION.match(name[len("agilequant/"):])]
    argv = compiler.command(args, "-fsyntax-only", "-fno-exceptions", "-fno-rtti", *compiler.WARNINGS)
    results = compiler.in_parallel(lambda name: compiler.run(argv, f'#include "{name}"\n#include "{name}"\n'), names)
    failures = [f"{name} does not compile alone and twice:\n{text}" for name, (good, text) in zip(names, results) if not good]
    print("\n".join(failures) or f"{len(names)} headers compile as {args.std}")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
