#!/usr/bin/env python3
"""Checks how the headers are laid out: which folder may include which, and what may stand where. Prints one line a finding.

    layers.py <include/agilequant>     checks a tree
    layers.py --self-test              checks that each rule finds a breach of it
"""
import pathlib
import re
import sys
import tempfile

# A header includes its own folder and those before it in this list.
ORDER = ["core", "quant", "prune", "isa", "pack", "elementwise", "simd", "kernels", "dispatch", "model"]

# Bodies are compiled once for each instruction set, so without `#pragma once`; like the operations that they use they compile
# only where dispatch/foreach.hpp has opened a target region, neither alone nor twice.
REPEATED = re.compile(r"kernels/body/")
IN_REGION = re.compile(r"kernels/body/|simd/ops_(?!scalar)")

# The compiler's intrinsics have to be declared before a region is opened, so by the header that opens it.
OPENS_REGIONS = "dispatch/foreach.hpp"

# The one header that talks to the operating system.
ASKS_THE_SYSTEM = "core/system.hpp"

# Slow oracles: no consumer needs them.
FOR_TESTS = {"kernels/reference.hpp"}

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
INTRINSIC_HEADERS = re.compile(r"\w*intrin\.h|arm_\w+\.h")
INTRINSICS = re.compile(r"\b_mm\d*_\w+|\b__m(128|256|512)\w*|\b__builtin_(ia32|neon|aarch64)_\w+|\b_tile_\w+"
                        r"|\bv[a-z0-9]+_(lane_|laneq_|n_|high_)?[suf](8|16|32|64)\b|\b(u?int|float)(8|16|32|64)x\d+(x\d)?_t\b")
CONDITION = re.compile(r"^\s*#\s*(if|ifdef|ifndef|elif)\b(.*)")
TARGET_MACRO = re.compile(r"\b(?!__cpp_|__cplusplus|__has_)(__\w+|_[A-Z]\w+|NDEBUG)\b")
TALKATIVE = {"iostream", "cstdio", "stdio.h", "ostream", "fstream", "thread", "mutex", "stdexcept"}
LONG = 300


def check(root):
    """Returns (findings, remarks) for the tree of headers under root."""
    findings, remarks, with_xsimd = [], [], []
    for path in sorted(root.rglob("*.hpp")):
        name = path.relative_to(root).as_posix()
        folder = name.split("/")[0] if "/" in name else None
        say = lambda line, text: findings.append(f"{name}:{line}: {text}")
        if folder and folder not in ORDER:
            say(1, f"the folder {folder}/ has no place in the order")
            continue
        lines = path.read_text().splitlines()
        if not lines or not lines[0].startswith("// " if REPEATED.match(name) else "/// \\file"):
            say(1, "does not open with `/// \\file` and what it is")
        if ("#pragma once" in lines) == bool(REPEATED.match(name)):
            say(1, "has #pragma once, yet is compiled once for each instruction set" if REPEATED.match(name) else "lacks #pragma once")
        if len(lines) > LONG:
            remarks.append(f"{name}: {len(lines)} lines; split it where the concept splits")
        for number, line in enumerate(lines, 1):
            include = INCLUDE.match(line)
            if include:
                check_include(name, folder, include.group(1), with_xsimd, lambda text: say(number, text))
            code = line.split("//")[0]
            if folder != "simd" and INTRINSICS.search(code):
                say(number, f"intrinsic {INTRINSICS.search(code).group()} outside simd/")
            if folder != "elementwise" and "xsimd::" in code:
                say(number, "xsimd outside elementwise/")
            condition = CONDITION.match(code)
            if condition and name != "core/config.hpp" and TARGET_MACRO.search(condition.group(2)):
                say(number, f"{TARGET_MACRO.search(condition.group(2)).group()} is read outside core/config.hpp")
    findings += [f"{name}:1: agilequant.hpp does not bring it in" for name in unreached(root) if name not in FOR_TESTS]
    if len(with_xsimd) > 1:
        findings.append(f"{with_xsimd[1]}:1: a second header that includes xsimd, after {with_xsimd[0]}")
    return findings, remarks


def unreached(root):
    """The headers that agilequant.hpp does not bring in, directly or through others."""
    seen, waiting = set(), ["agilequant.hpp"]
    while waiting:
        name = waiting.pop()
        if name not in seen and (root / name).exists():
            seen.add(name)
            found = (INCLUDE.match(line) for line in (root / name).read_text().splitlines())
            waiting += [match.group(1)[len("agilequant/"):] for match in found if match and match.group(1).startswith("agilequant/")]
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.hpp") if path.relative_to(root).as_posix() not in seen)


