"""Runs one case in the emulator and models what it executed."""
import dataclasses
import subprocess

import cases
import executed_blocks
import in_order
import port_model

_EMULATOR = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", "-cpu", "max"]
_ABSENT = 3  # product.cpp's exit status where the instruction set is not there
_NAMESPACES = rf"\baq::({'|'.join(cases.ISAS)})::"  # a set may take some of its kernels from a plainer one


@dataclasses.dataclass
class Result:
    case: cases.Case
    checksum: str
    cycles: dict  # core -> cycles for case.unit units of work
    in_order: dict  # core -> the same of the inner loops alone
    spills: list  # a sentence for each inner loop that loads or stores vectors on the stack
    blocks: list


class Measure:
    def __init__(self, built, folder):
        self._built, self._folder = built, folder
        folder.mkdir(parents=True, exist_ok=True)
        self._demangle = executed_blocks.demangler("llvm-cxxfilt-19")
        self._disassemble = executed_blocks.disassembler("llvm-mc-19")

    def __call__(self, case):
        """The case's Result, or None where the library has no such instruction set."""
        file = self._folder / (case.name.replace("/", "-") + ".txt")
        command = [*_EMULATOR, "-plugin", f"{self._built.plugin},out={file}", str(self._built.driver), *case.arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == _ABSENT:
            return None
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
        blocks = executed_blocks.read(file, self._demangle, self._disassemble, _NAMESPACES)
        scale = case.unit / case.work
        modelled = {core: scale * sum(b.executions * port_model.cycles(core, b.instructions) for b in blocks)
                    for core in cases.ISAS[case.isa].models}
        loops = {cpu.rpartition("-")[2].upper(): scale * inner_cycles(cpu, blocks) for cpu in cases.ISAS[case.isa].in_order
                 if case.is_product}
        return Result(case, done.stdout.strip(), modelled, loops, spills(case, blocks) if case.is_product else [], blocks)


def inner_cycles(cpu, blocks):
    """Of the blocks that hold more than a hundredth of all multiply-accumulates each."""
    total = sum(b.executions * b.macs for b in blocks)
    return sum(b.executions * in_order.cycles(cpu, b.instructions) for b in blocks if b.executions * b.macs > total / 100)


def spills(case, blocks):
    """Innermost loops that keep vectors on the stack. A block counts as one where it multiplies, repeats itself or runs at least half
    as often as any that multiplies in its function, and runs once for every 64 of depth of the largest tile, or more often."""
    multiplying = [b for b in blocks if b.macs > 0]
    most = {}
    for b in multiplying:
        most[b.symbol] = max(b.executions, most.get(b.symbol, 0))
    fewest = case.work / (64 * cases.LARGEST_TILE * min(case.m, 8))
    found = []
    for b in multiplying:
        on_stack = b.stack_accesses()
        if on_stack and b.executions >= fewest and (b.is_loop or 2 * b.executions >= most[b.symbol]):
            found.append(f"{len(on_stack)} of {len(b.instructions)} instructions on the stack, {b.executions} times, in {b.function}: {on_stack[0]}")
    return found


def hottest(result, core, count):
    """The `count` blocks that take the most cycles of a core, as text."""
    total = sum(b.executions * port_model.cycles(core, b.instructions) for b in result.blocks)
    lines = []
    for b in sorted(result.blocks, key=lambda b: -b.executions * port_model.cycles(core, b.instructions))[:count]:
        bounds = port_model.bounds(core, b.instructions)
        share = 100 * b.executions * max(bounds.values()) / total
        lines.append(f"{share:.1f} % of {result.case.name} on {core}: {b.executions} times {b.macs} multiply-accumulates in {b.function}")
        lines.append("  cycles: " + ", ".join(f"{name} {value:.1f}" for name, value in sorted(bounds.items(), key=lambda item: -item[1])))
        lines += ["    " + text for text in b.instructions]
    return "\n".join(lines)
