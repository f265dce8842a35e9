#!/usr/bin/env python3
"""What must not compile, and the sentence that the compiler then says.

Each file of tests/compile_fail/ compiles as it is. A line `// fails NAME: text` in it says that with -DNAME it does not,
and that the compiler's output has the text.
"""
import re
import sys

import compiler

CASE = re.compile(r"^// fails (\w+): (.+)$", re.MULTILINE)


def main():
    args = compiler.arguments(__doc__)
    argv = compiler.command(args, "-fsyntax-only")
    jobs = []
    for path in sorted((args.root / "tests" / "compile_fail").glob("*.cpp")):
        source = path.read_text()
        cases = CASE.findall(source)
        if not cases:
            sys.exit(f"{path.name} has no line `// fails NAME: text`")
        jobs += [(path.name, name, text, source) for name, text in [("", "")] + cases]

    if not jobs:
        sys.exit("tests/compile_fail/ is empty")

    def finding(job):
        file, name, expected, source = job
        good, output = compiler.run(argv + ([f"-D{name}"] if name else []), source)
        if not name:
            return None if good else f"{file} does not compile as it is:\n{output}"
        if good:
            return f"{file} compiles with {name} and must not"
        return None if expected in output else f"{file} with {name} does not say: {expected}\n{output}"

    findings = [found for found in compiler.in_parallel(finding, jobs) if found]
    print("\n".join(findings) or f"{sum(1 for job in jobs if job[1])} cases are refused with their sentence")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
