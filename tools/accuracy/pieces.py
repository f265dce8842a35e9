#!/usr/bin/env python3
"""What each piece of the method is worth: the table of docs/accuracy-pieces.md.

    ./dev accuracy

quantizes every model of models/ that is small, as it is and with the outlier channels of large models folded in, by every
combination in `ROWS`, and measures each in perplexity beside float, on the same positions. It is long: a combination takes
seconds, and there are hundreds. --only REGEX takes some models, --threads how many commands run at a time.
"""
import argparse
import concurrent.futures
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = ROOT / "models" / "austen" / "persuasion_64k.txt"
LEARNED_SHARE = 4  # the last quarter of the text is learned from, what is before is evaluated
MODELS = {"austen": [], "austen-opt": ["--model", str(ROOT / "models" / "austen-opt")], "austen-bloom": ["--model", str(ROOT / "models" / "austen-bloom")]}
PROFILES = ("opt-1.3b", "opt-2.7b", "tinyllama-1.1b")

LOG2 = ["--attention", "log2-ceiling", "--kv", "8"]
TRIP, ROTATION = ["--trip", "token", "--trip-k", "6"], ["--rotate", "search"]
PRUNED = ["--prune", "0.2"]


def pieces(name, bits):
    """The rows of one width of activations."""
    all_of_it = LOG2 + TRIP + ROTATION
    return [
        (f"{name}, nearest", [*bits, "--nearest"]),
        (f"{name}, GPTQ", bits),
        ("+ log2 attention, 8-bit cache", bits + LOG2),
        ("+ TRIP", bits + TRIP),
        ("+ rotation", bits + ROTATION),
        ("+ TRIP, rotation, log2", bits + all_of_it),
        ("the same, pruned by a fifth", bits + all_of_it + PRUNED),
    ]


ROWS = [
    ("W4A16, nearest", ["-a", "16", "--nearest"]),
    ("W4A16, GPTQ", ["-a", "16"]),
    ("+ log2 attention, 8-bit cache", ["-a", "16", *LOG2]),
    ("the same, pruned by a fifth", ["-a", "16", *LOG2, *PRUNED]),
    *pieces("W4A8", ["-a", "8"]),
    *pieces("W4A4 at the paper's sites", ["-a", "4", "--paper-sites"]),
    *pieces("W4A4", ["-a", "4"]),
]


class Bench:
    def __init__(self, llama, folder, options):
        self.llama, self.folder, self.options = llama, Path(folder), options
        data = TEXT.read_bytes()
        cut = len(data) - len(data) // LEARNED_SHARE
        self.learned, self.evaluated = self.folder / "learned.txt", self.folder / "evaluated.txt"
        self.learned.write_bytes(data[cut:])
        self.evaluated.write_bytes(data[:cut])

    def run(self, *words):
        done = subprocess.run([self.llama, *map(str, words)], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(map(str, words))}\n{done.stderr}")
        return done.stdout

    def perplexity(self, model, beside):
        said = self.run("perplexity", self.evaluated, *model, "--windows", self.options.windows, "-t", 1, *beside)
        other = re.search(r"there has ([\d.]+)", said)
        return float(re.search(r"perplexity ([\d.]+) over", said).group(1)), float(other.group(1)) if other else None

    def cell(self, number, model, outliers, row):
        """Perplexity of one combination, and of float on the same positions."""
        file = self.folder / f"{number}.aqm"
        self.run("calibrate", *MODELS[model], *outliers, "--calibration", self.learned, "--tokens", self.options.tokens, "--group", 32, "-w", 4, *row, "-t", 1, "--out", file)
        try:
            return self.perplexity(["--model", file], ["--beside", MODELS[model][1] if MODELS[model] else "embedded"])
        finally:
            file.unlink(missing_ok=True)


def columns(options):
    """Model, title, options of the programs."""
    found = [(model, model, []) for model in MODELS]
    for profile in PROFILES:
        path = options.profiles / f"{profile}.act_scales.safetensors"
        if path.exists():
            found += [(model, f"{model}, outliers of {profile}", ["--outliers", str(path)]) for model in MODELS]
        else:
            print(f"skipped: outliers of {profile}: {path} is not there", file=sys.stderr)
    return [c for c in found if re.search(options.only, c[1])]


def measure(bench, options):
    work = [(column, row) for column in columns(options) for row in ROWS]
    results, begin = {}, time.time()
    with concurrent.futures.ThreadPoolExecutor(options.threads) as pool:
        jobs = {pool.submit(bench.cell, n, c[0], c[2], row[1]): (c[1], n % len(ROWS)) for n, (c, row) in enumerate(work)}
        for done, job in enumerate(concurrent.futures.as_completed(jobs), 1):
            results[jobs[job]] = job.result()
            left = (time.time() - begin) / done * (len(work) - done)
            print(f"\r{done} of {len(work)}, {left / 60:.0f} min left ", end="" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)
    return results


def table(titles, results, floats):
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    lines.append("| float | " + " | ".join(f"{floats[t]:.4f}" for t in titles) + " |")
    for r, (name, _) in enumerate(ROWS):
        cells = []
        for t in titles:
            value, beside = results[t, r]
            cells.append(f"{value:.4f} ({100 * (value / beside - 1):+.1f} %)")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", default=ROOT / "build/examples/examples/llama", type=Path)
    parser.add_argument("--profiles", default=ROOT.parent / "shared/data/actstats", type=Path, help="folder of channel maxima (*.act_scales.safetensors)")
    parser.add_argument("--tokens", default=2048, type=int, help="that a model is quantized on")
    parser.add_argument("--windows", default=16, type=int, help="of 512 tokens that it is measured on")
    parser.add_argument("--threads", default=2, type=int)
    parser.add_argument("--only", default="", help="columns whose title has this expression")
    parser.add_argument("--json", type=Path, help="also write all figures there")
    parser.add_argument("--into", type=Path, help="a page with the marks <!-- pieces --> and <!-- /pieces -->, between which the tables go")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.llama, folder, options)
        results = measure(bench, options)
        floats = {title: bench.perplexity([*MODELS[model], *outliers], [])[0] for model, title, outliers in columns(options)}
    if options.json:
        named = [{"model": t, "row": r, "options": ROWS[r][1], "perplexity": v, "float_there": b} for (t, r), (v, b) in sorted(results.items())]
        options.json.write_text(json.dumps({"float": floats, "rows": named}, indent=1) + "\n")
    titles = [c[1] for c in columns(options)]
    parts = []
    for model in MODELS:
        own = [t for t in titles if t == model or t.startswith(model + ",")]
        if own:
            parts.append(f"### {model}\n\n" + table(own, results, floats))
    text = "\n\n".join(parts) + "\n"
    if options.into:
        page = options.into.read_text()
        before, rest = page.split("<!-- pieces -->", 1)
        options.into.write_text(before + "<!-- pieces -->\n\n" + text + "\n<!-- /pieces -->" + rest.split("<!-- /pieces -->", 1)[1])
    print(text, end="")


if __name__ == "__main__":
    main()
