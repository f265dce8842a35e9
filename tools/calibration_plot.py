#!/usr/bin/env python3
"""Draws the JSON report of a calibration on one page, PNG or SVG: by layer and site the signal-to-noise ratio of the outputs beside that of round-to-nearest,
the share of the final error, the largest activations, and how activations are coded."""
import argparse
import json
import math
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SITES = {"attention": ("attention input", "tab:blue", "o"), "attention_output": ("attention output", "tab:orange", "s"),
         "mlp": ("MLP input", "tab:green", "^"), "mlp_middle": ("MLP middle", "tab:red", "D")}
BITS = {2: "#b2182b", 3: "#d6604d", 4: "#f4a582", 5: "#f7d8c4", 6: "#d9e6ef", 7: "#b5d3e6", 8: "#92c5de", None: "#e8e8e8"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=pathlib.Path, help="the JSON report")
    parser.add_argument("picture", type=pathlib.Path, help="where the picture goes, .png or .svg")
    args = parser.parse_args()
    if args.picture.suffix not in (".png", ".svg"):
        parser.error(f"{args.picture}: neither .png nor .svg")
    return args


def refuse(sentence):
    print(f"calibration_plot: {sentence}", file=sys.stderr)
    sys.exit(2)


class Report:
    """Sites by name, each {layer: entry}."""

    def __init__(self, path):
        try:
            content = json.loads(path.read_text())
            self.sites = {name: {e["layer"]: e for e in content["sites"] if e["site"] == name} for name in SITES}
            self.model, self.weights = content["model"], content["weights"]
            self.perplexity = content.get("perplexity", [])
            kl = content.get("kl_divergence_nats_per_token")
            self.kl = kl if kl and None not in kl.values() else None
            count = len(content["sites"])
        except OSError as error:
            refuse(f"{path}: cannot be read: {error.strerror}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            refuse(f"{path}: is no report of a calibration ({type(error).__name__}: {error})")
        if not count:
            refuse(f"{path}: has no sites")
        self.layers = sorted({layer for entries in self.sites.values() for layer in entries})
        if count != sum(map(len, self.sites.values())):
            refuse(f"{path}: has sites that are not known, or twice")

    def values(self, name, field):
        """A number a layer, NaN where there is none."""
        found = (self.sites[name].get(layer, {}).get(field) for layer in self.layers)
        return [math.nan if value is None else value for value in found]

    def title(self):
        w = self.weights
        method = {"gptq": "GPTQ", "round_to_nearest": "round to nearest"}[w["method"]]
        lines = [self.model, f"{w['bits']}-bit weights by {method}, " + (f"groups of {w['group_size']}" if w["group_size"] else "a scale a row")]
        figures = [f"{p['name']} {p['value']:.4f}" for p in self.perplexity if p["value"] is not None]
        if figures:
            lines.append("perplexity: " + ", ".join(figures))
        return lines


def draw_lines(axes, report, field, **style):
    for name, (_, colour, marker) in SITES.items():
        values = report.values(name, field)
        if any(map(math.isfinite, values)):
            axes.plot(report.layers, values, color=colour, marker=marker, **({"markersize": 4} | style))


def draw_noise(axes, report):
    draw_lines(axes, report, "signal_to_noise_db")
    draw_lines(axes, report, "signal_to_noise_round_to_nearest_db", linestyle=":", markersize=3, markerfacecolor="white", linewidth=1.2)
    axes.set_ylabel("signal to noise\nof the outputs, dB")
    axes.set_title("solid: as calibrated; dotted, white: the same codes of activations, weights rounded to nearest", fontsize=8, loc="left")


def draw_shares(axes, report):
    width = 0.8 / len(SITES)
    for i, (name, (_, colour, _)) in enumerate(SITES.items()):
        places = [layer + (i + 0.5) * width - 0.4 for layer in report.layers]
        axes.bar(places, [100 * share for share in report.values(name, "error_share")], width * 0.92, color=colour)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel("share of the\nfinal error, %")
    axes.set_title("what each site alone adds to the KL divergence from the float model's next-token distributions:\n"
                   f"100 % is their sum, {report.kl['sum_of_sites']:.3g} nats a token; all together add "
                   f"{report.kl['all_sites'] - report.kl['base']:.3g}", fontsize=8, loc="left")


def draw_ranges(axes, report):
    for name, (_, colour, marker) in SITES.items():
        values = [max(abs(low), abs(high)) for low, high in zip(report.values(name, "activation_min"), report.values(name, "activation_max"))]
        axes.plot(report.layers, [value if value > 0 else math.nan for value in values], color=colour, marker=marker, markersize=4)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    low, high = low / 1.5, high * 1.5
    ticks = [digit * 10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
             for digit in ((1, 2, 5) if high / low < 1e3 else (1,))]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(low, high)
    axes.set_ylabel("largest |activation|\n(before rotation)")


def coding_lines(entry):
    """What stands in a cell: bits, and below what was done."""
    bits = entry["activation_bits"]
    marks = ["H"] if entry["hadamard"] else []
    if bits is not None:
        marks += [f"K{entry['trip_max_exponent']}"] if entry["trip_max_exponent"] else []
        marks += ["s"] if entry["activation_scale"] == "static" else []
    return ("float" if bits is None else str(bits)), " ".join(marks)


def draw_codings(axes, report, crowded):
    names = list(SITES)
    for row, name in enumerate(names):
        for layer, entry in report.sites[name].items():
            bits, marks = coding_lines(entry)
            axes.add_patch(plt.Rectangle((layer - 0.47, row - 0.46), 0.94, 0.92, facecolor=BITS[entry["activation_bits"]]))
            size = 9 if not crowded else 8 if bits.isdigit() else 6
            axes.text(layer, row - (0.14 if marks else 0), bits, ha="center", va="center", fontsize=size)
            axes.text(layer, row + 0.26, marks, ha="center", va="center", fontsize=5.5 if crowded else 7)
    axes.set_yticks(range(len(names)), [SITES[name][0] for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(left=False)
    axes.set_title("bits of activations; H: rotated by Hadamard, K: TRIP's largest exponent, s: static scale, else one for each token", fontsize=8, loc="left")
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def draw(report):
    parts = [draw_noise] + ([draw_shares] if report.kl else []) + [draw_ranges]
    crowded = len(report.layers) > 16
    width = min(15, 7.5 + 0.3 * len(report.layers))
    figure, all_axes = plt.subplots(len(parts) + 1, 1, sharex=True, figsize=(width, 2.3 * len(parts) + 3.2), layout="constrained",
                                    gridspec_kw={"height_ratios": [1] * len(parts) + [0.8]})
    for axes, part in zip(all_axes, parts):
        part(axes, report)
        axes.grid(alpha=0.3, linewidth=0.4)
        axes.set_axisbelow(True)
    draw_codings(all_axes[-1], report, crowded)
    step = max(1, round(len(report.layers) / 40))
    all_axes[-1].set(xlabel="layer", xticks=report.layers[::step], xlim=(report.layers[0] - 0.6, report.layers[-1] + 0.6))
    for axes in all_axes[:-1]:
        axes.tick_params(labelbottom=False)
    handles = [plt.Line2D([], [], color=colour, marker=marker, markersize=5, label=label) for label, colour, marker in SITES.values()]
    title, *rest = report.title()
    figure.suptitle(title + "\n" + "\n".join(rest), fontsize=10)
    all_axes[0].legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.12), ncols=len(SITES), fontsize=9, frameon=False)
    return figure


def main():
    args = arguments()
    figure = draw(Report(args.report))
    try:
        figure.savefig(args.picture, dpi=130)
    except OSError as error:
        refuse(f"{args.picture}: cannot be written: {error.strerror}")
    print(args.picture)


if __name__ == "__main__":
    main()
