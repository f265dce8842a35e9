#!/usr/bin/env python3
"""Draws what agilequant_bench --json wrote: roofline, speed over M, instruction sets side by side, peers. One PNG or SVG each."""
import argparse
import json
import pathlib
import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PRODUCT = re.compile(r"(?P<what>.+)/m(?P<m>\d+)/n(?P<n>\d+)/k(?P<k>\d+)/t(?P<t>\d+)")
ISAS = ["scalar", "sse41", "avx2", "avxvnni", "avx512vnni", "amx"]
COLOURS = {"gemm": "tab:blue", "packed_multiplier": "tab:red", "baseline": "tab:gray", "peer": "tab:orange"}
INSTRUCTIONS = {"fma": "FMA, float", "vpdpbusd": "vpdpbusd", "pmaddubsw_w4a8": "pmaddubsw, W4A8", "pmaddubsw_w4a4": "pmaddubsw, W4A4",
                "pmaddwd": "pmaddwd", "tdpbusd": "tdpbusd"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path, help="where the pictures go")
    parser.add_argument("--format", choices=("png", "svg"), default="png")
    parser.add_argument("--matrix", default="4096x4096", help="n x k of the products to draw")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--time", choices=("real", "cpu"), default="real", help="cpu: for a run beside other work, on one thread")
    return parser.parse_args()


class Run:
    """Products of one matrix as {what: {m: entry}}, and limits by name without their threads."""

    def __init__(self, content, matrix, threads, time):
        self.cpu = content["context"]["cpu"]
        self.matrix, self.threads = matrix, threads
        self.products, self.limits = {}, {}
        for entry in content["benchmarks"]:
            if "real_time" not in entry:
                continue
            factor = entry["real_time"] / entry[time + "_time"]
            entry = entry | {"real_time": entry[time + "_time"], "gops": entry["gops"] * factor, "gbps": entry["gbps"] * factor}
            name = entry["name"]
            found = PRODUCT.fullmatch(name)
            if found and f"{found['n']}x{found['k']}" == matrix and int(found["t"]) == threads:
                self.products.setdefault(found["what"], {})[int(found["m"])] = entry
            elif name.startswith("limit/") and name.endswith(f"/t{threads}"):
                self.limits[name.removeprefix("limit/").rsplit("/", 1)[0]] = entry

    def of(self, kind):
        return {what: by_m for what, by_m in self.products.items() if what.startswith(kind + "/")}

    def isas(self):
        there = {what.split("/")[1] for what in self.of("gemm")}
        return [isa for isa in ISAS if isa in there and isa != "scalar"]

    def title(self, axes, text):
        axes.set_title(f"{text}\n{self.cpu}, {self.matrix}, {self.threads} thread{'s' if self.threads > 1 else ''}", fontsize=10)


def short(what):
    kind, *rest = what.split("/")
    return {"gemm": " ".join(rest), "baseline": " ".join(rest).replace("_", " ") + " (baseline)", "peer": " ".join(rest)}[kind]


def logarithmic(axes, x_ticks):
    """Both axes, with numbers that one can read."""
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(x_ticks, [str(x) for x in x_ticks])
    y_ticks = [digit * 10**power for power in range(0, 5) for digit in (1, 2, 5)]
    axes.set_yticks(y_ticks, [str(y) for y in y_ticks])
    axes.minorticks_off()


def roofline(run):
    """Operations a second over operations a byte of weights: one roof for memory and one for each instruction."""
    memory = max((entry["gbps"] for name, entry in run.limits.items() if "read_memory" in name), default=None)
    roofs = {name: entry["gops"] for name, entry in run.limits.items() if entry["gops"] > 0 and not name.startswith("sse41")}
    if memory is None or not roofs:
        return None
    figure, axes = plt.subplots(figsize=(10, 6))
    logarithmic(axes, (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000))
    left, right = 0.8, 4000
    equal = {}  # names of roofs of one height share a line
    for name, peak in sorted(roofs.items(), key=lambda item: item[1]):
        close = next((height for height in equal if abs(height - peak) < 0.06 * peak), peak)
        isa, what = name.split("/")
        equal.setdefault(close, []).append(f"{isa} {INSTRUCTIONS.get(what, what)}")
    for peak, names in equal.items():
        axes.plot([peak / memory, right], [peak, peak], color="black", linewidth=0.8)
        axes.annotate(f"{peak:.0f}  " + "\n".join(names), (right * 1.1, peak), va="center", fontsize=7, annotation_clip=False)
    knee = max(roofs.values()) / memory
    axes.plot([left, knee], [memory * left, memory * knee], color="black", linewidth=0.8)
    axes.annotate(f"reading memory, {memory:.0f} GB/s", (1.7 * left, memory * 1.7 * left), xytext=(10, -8), textcoords="offset points", fontsize=8)
    markers = dict(zip(ISAS, "x^osDP"))
    kinds = [("baseline/f16", "s", "tab:gray")] + [
        (f"gemm/{isa}/{w}", markers[isa], colour) for isa in run.isas() for w, colour in (("w4g128a8", "tab:blue"), ("w4g128a4", "tab:green"))]
    for what, marker, colour in kinds:
        entries = [by_m for by_m in run.products.get(what, {}).values()]
        if entries:
            axes.scatter([e["gops"] / e["gbps"] for e in entries], [e["gops"] for e in entries], marker=marker, color=colour, s=36,
                         label=short(what), zorder=3, facecolors="none" if marker in "^osD" else colour)
    axes.set(xlabel="operations a byte of weights read", ylabel="G operations / s", xlim=(left, right))
    axes.grid(alpha=0.3, linewidth=0.4)
    axes.legend(fontsize=8, loc="lower right")
    run.title(axes, "Roofline: M = 1, 8, 32, 128, 512 from left to right")
    return figure


