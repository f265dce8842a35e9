#!/usr/bin/env python3
"""No function outside an instruction set's namespace holds its instructions.

The linker keeps one copy of each inline function. Were it a copy compiled for AVX2, the program would die on a CPU without it
although it asked first. So: in each object file given, VEX and EVEX instructions stand in functions of aq::<isa>:: alone.
"""
import re
import subprocess
import sys

FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
INSTRUCTION = re.compile(r"^\s+[0-9a-f]+:\s+(?:(?:lock|repz?|repnz|data16|notrack) )*(\S+)\s*(.*)$")
# Every VEX mnemonic begins with v, but for the BMI ones; of the others that do, verr and verw are the only ones of user code.
VEX = re.compile(r"v(?!err|erw).*|andn|bextr|blsi|blsmsk|blsr|bzhi|mulx|pdep|pext|rorx|s[ah]rx|shlx")
# Mangled, since there a function's own name stands first, before its template arguments, parameters and result.
IN_ISA = re.compile(r"_ZZ*NK?2aq\d+(avx|amx)")


def check(path):
    """Returns the functions that hold such instructions: the foreign ones with the first of them, and how many are an ISA's own."""
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], check=True, text=True, stdout=subprocess.PIPE).stdout
    foreign, own, function = {}, set(), ""
    for line in listing.splitlines():
        heading = FUNCTION.match(line)
        if heading:
            function = heading.group(1)
            continue
        instruction = INSTRUCTION.match(line)
        if instruction and (VEX.fullmatch(instruction.group(1)) or re.search(r"%[yz]mm", instruction.group(2))):
            if IN_ISA.match(function):
                own.add(function)
            else:
                foreign.setdefault(function, line.strip())
    return foreign, len(own)


def main():
    findings, seen = [], 0
    for path in sys.argv[1:]:
        foreign, own = check(path)
        seen += own
        findings += [f"{path}: {function}: {line}" for function, line in foreign.items()]
    if findings or not seen:
        text = "\n".join(findings) or "no function of aq::<isa>:: holds VEX instructions: the check has nothing to look at"
        print(subprocess.run(["c++filt"], input=text, text=True, stdout=subprocess.PIPE).stdout)
        return 1
    print(f"{seen} functions of aq::<isa>:: hold VEX instructions, and no other")
    return 0


if __name__ == "__main__":
    sys.exit(main())
