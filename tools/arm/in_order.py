"""Cycles of a loop on cores that issue in order, by llvm-mca."""
import functools
import re
import subprocess

import executed_blocks

_PROGRAM = "llvm-mca-19"
_FEATURES = "-mattr=+dotprod,+i8mm"
_ITERATIONS = 100


def _total_cycles(cpu, text, iterations):
    command = [_PROGRAM, "-march=aarch64", f"-mcpu={cpu}", _FEATURES, f"-iterations={iterations}", "-instruction-info=0", "-resource-pressure=0"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    found = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
    if found is None:
        raise RuntimeError(f"{_PROGRAM} on {cpu}: {done.stderr[:300]}")
    return int(found[1])


@functools.lru_cache(maxsize=None)
def cycles(cpu, instructions):
    """Of one iteration in the steady state, the block repeated."""
    # branches lead out of the text: any target will do
    text = "\n".join(re.sub(r"#-?\d+$", "#4", line) if executed_blocks.is_branch(line.partition(" ")[0]) else line
                     for line in instructions)
    twice = _total_cycles(cpu, text, 2 * _ITERATIONS)
    return (twice - _total_cycles(cpu, text, _ITERATIONS)) / _ITERATIONS