def over_rows(run):
    """Speed over M of the best instruction set, by format, beside the baseline."""
    if not run.isas():
        return None
    figure, axes = plt.subplots(figsize=(8, 5))
    logarithmic(axes, sorted({m for by_m in run.of("gemm").values() for m in by_m}))
    lines = {what: by_m for what, by_m in run.of("gemm").items() if what.split("/")[1] == run.isas()[-1]}
    lines |= run.of("baseline")
    for what, by_m in lines.items():
        rows = sorted(by_m)
        style = {"color": "gray", "linestyle": "--" if "_" in what else "-"} if what.startswith("baseline") else {}
        axes.plot(rows, [by_m[m]["gops"] for m in rows], marker="o", markersize=4, label=short(what), **style)
    axes.set(xlabel="M, rows of activations", ylabel="G operations / s")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    run.title(axes, "Speed over the number of rows")
    return figure


def by_isa(run):
    """Instruction sets side by side, as times the baseline in half precision, for one row and for many."""
    base = run.products.get("baseline/f16", {})
    rows = [m for m in (min(base, default=0), max(base, default=0)) if m in base]
    formats = sorted({what.split("/")[2] for what in run.of("gemm")})
    if not run.isas() or not rows:
        return None
    figure, both = plt.subplots(1, 2, figsize=(11, 4.5))
    for axes, m in zip(both, rows):
        width = 0.8 / len(run.isas())
        for i, isa in enumerate(run.isas()):
            entries = [run.products.get(f"gemm/{isa}/{f}", {}).get(m) for f in formats]
            values = [base[m]["real_time"] / e["real_time"] if e else 0 for e in entries]
            bars = axes.bar([j + (i + 0.5) * width - 0.4 for j in range(len(formats))], values, width * 0.95, label=isa)
            axes.bar_label(bars, [f"{v:.1f}" if v else "" for v in values], fontsize=7)
        axes.axhline(1, color="gray", linewidth=1)
        axes.set_xticks(range(len(formats)), formats, fontsize=8, rotation=20)
        axes.set_ylabel("times the speed of f16 weights")
        axes.margins(y=0.12)
        run.title(axes, f"M = {m}")
    both[0].legend(fontsize=8)
    return figure


def peers(run):
    """Everybody's time for one row and for many, fastest on top."""
    rows = sorted({m for by_m in run.of("peer").values() for m in by_m})
    if not rows:
        return None
    rows = [rows[0], rows[-1]] if len(rows) > 1 else rows
    best = run.isas()[-1] if run.isas() else ""
    chosen = {w: b for w, b in run.products.items() if not w.startswith(("gemm/", "packed_multiplier/")) or w.split("/")[1] == best}
    figure, both = plt.subplots(1, len(rows), figsize=(6.5 * len(rows), 1.2 + 0.27 * len(chosen)), squeeze=False)
    for axes, m in zip(both[0], rows):
        entries = sorted(((what, by_m[m]) for what, by_m in chosen.items() if m in by_m), key=lambda item: -item[1]["real_time"])
        bars = axes.barh([short(what) for what, _ in entries], [entry["gops"] for _, entry in entries],
                         color=[COLOURS[what.split("/")[0]] for what, _ in entries])
        axes.bar_label(bars, [f"{entry['gops']:.0f}" for _, entry in entries], fontsize=7, padding=2)
        axes.tick_params(axis="y", labelsize=8)
        axes.set_xlabel("G operations / s")
        axes.margins(x=0.1, y=0.01)
        run.title(axes, f"M = {m}")
    return figure


def main():
    args = arguments()
    run = Run(json.loads(args.json.read_text()), args.matrix, args.threads, args.time)
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, draw in (("roofline", roofline), ("rows", over_rows), ("isas", by_isa), ("peers", peers)):
        figure = draw(run)
        if figure is None:
            print(f"{name}: the run has too little for it")
            continue
        figure.tight_layout()
        figure.savefig(args.folder / f"{name}.{args.format}", dpi=130)
        plt.close(figure)
        print(args.folder / f"{name}.{args.format}")


if __name__ == "__main__":
    main()
