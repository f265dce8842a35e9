#!/usr/bin/env python3
"""A short run of agilequant_bench: names, counters and limits are in its JSON, and a product that is wrong is reported."""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

NAMES = re.compile(
    r"(gemm|packed_multiplier)/\w+/w\dp?[cgt]\d*a\d/m\d+/n\d+/k\d+/t\d|peer/\w+/[\w.-]+/m\d+/n\d+/k\d+/t\d|baseline/\w+/m\d+/n\d+/k\d+/t\d"
    r"|attention/\w+/(softmax|log2_(half_)?ceiling)/kv(4|8|32)/(prompt|step)/t\d+/h\d+x\d+/t\d|peer/\w+/flash_\w+/(prompt|step)/t\d+/h\d+x\d+/t\d"
    r"|quantize/\w+/a\d(trip)?/m\d+/k\d+/t\d|limit/\w+/\w+/t\d")


def run(program, *options):
    return subprocess.run([program, *options], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def measured(program, filter_text, *more):
    """Exit status, output and the JSON's entries by name."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "run.json"
        done = run(program, "--filter", filter_text, "--json", str(file), "--min-time", "0.001", "--repetitions", "2", *more)
        content = json.loads(file.read_text()) if file.exists() else {"context": {}, "benchmarks": []}
    return done, content["context"], {entry["name"]: entry for entry in content["benchmarks"]}


def check_names(program):
    names = run(program, "--list", "--full").stdout.split()
    assert len(names) == len(set(names)) and len(names) > 100, f"{len(names)} names, {len(set(names))} different"
    odd = [name for name in names if not NAMES.fullmatch(name)]
    assert not odd, f"not of the grammar: {odd}"
    default = run(program, "--list").stdout.split()
    for kind in ("prompt", "step"):
        assert any(name.startswith("attention/") and f"/{kind}/" in name for name in default), f"the default run has no {kind}"
    assert 0 < len(default) < len(names) and set(default) <= set(names), "the default run is a part of all"


def check_run(program):
    done, context, entries = measured(program, "gemm/(avx2|sse41)/w4pca8/m1/n4096/k4096/t1|quantize/avx2/a8/m1/|baseline/f16/m1/n4096/k4096/t1")
    assert done.returncode == 0, done.stdout
    assert {"cpu", "compiler", "flags", "command"} <= context.keys(), context  # caches are told by /sys, which a container may lack
    products = [entry for name, entry in entries.items() if name.startswith("gemm/") and "skipped" not in entry]
    for entry in products:
        assert entry["gops"] > 0 and entry["gbps"] > 0 and entry["real_time"] > 0 and entry["repetitions"] == 2, entry
        assert 0 < entry["percent_of_limit"] and entry["limit"] in entries, entry
    return len(products)


def check_attention(program):
    """A prompt and a step on a cache of 8 bits: only a step is held against memory."""
    done, _, entries = measured(program, "attention/(avx2|neon)/log2_ceiling/kv8/(prompt|step)/t512/h32x128/t1")
    assert done.returncode == 0, done.stdout
    found = {name: entry for name, entry in entries.items() if name.startswith("attention/") and "skipped" not in entry}
    for name, entry in found.items():
        is_step = "/step/" in name
        assert entry["real_time"] > 0 and entry["repetitions"] == 2, entry
        operations = 4 * 32 * 128 * (512 if is_step else 512 * 513 / 2)
        assert abs(entry["gops"] * entry["real_time"] - operations) < 1e-6 * operations, entry
        assert "limit" not in entry or ("read_memory" in entry["limit"]) == is_step, entry
    return len(found)


def check_failure(program):
    done, _, entries = measured(program, "broken", "--self-test")
    assert {name.split("/")[0] for name in entries} == {"gemm", "attention"}, entries
    assert done.returncode == 1, f"a wrong result ends the program with {done.returncode}:\n{done.stdout}"
    for entry in entries.values():
        assert entry["error_occurred"] and "relative error" in entry["error_message"] and "real_time" not in entry, entry
    assert done.stdout.count("FAILED: check failed") == 2, done.stdout


def main():
    program = sys.argv[1]
    check_names(program)
    products = check_run(program)
    attention = check_attention(program)
    check_failure(program)
    assert run(program, "--filter", "no such name").returncode == 2
    assert run(program, "--filter", "(").returncode == 2
    print(f"{products} products, {attention} of attention measured" if products else "skipped: bench: this CPU runs none of the instruction sets that the test asks for")


if __name__ == "__main__":
    main()
