#!/usr/bin/env python3
"""Headers compile without a warning, without exceptions and without run-time types: each alone and twice, or all in one unit."""
import sys

import compiler
import layers


def main():
    args = compiler.arguments(__doc__, ("--together", "all in one unit: enough for a second standard"))
    include = args.root / "include"
    names = [path.relative_to(include).as_posix() for path in sorted(include.rglob("*.hpp"))]
    names = [name for name in names if not layers.IN_REGION.match(name[len("agilequant/"):])]
    argv = compiler.command(args, "-fsyntax-only", "-fno-exceptions", "-fno-rtti", *compiler.WARNINGS)
    units = [names] if args.together else [[name, name] for name in names]
    results = compiler.in_parallel(lambda unit: compiler.run(argv, "".join(f'#include "{name}"\n' for name in unit)), units)
    failures = [f"{unit[0] if unit[0] == unit[-1] else 'all headers'}:\n{text}" for unit, (good, text) in zip(units, results) if not good]
    print("\n".join(failures) or f"{len(names)} headers compile as {args.std}")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
