"""Which blocks of instructions a program executed, and how often, from what the qemu plugin count_blocks.c wrote."""
import dataclasses
import functools
import re
import subprocess

import port_model

_STACK = re.compile(r"(ld|st).*\[(sp|x29)\b")
_BRANCHES = ("b", "bl", "br", "blr", "ret", "cbz", "cbnz", "tbz", "tbnz", "svc")


@dataclasses.dataclass(frozen=True)
class Block:
    address: int
    executions: int
    symbol: str  # demangled
    instructions: tuple  # as text

    @functools.cached_property
    def macs(self):
        """Multiply-accumulates of one execution."""
        return macs_of(self.instructions)

    @property
    def function(self):
        """The symbol without its parameters; template arguments may have parentheses, too."""
        template, end, _ = self.symbol.rpartition(">(")
        return template + ">" if end else self.symbol.partition("(")[0]

    @property
    def is_loop(self):
        """Whether the block ends with a branch to its own start."""
        mnemonic, _, operands = self.instructions[-1].partition(" ")
        offset = re.search(r"#(-?\d+)$", operands)
        if not is_branch(mnemonic) or offset is None:
            return False
        return int(offset[1]) == -4 * (len(self.instructions) - 1)

    def stack_accesses(self):
        """Loads and stores of vector registers on the stack: what the compiler found no register for."""
        return [text for text in self.instructions if _STACK.match(text) and port_model.is_vector(text.partition(" ")[2])]



def is_branch(mnemonic):
    return mnemonic in _BRANCHES or mnemonic.startswith("b.")


# ---------------------------------------------------------------------------------------------------------- multiply-accumulates

_DOTS = {"sdot": 4, "udot": 4, "usdot": 4, "sudot": 4, "smmla": 8, "ummla": 8, "usmmla": 8}  # for each lane of the result
_WIDENING = frozenset("smull umull smlal umlal smlsl umlsl sqdmlal smull2 umull2 smlal2 umlal2 smlsl2 umlsl2".split())
_PLAIN = frozenset("mul mla mls".split())
_FLOAT = frozenset("fmul fmla fmls".split())


def macs_of(instructions):
    """Integer multiply-accumulates of a block. Where there are dot products, other multiplies belong to zero points and scales,
    and where there are widening multiplies, others do; float multiplies count only where there is nothing else."""
    sums = {"dot": 0, "widening": 0, "plain": 0, "float": 0}
    for text in instructions:
        mnemonic, _, operands = text.partition(" ")
        lanes = re.match(r"v\d+\.(\d+)[bhsd]\b", operands)
        if lanes is None:
            continue
        if mnemonic in _DOTS:
            sums["dot"] += _DOTS[mnemonic] * int(lanes[1])
        for kind, names in (("widening", _WIDENING), ("plain", _PLAIN), ("float", _FLOAT)):
            sums[kind] += int(lanes[1]) * (mnemonic in names)
    if sums["dot"] >= 16:
        return sums["dot"]
    if sums["widening"] >= 16:
        return sums["widening"]
    return sums["plain"] or sums["float"]


# --------------------------------------------------------------------------------------------------------------------- reading

def read(path, demangle, disassemble, wanted):
    """The blocks of a plugin's file whose demangled symbol `wanted` (a regular expression) matches."""
    lines = [line.split() for line in path.read_text().splitlines()]
    names = dict(zip(symbols := sorted({line[2] for line in lines}), demangle(symbols)))
    kept = [line for line in lines if re.search(wanted, names[line[2]])]
    texts = dict(zip(words := sorted({word for line in kept for word in line[3:]}), disassemble(words)))
    return joined([Block(int(line[0], 16), int(line[1]), names[line[2]], tuple(texts[word] for word in line[3:])) for line in kept])


def joined(blocks):
    """Blocks that only the end of a page cut in two, made whole: so that a bound does not depend on where the linker put a loop."""
    whole = {}  # by address
    for block in sorted(blocks, key=lambda b: b.address, reverse=True):
        tail = whole.get(block.address + 4 * len(block.instructions))
        if tail is not None and tail.executions >= block.executions and not is_branch(block.instructions[-1].partition(" ")[0]):
            whole[tail.address] = dataclasses.replace(tail, executions=tail.executions - block.executions)
            block = dataclasses.replace(block, instructions=block.instructions + tail.instructions)
        whole[block.address] = block
    return [block for block in whole.values() if block.executions > 0]


def demangler(program):
    def demangle(symbols):
        done = subprocess.run([program], input="\n".join(symbols), capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    return demangle


def disassembler(program):
    def disassemble(words):
        """Hexadecimal instruction words -> text, without tabs and comments."""
        bytes_of = ("0x" + " 0x".join(word[i:i + 2] for i in (6, 4, 2, 0)) for word in words)
        command = [program, "--disassemble", "-triple=aarch64", "-mattr=+all"]
        done = subprocess.run(command, input="\n".join(bytes_of), capture_output=True, text=True)
        lines = [line.strip() for line in done.stdout.splitlines()]
        texts = [" ".join(line.partition("//")[0].split()) for line in lines if line and not line.startswith(".")]
        if len(texts) != len(words):
            raise RuntimeError(f"{program} made {len(texts)} instructions of {len(words)} words: {done.stderr[:300]}")
        return texts

    return disassemble