def check_include(name, folder, included, with_xsimd, say):
    if included.startswith("agilequant/"):
        target = included[len("agilequant/"):]
        if folder is None or "/" not in target:  # agilequant.hpp includes all; version.hpp belongs to all
            return
        other = target.split("/")[0]
        if other not in ORDER:
            say(f"includes {target}, whose folder has no place in the order")
        elif ORDER.index(other) > ORDER.index(folder):
            say(f"{folder}/ includes {target}, which comes after it")
    elif included.startswith("xsimd"):
        with_xsimd.append(name)
        if folder != "elementwise":
            say("includes xsimd outside elementwise/")
    elif INTRINSIC_HEADERS.fullmatch(included):
        if folder != "simd" and name != OPENS_REGIONS:
            say(f"includes {included} outside simd/")
    elif included in TALKATIVE:
        say(f"includes <{included}>: headers neither print, nor throw, nor start threads")
    elif included.startswith("sys/") or included == "unistd.h":
        if name != ASKS_THE_SYSTEM:
            say(f"includes {included} outside {ASKS_THE_SYSTEM}")
    elif not re.fullmatch(r"[a-z_0-9]+|[a-z]+\.h", included):
        say(f"includes {included}: only agilequant/..., xsimd and the standard library")


def self_test():
    """Each breach stands alone in a tree and must be found; the tree without it must be clean."""
    head = "/// \\file\n#pragma once\n"
    parts = ["core/a", "quant/a", "simd/ops_a", "kernels/body/a", "dispatch/foreach", "elementwise/a"]
    clean = {"agilequant.hpp": head + "".join(f'#include "agilequant/{part}.hpp"\n' for part in parts), "core/a.hpp": head, "quant/a.hpp": head + '#include "agilequant/core/a.hpp"\n', "simd/ops_a.hpp": head + "__m128i x;\n",
             "kernels/body/a.hpp": "// A body.\n", "dispatch/foreach.hpp": head + "#include <immintrin.h>\n",
             "elementwise/a.hpp": head + "#include <xsimd/xsimd.hpp>\n"}
    breaches = [
        ("core/b.hpp", head + '#include "agilequant/quant/a.hpp"\n', "comes after it"),
        ("isa/b.hpp", head + '#include "agilequant/simd/ops_a.hpp"\n', "comes after it"),
        ("kernels/b.hpp", head + '#include "agilequant/model/a.hpp"\n', "comes after it"),
        ("core/b.hpp", head, "does not bring it in"),
        ("new/b.hpp", head, "no place in the order"),
        ("core/b.hpp", "#pragma once\n", "does not open"),
        ("core/b.hpp", "/// \\file\n", "lacks #pragma once"),
        ("kernels/body/b.hpp", head, "has #pragma once"),
        ("core/b.hpp", head + "auto x = _mm_setzero_si128();\n", "intrinsic _mm_setzero_si128"),
        ("core/b.hpp", head + "x = vaddq_s16(a, b);\n", "intrinsic vaddq_s16"),
        ("core/b.hpp", head + "#include <immintrin.h>\n", "outside simd/"),
        ("kernels/b.hpp", head + "#include <xsimd/xsimd.hpp>\n", "outside elementwise/"),
        ("kernels/b.hpp", head + "xsimd::batch<float> x;\n", "outside elementwise/"),
        ("elementwise/b.hpp", head + "#include <xsimd/xsimd.hpp>\n", "a second header"),
        ("core/b.hpp", head + "#ifdef __AVX2__\n#endif\n", "__AVX2__ is read"),
        ("core/b.hpp", head + "#if AQ_X86 && defined(_WIN32)\n#endif\n", "_WIN32 is read"),
        ("core/b.hpp", head + "#include <iostream>\n", "neither print"),
        ("core/b.hpp", head + "#include <boost/any.hpp>\n", "only agilequant"),
        ("core/b.hpp", head + "#include <sys/mman.h>\n", "outside core/system.hpp"),
    ]
    for breach in [None] + breaches:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in list(clean.items()) + ([breach[:2]] if breach else []):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            findings, _ = check(root)
            if breach is None:
                assert not findings, findings
            else:
                assert any(breach[2] in finding for finding in findings), (breach, findings)
    print(f"{len(breaches)} breaches found")


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return 0
    findings, remarks = check(pathlib.Path(sys.argv[1]))
    print("\n".join(findings + remarks) or "the layers are in order")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
