#!/usr/bin/env python3
"""No function outside an instruction set's namespace holds its instructions.

The linker keeps one copy of each inline function. Were it a copy compiled for AVX2 or dotprod, the program would die on a CPU without
it although it asked first. So: in each object file given, such instructions stand in functions of aq::<isa>:: alone.
"""
import argparse
import re
import subprocess
import sys
from typing import NamedTuple

FORMAT = re.compile(r"file format elf64-(?:little)?(\S+)")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
INSTRUCTION = re.compile(r"^\s+[0-9a-f]+:\s+(?:(?:lock|repz?|repnz|data16|notrack) )*(\S+)\s*(.*)$")


class Rule(NamedTuple):
    """Instructions, as mnemonic and operands, and the namespaces whose functions may hold them."""
    name: str
    instructions: re.Pattern
    namespaces: str
    is_used: bool = True  # by the library: a check that never sees one looks at nothing

    def allows(self, function):
        # mangled, since there a function's own name stands first, before its template arguments, parameters and result
        return re.match(rf"_ZZ*NK?2aq({self.namespaces})", function)


ATOMIC = r"(cas|casp|swp|(ld|st)(add|clr|eor|set|[su]max|[su]min))(a|l|al)?[bh]?"
HALF = r"f(?!cvt)\w+ (v\d+\.[48]h|h\d+),.*"
SVE = r".*\b[zp]\d+[./].*"
RULES = {
    "x86-64": [
        # Every VEX mnemonic begins with v, but for the BMI ones; of the others that do, verr and verw are the only ones of user code.
        Rule("VEX", re.compile(r"(v(?!err|erw)\w*|andn|bextr|blsi|blsmsk|blsr|bzhi|mulx|pdep|pext|rorx|s[ah]rx|shlx)( .*)?|.*%[yz]mm.*"),
             r"\d+(avx|amx)"),
    ],
    "aarch64": [
        Rule("dotprod", re.compile(r"[su]dot .*"), "7dotprod|4i8mm"),
        Rule("i8mm", re.compile(r"(usmmla|[su]mmla|usdot|sudot) .*"), "4i8mm"),
        # what a region for these lets a compiler use besides, and what no CPU is asked for
        Rule("Armv8.1", re.compile(rf"({ATOMIC}|sqrdml[as]h|bf\w+mla\w*|bfdot|bfcvt\w*) .*|{HALF}|{SVE}"), "7dotprod|4i8mm", is_used=False),
    ],
}


def check(listing):
    """Returns the functions that hold such instructions: the foreign ones with the first of them, and by rule those of its namespaces."""
    rules = RULES[FORMAT.search(listing).group(1)]
    foreign, own, function = {}, {rule.name: set() for rule in rules if rule.is_used}, ""
    for line in listing.splitlines():
        heading = FUNCTION.match(line)
        if heading:
            function = heading.group(1)
            continue
        instruction = INSTRUCTION.match(line)
        for rule in rules if instruction else ():
            if not rule.instructions.fullmatch(" ".join(instruction.groups())):
                continue
            if rule.allows(function):
                own.setdefault(rule.name, set()).add(function)
            else:
                foreign.setdefault(function, line.strip())
    return foreign, own


def self_test():
    """A listing of one function with one instruction, for each verdict."""
    def is_foreign(architecture, function, instruction):
        foreign, _ = check(f"a.o:     file format elf64-{architecture}\n\n0000000000000000 <{function}>:\n   0:\t{instruction}\n")
        return list(foreign) == [function]

    for architecture, function, instruction, expected in (
        ("x86-64", "_ZN2aq4avx23runEv", "vpaddd %ymm0,%ymm1,%ymm2", False), ("x86-64", "_ZN2aq3runINS_4avx23opsEEEv", "vpaddd %ymm0,%ymm1,%ymm2", True),
        ("x86-64", "_ZN2aq6scalar3runEv", "rorx $3,%eax,%ebx", True), ("x86-64", "_ZN2aq5sse413runEv", "paddd %xmm0,%xmm1", False),
        ("littleaarch64", "_ZN2aq7dotprod3runEv", "sdot\tv0.4s, v1.16b, v2.4b[0]", False), ("littleaarch64", "_ZN2aq4i8mm3runEv", "udot\tv0.4s, v1.16b, v2.16b", False),
        ("littleaarch64", "_ZN2aq4neon3runEv", "sdot\tv0.4s, v1.16b, v2.16b", True), ("littleaarch64", "_ZN2aq3runINS_7dotprod3opsEEEv", "udot\tv0.4s, v1.16b, v2.16b", True),
        ("littleaarch64", "_ZN2aq4i8mm3runEv", "smmla\tv0.4s, v1.16b, v2.16b", False), ("littleaarch64", "_ZN2aq7dotprod3runEv", "usdot\tv0.4s, v1.16b, v2.16b", True),
        ("littleaarch64", "_ZN2aq6chooseEv", "fcvtn\tv0.4h, v1.4s", False), ("littleaarch64", "_ZN2aq6chooseEv", "fadd\tv0.8h, v1.8h, v2.8h", True),
        ("littleaarch64", "_ZN2aq6chooseEv", "bfi\tw0, w1, #8, #8", False), ("littleaarch64", "_ZN2aq6chooseEv", "ldaddal\tw0, w0, [x1]", True), ("littleaarch64", "_ZN2aq4neon3runEv", "ld1b\t{z0.b}, p0/z, [x0]", True),
        ("littleaarch64", "_ZN2aq4neon3runEv", "smlal\tv0.4s, v1.4h, v2.h[0]", False),
    ):
        assert is_foreign(architecture, function, instruction) == expected, (function, instruction)
    print("every verdict is as expected")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objdump", default="objdump")
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("objects", nargs="*")
    args = parser.parse_args()
    if args.self_test:
        self_test()
        return 0
    findings, seen = [], {}
    for path in args.objects:
        listing = subprocess.run([args.objdump, "-d", "--no-show-raw-insn", path], check=True, text=True, stdout=subprocess.PIPE).stdout
        foreign, own = check(listing)
        findings += [f"{path}: {function}: {line}" for function, line in foreign.items()]
        for rule, functions in own.items():
            seen[rule] = seen.get(rule, 0) + len(functions)
    findings += [f"no function holds {rule} instructions: the check has nothing to look at" for rule, count in seen.items() if not count]
    if findings:
        print(subprocess.run(["c++filt"], input="\n".join(findings), text=True, stdout=subprocess.PIPE).stdout)
        return 1
    print("; ".join(f"{count} functions hold {rule} instructions" for rule, count in seen.items()) + ": all in their namespaces")
    return 0


if __name__ == "__main__":
    sys.exit(main())
