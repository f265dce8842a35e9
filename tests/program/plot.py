#!/usr/bin/env python3
"""tools/calibration_plot.py: what it draws is what the report says, nothing lies over anything, and what it cannot read it refuses in one sentence."""
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "calibration_plot.py"
SITES = ("attention", "attention_output", "mlp", "mlp_middle")
DEBIAN_PYTHON = "/usr/bin/python3"

try:
    import matplotlib
except ImportError:
    # Debian's packages are for Debian's Python, which need not be the first in the path.
    if sys.executable != DEBIAN_PYTHON and os.path.exists(DEBIAN_PYTHON):
        os.execv(DEBIAN_PYTHON, [DEBIAN_PYTHON, *sys.argv])
    print("skipped: calibration_plot: matplotlib is not here")
    sys.exit(0)


def site(layer, name):
    """Numbers that no two sites share."""
    place = 4 * layer + SITES.index(name)
    entry = {"layer": layer, "site": name, "linears": ["q"], "weight_bits": 4, "hadamard": place % 3 == 0, "activation_bits": (4, 8, None)[place % 3],
             "activation_min": -1.0 - place, "activation_max": 0.5 + place if place % 2 else 100.0 + place, "signal_to_noise_db": 20.0 + place / 8,
             "signal_to_noise_round_to_nearest_db": 10.0 + place / 8, "signal_to_noise_exact_weights_db": 30.0, "kl_added_nats_per_token": 1.0,
             "error_share": (place - 1) / 100}
    if entry["activation_bits"] is not None:
        entry |= {"activation_asymmetric": True, "activation_scale": ("static", "dynamic")[place % 2], "trip_max_exponent": place % 4, "trip_exponents": [1]}
    return entry


def report(layers):
    return {"model": "a model", "family": "llama", "weights": {"bits": 4, "group_size": 32, "asymmetric": True, "scales": "float", "method": "gptq"},
            "perplexity": [{"name": "float", "value": 3.25}, {"name": "calibrated", "value": None}],
            "kl_divergence_nats_per_token": {"base": 0.25, "all_sites": 0.75, "sum_of_sites": 0.625},
            "sites": [site(layer, name) for layer in range(layers) for name in SITES]}


def cell(entry):
    """What stands in the cell of a site."""
    bits = entry["activation_bits"]
    exponent = entry.get("trip_max_exponent", 0)
    marks = ["H"] * entry["hadamard"] + [f"K{exponent}"] * (exponent > 0)
    return "float" if bits is None else str(bits), " ".join(marks + ["s"] * (entry.get("activation_scale") == "static"))


class PlotTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="aq-plot-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        spec = importlib.util.spec_from_file_location("calibration_plot", TOOL)
        self.tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.tool)

    def draw(self, content):
        path = self.folder / "report.json"
        path.write_text(json.dumps(content))
        figure = self.tool.draw(self.tool.Report(path))
        self.addCleanup(self.tool.plt.close, figure)
        return figure, figure.get_axes()

    def assert_lines(self, axes, expected):
        drawn = [list(map(float, line.get_ydata())) for line in axes.get_lines() if len(line.get_xdata()) == len(expected[0])]
        self.assertEqual(drawn, expected)

    def test_data(self):
        for layers in (1, 4, 40):
            content = report(layers)
            of = {name: [entry for entry in content["sites"] if entry["site"] == name] for name in SITES}
            _, (noise, shares, ranges, codings) = self.draw(content)
            self.assert_lines(noise, [[entry[field] for entry in of[name]] for field in ("signal_to_noise_db", "signal_to_noise_round_to_nearest_db")
                                      for name in SITES])
            self.assertEqual([bar.get_height() for bar in shares.patches], [100 * entry["error_share"] for name in SITES for entry in of[name]])
            self.assert_lines(ranges, [[max(-entry["activation_min"], entry["activation_max"]) for entry in of[name]] for name in SITES])
            self.assertEqual(ranges.get_yscale(), "log")
            self.assertEqual(len(codings.patches), 4 * layers)
            self.assertEqual([text.get_text() for text in codings.texts], [part for name in SITES for entry in of[name] for part in cell(entry)])

    def test_labels(self):
        figure, all_axes = self.draw(report(12))
        figure.canvas.draw()
        title = figure._suptitle.get_text()
        for part in ("a model", "4-bit weights by GPTQ, groups of 32", "float 3.2500"):
            self.assertIn(part, title)
        self.assertNotIn("calibrated", title)  # whose perplexity is not known
        for axes, label in zip(all_axes, ("dB", "%", "activation")):
            self.assertIn(label, axes.get_ylabel())
        self.assertEqual(all_axes[-1].get_xlabel(), "layer")
        self.assertIn("0.625", all_axes[1].get_title(loc="left"))
        self.assertIn("0.5", all_axes[1].get_title(loc="left"))
        self.assertEqual([text.get_text() for text in all_axes[0].get_legend().get_texts()],
                         ["attention input", "attention output", "MLP input", "MLP middle"])

    def test_nothing_lies_over_anything(self):
        for layers in (1, 4, 12, 32):
            figure, all_axes = self.draw(report(layers))
            figure.canvas.draw()
            boxes = [axes.get_window_extent() for axes in all_axes] + [axes._left_title.get_window_extent() for axes in all_axes]
            boxes += [all_axes[0].get_legend().get_window_extent(), figure._suptitle.get_window_extent()]
            boxes = [box for box in boxes if box.width > 1 and box.height > 1]
            for i, box in enumerate(boxes):
                self.assertTrue(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1, (layers, i, box))
                for other in boxes[i + 1:]:
                    self.assertFalse(box.overlaps(other), (layers, box, other))

    def test_what_is_not_there(self):
        content = report(4)
        content["kl_divergence_nats_per_token"] = None
        content["sites"] = [entry for entry in content["sites"] if (entry["layer"], entry["site"]) != (2, "mlp")]
        content["sites"][0]["signal_to_noise_db"] = None
        _, (noise, ranges, _) = self.draw(content)
        first, third = noise.get_lines()[0].get_ydata(), noise.get_lines()[2].get_ydata()
        self.assertTrue(math.isnan(first[0]) and not math.isnan(first[1]))
        self.assertTrue(math.isnan(third[2]) and not math.isnan(third[3]))
        self.assertEqual(ranges.get_yscale(), "log")

    def run_tool(self, *words):
        return subprocess.run([sys.executable, TOOL, *map(str, words)], capture_output=True, text=True, timeout=300)

    def test_pictures(self):
        (self.folder / "report.json").write_text(json.dumps(report(4)))
        for name, start in (("a.png", b"\x89PNG\r\n"), ("a.svg", b"<?xml")):
            done = self.run_tool(self.folder / "report.json", self.folder / name)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual((self.folder / name).read_bytes()[:len(start)], start)

    def test_refusals(self):
        good = report(1)
        twice = good | {"sites": good["sites"] + good["sites"][:1]}
        for text in ("", "[]", "{}", json.dumps(good | {"sites": []}), json.dumps(good | {"sites": [7]}), json.dumps(twice), None):
            path = self.folder / "report.json"
            path.unlink(missing_ok=True)
            if text is not None:
                path.write_text(text)
            done = self.run_tool(path, self.folder / "a.png")
            self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertIn("report.json", done.stderr)
        path.write_text(json.dumps(good))
        self.assertEqual(self.run_tool(path, self.folder / "no" / "a.png").returncode, 2)
        self.assertEqual(self.run_tool(path, self.folder / "a.txt").returncode, 2)


if __name__ == "__main__":
    unittest.main()
