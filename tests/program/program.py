#!/usr/bin/env python3
"""The programs llama and llama_block as somebody at a terminal meets them: what they print, what they refuse, and how.

A refusal is exit code 2, one sentence on standard error, and nothing on standard output. A build with sanitizers runs the same test: any
finding ends a program with another code."""
import argparse
import copy
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import models

TIME_LIMIT = 900


class ProgramTest(unittest.TestCase):
    llama = llama_block = None
    launcher = []
    slowdown = most_threads = 1

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="aq-program-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_program(self, program, *words, isa=None, stdout=subprocess.PIPE):
        environment = {k: v for k, v in os.environ.items() if k != "AQ_ISA"} | {"OMP_WAIT_POLICY": "passive"}  # other tests run beside
        if isa is not None:
            environment["AQ_ISA"] = isa
        argv = [*self.launcher, program, *map(str, words)]
        done = subprocess.run(argv, stdout=stdout, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment, timeout=TIME_LIMIT)
        self.assertIn(done.returncode, (0, 2), f"{argv}\n{done.stderr.decode(errors='replace')}")
        return done

    def output(self, *words, program=None, isa=None):
        """What a program prints that succeeds."""
        done = self.run_program(program or self.llama, *words, isa=isa)
        self.assertEqual(done.returncode, 0, done.stderr.decode(errors="replace"))
        return done.stdout.decode(errors="replace")

    def assert_refused(self, *words, names=(), program=None, isa=None, sentence=True):
        """`names`: what the message has to speak of. Options that cannot be read are explained by the command-line library."""
        done = self.run_program(program or self.llama, *words, isa=isa)
        message = done.stderr.decode(errors="replace")
        self.assertEqual((done.returncode, done.stdout), (2, b""), f"{words}: {message}")
        for name in names:
            self.assertIn(name, message, words)
        if sentence:
            self.assertEqual(message.count("\n"), 1, message)
            self.assertRegex(message, r"\Allama(_block)?: \S")

    def instruction_sets(self):
        line = re.search(r"^this CPU +(.*)$", self.output("info"), re.MULTILINE).group(1)
        return [name for name in re.sub(r"\w+ \(absent\)", "", line).split()]

    def calibration(self):
        """What TRIP learns from: nothing said, 4096 tokens of the embedded model's text; where that takes minutes, one sentence."""
        return [] if self.slowdown == 1 else ["--calibration", self.text_file(models.SENTENCE, "calibration.txt")]

    def text_file(self, text, name="text.txt"):
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path


class Use(ProgramTest):
    """What a newcomer does first."""

    def test_help(self):
        text = self.output("--help")
        for command in ("generate", "perplexity", "compare", "calibrate", "info"):
            self.assertIn(command, text)
            help_text = self.output(command, "--help")
            for option in ("--model", "--threads", "--isa"):
                self.assertIn(option, help_text)
        for table in ("caches", "pruning"):
            self.assertIn(table, self.output("sweep", "--help"))
            help_text = self.output("sweep", table, "--help")
            for option in ("--model", "--windows", "--separator", "--weights", "--threads", "--isa"):
                self.assertIn(option, help_text)
        for option in ("--prompt", "--temperature", "--top-p", "--seed", "--weights", "--activations", "--trip", "--attention", "--kv", "--prune"):
            self.assertIn(option, self.output("generate", "--help"))

    def test_info(self):
        text = self.output("info")
        for piece in ("4 layers", "dimension 256", "4 heads of 64", "256 tokens", "length 512", "this CPU", "scalar"):
            self.assertIn(piece, text)
        self.assertIn("scalar", self.instruction_sets())
        for isa in self.instruction_sets():
            self.assertRegex(self.output("info", "--isa", isa), rf"chosen +{isa}\b")
            self.assertRegex(self.output("info", isa=isa), rf"chosen +{isa}\b")

    def test_outliers(self):
        for words in (["--outliers"], ["--outliers", "--threads", 1]):
            self.assertRegex(self.output("info", *words), r"model +embedded .* with outlier channels\n")

    def test_seeds(self):
        words = ["generate", "--context", 80, "-n", 40, "--temperature", 1.2, "--prompt", "She "]
        one, two = self.output(*words, "--seed", 1), self.output(*words, "--seed", 2)
        self.assertNotEqual(one, two)
        self.assertEqual(self.output(*words, "--seed", 1), one)
        # the likeliest token alone is temperature 0
        greedy = self.output(*words[:-4], "--temperature", 0, "--prompt", "She ")
        self.assertEqual(self.output(*words, "--top-p", 0, "--seed", 9), greedy)

    def test_a_text_ends_with_the_context(self):
        text = self.run_program(self.llama, "generate", "--context", 20, "-n", 1000, "--temperature", 0, "--prompt", "x" * 10).stdout
        self.assertEqual(len(text), 10 + 9 + 1)  # a start mark; nine more; the end of the line
        self.assertEqual(self.output("generate", "-n", 0, "--prompt", "abc"), "abc\n")

    def test_perplexity(self):
        def figure(*words):
            text = self.output("perplexity", "--windows", 2, "--length", 128, *words)
            return float(re.search(r"perplexity ([\d.]+) over", text).group(1)), text

        exact, text = figure()
        self.assertTrue(1.5 < exact < 16, text)  # bytes of English: guessing is 256
        self.assertIn("256 tokens in 2 windows", text)
        self.assertNotIn("of the positions", text)
        coded, _ = figure("-w", 8, "-a", 8, "--kv", 8)
        self.assertLess(abs(coded / exact - 1), 0.02)
        trip, _ = figure("-w", 4, "-a", 8, "--trip", "token", *self.calibration())
        self.assertLess(abs(trip / exact - 1), 0.2)
        pruned, text = figure("--prune", 0.5)
        share = float(re.search(r"([\d.]+) % of the positions", text).group(1))
        self.assertTrue(50 <= share < 53, text)
        text_file = self.text_file("It was a dark and stormy night; the rain fell in torrents. " * 3)
        self.assertLess(float(re.search(r"perplexity ([\d.]+)", self.output("perplexity", text_file, "--context", 100)).group(1)), 60)

    def test_compare(self):
        words = ["compare", "--windows", 1, "--context", 64 if self.slowdown == 1 else 16, *self.calibration()]
        text = self.output(*words)
        lines = [line for line in text.splitlines() if re.search(r" (MB|kB) .* (MB|kB)$", line)]
        rows = {re.match(r"(.*?)  ", line).group(1): re.split(r" {2,}", line)[1:] for line in lines}
        dense = ("float", "W4A16", "W8A8", "W4A8", "W4A8 + log2-ceiling", "W4A4", "W4A4 + TRIP")
        self.assertEqual(sorted(rows), sorted([*dense, *(name + ", pruned" for name in dense)]), text)
        for name, row in rows.items():
            perplexity, same, scored, prompt, step = map(float, row[:5])
            self.assertTrue(1 < perplexity < 256 and prompt > 0 and step > 0, text)
            self.assertEqual(scored < 100, "pruned" in name, text)
            self.assertTrue("pruned" in name or perplexity == same, text)
        megabytes = {name: float(row[5].split()[0]) for name, row in rows.items()}
        self.assertTrue(megabytes["float"] > megabytes["W8A8"] > megabytes["W4A8"], text)
        self.assertEqual(megabytes["W4A8"], megabytes["W4A16"], text)
        half = self.output(*words, "--prune", 0)
        self.assertNotIn("pruned", half)

    def test_separator(self):
        """Texts in a file are windows of their own; the white space around them and empty texts are nothing."""
        def scored(*words):
            return re.search(r"over (\d+) tokens in (\d+) windows", self.output("perplexity", *words, "--context", 8)).groups()

        path = self.text_file("\nabcd \n|| ||efghijklmnop||||q\n||")
        self.assertEqual(scored(path, "--separator", "||"), ("17", "4"))  # abcd; efghijkl, mnop; q
        self.assertEqual(scored(path, "--separator", "||", "--windows", 2), ("12", "2"))
        self.assertEqual(scored(path, "--separator", "no such thing"), ("31", "4"))
        self.assert_refused("perplexity", self.text_file("|| ||"), "--separator", "||", names=["text.txt", "too few"])

    def test_options_are_refused(self):
        for words, names in (
            ([], ["subcommand"]), (["write"], ["subcommand"]), (["generate", "--bogus"], ["--bogus"]), (["generate", "-w", 1], ["--weights"]),
            (["generate", "-w", 9], ["--weights"]), (["generate", "-a", 16.5], ["--activations"]), (["generate", "--kv", 5], ["--kv"]),
            (["generate", "--trip", "maybe"], ["--trip"]), (["generate", "--attention", "log3"], ["--attention"]),
            (["generate", "--temperature", "nan"], ["--temperature"]), (["generate", "--temperature", -1], ["--temperature"]),
            (["generate", "--top-p", 2], ["--top-p"]), (["generate", "--prune", "nan"], ["--prune"]), (["generate", "--prune", 1], ["--prune"]),
            (["perplexity", "--threads", 100000], ["--threads"]), *((["perplexity", option, -1], [option]) for option in ("--windows", "--length", "--group", "--context")), (["generate", "--tokens", -1], ["--tokens"]),
            (["generate", "--seed", -1], ["--seed"]), (["compare", "--group", -1], ["--group"]), (["info", "--threads", -1], ["--threads"]),
            (["info", "--context", "many"], ["--context"]), (["sweep"], ["subcommand"]), (["sweep", "layers"], ["subcommand"]),
            (["sweep", "caches", "--kv", 8], ["--kv"]), (["sweep", "caches", "--attention", "softmax"], ["--attention"]), (["sweep", "caches", "--windows", -1], ["--windows"]),
            *((["sweep", "pruning", "--prune", shares], ["--prune"]) for shares in (0, 1, "nan", "0.2,x", "0.2,1.5", "")),
        ):
            with self.subTest(words=words):
                self.assert_refused(*words, names=names, sentence=False)

    def test_what_does_not_fit_together_is_refused(self):
        absent = sorted({"scalar", "sse41", "avx2", "avxvnni", "avx512vnni", "amx", "neon", "dotprod", "i8mm"} - set(self.instruction_sets()))
        for words, names in (
            (["generate", "-a", 8], ["--activations 8", "--weights"]), (["generate", "--trip", "token"], ["--trip token", "--activations"]),
            (["generate", "-w", 4, "--trip", "static"], ["--trip static", "--activations"]),
            (["generate", "--prompt", "x" * 600], ["--prompt", "601", "512"]), (["generate", "--context", 8, "--prompt", "x" * 8], ["--prompt", "9 tokens", "8"]),
            (["generate", "--context", 600], ["600", "512"]), (["perplexity", "--length", 513], ["513", "512"]),
            (["perplexity", "--prune", 0.5, "--prune-layers", "4"], ["--prune-layers 4", "4 layers"]),
            (["perplexity", "--prune", 0.5, "--prune-layers", "1,x"], ["--prune-layers", "'x'"]),
            (["perplexity", "--prune", 0.5, "--prune-layers", "-1"], ["--prune-layers", "'-1'"]),
            (["perplexity", "--prune", 0.5, "--prune-layers", "2,1"], ["--prune"]), (["perplexity", "--prune", 0.5, "--prune-layers", ""], ["--prune"]),
            (["sweep", "pruning", "--prune-layers", "1,4"], ["--prune-layers 1,4", "4 layers"]), (["sweep", "pruning", "--prune-layers", "1", "--prune-layers", "x"], ["--prune-layers", "'x'"]),
            (["sweep", "caches", "-a", 8], ["--activations 8", "--weights"]), (["sweep", "caches", "--context", 600], ["600", "512"]),
            (["info", "--isa", "sse9"], ["--isa sse9"]), (["generate", "--isa", "sse9"], ["--isa sse9"]), (["compare", "--isa", "sse9"], ["--isa sse9"]),
            (["perplexity", "-w", 4, "-a", 4, "--trip", "token", "--context", 1], ["calibration"]),
            (["generate", "-w", 4, "--group", 2**63], ["argument"]),
            (["info", "--outliers", self.text_file("no tensors")], ["text.txt"]), (["info", "--outliers", self.folder / "none"], ["none"]),
            *((["generate", "--isa", isa], ["--isa " + isa, "lacks"]) for isa in absent),
        ):
            with self.subTest(words=words):
                self.assert_refused(*words, names=names)
        for words in (["generate"], ["perplexity"], ["compare"], ["sweep", "caches"], ["sweep", "pruning"], ["info"]):
            self.assert_refused(*words, names=["AQ_ISA=sse9"], isa="sse9")

    def test_texts_are_refused(self):
        missing, empty, short = self.folder / "none.txt", self.text_file(""), self.folder / "short.txt"
        for command in (["perplexity"], ["compare"], ["sweep", "caches"], ["sweep", "pruning"]):
            for path in (missing, empty, self.folder):
                self.assert_refused(*command, path, names=[path.name])
        self.assert_refused("generate", "-w", 4, "-a", 4, "--trip", "token", "--calibration", empty, names=[empty.name])
        short.write_text("a")  # one token after the start mark can be scored
        self.assertIn("over 1 tokens", self.output("perplexity", short))

    def test_output_that_cannot_be_written_is_no_success(self):
        if not Path("/dev/full").exists():
            self.skipTest("there is no /dev/full")
        with open("/dev/full", "wb") as full:
            for words in (["info"], ["generate", "-n", 3, "--prompt", "a"]):
                self.assertEqual(self.run_program(self.llama, *words, stdout=full).returncode, 2)


class Texts(ProgramTest):
    """texts.json: what the embedded model writes, greedily, and tables of a tiny one. The same on every instruction set, with any number of threads, by every compiler
    and on every architecture: this test, with this file, is run on all of them."""

    def test_generated_text_is_the_same_everywhere(self):
        stored = json.loads((Path(__file__).parent / "texts.json").read_text())
        calibration = self.text_file(models.SENTENCE)
        for case in stored["texts"]:
            words = ["generate", *stored["options"], "--prompt", stored["prompt"], *case["options"]]
            if "--trip" in words:
                words += ["--calibration", calibration]
            with self.subTest(options=case["options"]):
                expected = stored["prompt"] + case["continuation"] + "\n"
                self.assertEqual(self.output(*words), expected)
                for isa, threads in self.ways(case is stored["texts"][-1]):
                    self.assertEqual(self.output(*words, "--threads", threads, isa=isa), expected, f"{isa}, {threads} threads")

    def test_tables_are_the_same_everywhere(self):
        stored = json.loads((Path(__file__).parent / "texts.json").read_text())["tables"]
        config = {**models.CONFIG, **stored["config"]}
        folder = models.write_model(self.folder / "tiny", json.dumps(config).encode(), models.safetensors(config, models.weights(config)))
        text = self.text_file("||".join(("One.", models.SENTENCE, models.SENTENCE[::-1])))
        for case in stored["tables"]:
            words = ["sweep", *case["options"], text, "--separator", "||", "--model", folder]
            with self.subTest(options=case["options"]):
                for isa, threads in [(None, 1), *self.ways(True)]:
                    head, _, table = self.output(*words, "--threads", threads, isa=isa).partition("\n\n")
                    self.assertEqual(table.splitlines(), case["table"], f"{isa}, {threads} threads")
                    self.assertIn(f"tiny, {case['name']}, 5 windows of up to 64 tokens", head)

    def ways(self, in_every_way):
        """Every instruction set with one and two threads; where a run takes seconds, for one of the texts, and for the others none."""
        every = [(isa, threads) for isa in self.instruction_sets() for threads in range(1, min(2, self.most_threads) + 1)]
        return every if self.slowdown == 1 or in_every_way else []


class Models(ProgramTest):
    """Models from files."""

    def test_hugging_face(self):
        folder = models.write_model(self.folder / "tiny")
        self.assertIn("2 layers, dimension 16, hidden 12, 2 heads of 8, 1 of keys and values", self.output("info", "--model", folder))
        words = ["--model", folder, "--prompt", "abc", "-n", 10, "--temperature", 0]
        one = self.run_program(self.llama, "generate", *words).stdout
        self.assertEqual(self.run_program(self.llama, "generate", *words, "-t", min(3, self.most_threads), isa="scalar").stdout, one)
        self.assertTrue(one.startswith(b"abc"))
        text = self.text_file("some text to look at, " * 8)
        self.assertIn("perplexity", self.output("perplexity", text, "--model", folder, "-w", 3, "-a", 5, "--trip", "static", "--calibration", text))
        self.assertEqual(self.output("compare", text, "--model", folder, "--calibration", text, "--windows", 1).count("pruned"), 7)
        for command in (["perplexity"], ["sweep", "caches"], ["sweep", "pruning"]):
            self.assert_refused(*command, "--model", folder, names=["text"])
        self.assert_refused("compare", text, "--model", folder, names=["--calibration"])
        self.assert_refused("generate", "--model", folder, "-w", 4, "-a", 4, "--trip", "token", "--prompt", "a", names=["--calibration"])

    def test_families(self):
        text = models.TRAINED / "austen" / "persuasion_64k.txt"
        for family in ("opt", "bloom"):
            folder = models.TRAINED / f"austen-{family}"
            self.assertRegex(self.output("info", "--model", folder), rf"family +{family}\b")
            words = ["generate", "--model", folder, "--prompt", "She ", "-n", 10, "--temperature", 0, "--context", 20]
            for precision in ([], ["-w", 4, "-a", 8, "--kv", 8, "--attention", "log2-half-ceiling", "--prune", 0.3, "--prune-layers", "2"]):
                one = self.run_program(self.llama, *words, *precision).stdout
                self.assertEqual(self.run_program(self.llama, *words, *precision, "-t", min(3, self.most_threads), isa="scalar").stdout, one)
                self.assertTrue(one.startswith(b"She "))
            said = self.output("perplexity", text, "--model", folder, "--windows", 1, "--length", 64, "-w", 8, "-a", 8)
            self.assertLess(float(re.search(r"perplexity ([\d.]+) over", said).group(1)), 16, said)

    def test_without_a_start_mark(self):
        config = {**models.CONFIG, "bos_token_id": None}
        folder = models.write_model(self.folder / "tiny", json.dumps(config).encode())
        self.assert_refused("generate", "--model", folder, names=["--prompt"])
        self.assertTrue(self.output("generate", "--model", folder, "--prompt", "a", "-n", 2).startswith("a"))
        text = self.text_file("a")
        self.assert_refused("perplexity", text, "--model", folder, names=[text.name, "too few"])

    def test_llama2c(self):
        (self.folder / "tiny.bin").write_bytes(models.llama2c())
        (self.folder / "tokenizer.bin").write_bytes(models.vocabulary())
        self.assertIn("1 layers, dimension 16", self.output("info", "--model", self.folder / "tiny.bin"))
        self.assertIn("hello", self.output("generate", "--model", self.folder / "tiny.bin", "--prompt", "hello", "-n", 5))

    def test_a_long_context_is_cut_to_what_there_is_memory_for(self):
        config = {**models.CONFIG, "max_position_embeddings": 1 << 22}
        folder = models.write_model(self.folder / "tiny", json.dumps(config).encode())
        self.assertIn("length 4194304", self.output("info", "--model", folder))
        self.assertTrue(self.output("generate", "--model", folder, "--prompt", "a", "-n", 2).startswith("a"))
        self.assert_refused("generate", "--model", folder, "--prompt", "a", "--context", 1 << 23, names=["tiny", "4194304"])

    def test_a_model_that_computes_no_numbers_is_refused(self):
        values = models.weights(models.CONFIG)
        values[models.HEAD] = [float("nan")] * len(values[models.HEAD])
        folder = models.write_model(self.folder / "nan", tensors=models.safetensors(models.CONFIG, values))
        text = self.text_file("abcdefgh")
        for temperature in (0, 1):
            self.assert_refused_after_prompt("generate", "--model", folder, "--prompt", "a", "--temperature", temperature)
        self.assert_refused("perplexity", text, "--model", folder, names=["NaN"])
        # one broken row only: its token is never written
        values = models.weights(models.CONFIG)
        values[models.HEAD][16 * 65] = float("nan")
        folder = models.write_model(self.folder / "row", tensors=models.safetensors(models.CONFIG, values))
        for temperature in (0, 1, 50):
            written = self.run_program(self.llama, "generate", "--model", folder, "--prompt", "b", "-n", 60, "--temperature", temperature, "--top-p", 1)
            self.assertEqual((written.returncode, written.stdout.count(b"A")), (0, 0))

    def assert_refused_after_prompt(self, *words):
        done = self.run_program(self.llama, *words)
        self.assertEqual((done.returncode, done.stdout), (2, b"a"))  # the prompt is all that there is to write
        self.assertIn(b"NaN", done.stderr)


class Calibrate(ProgramTest):
    """`llama calibrate`, and the other commands with the file that it writes."""

    def setUp(self):
        super().setUp()
        self.model = models.write_model(self.folder / "tiny")
        self.text = self.text_file(models.SENTENCE * 3, "learned.txt")
        self.out = self.folder / "tiny.aqm"
        self.tiny = ["calibrate", "--model", self.model, "--calibration", self.text, "--group", 16, "--tokens", 200, "--out", self.out]
        self.embedded = ["calibrate", "--tokens", 24, "--context", 12, "--out", self.out, *([] if self.slowdown == 1 else ["--nearest"])]

    def written(self, *words, isa=None):
        """The bytes of the file, beside which nothing is left."""
        text = self.output(*words, isa=isa)
        self.assertRegex(text, rf"{self.out}: [\d.]+ [kM]B\n\Z")
        self.assertEqual([path.name for path in self.folder.glob(self.out.name + "*")], [self.out.name])
        return self.out.read_bytes()

    def test_every_command_takes_the_file(self):
        text = self.output(*self.tiny, "-w", 4, "-a", 4, "--trip", "token", "--rotate", "search", "--attention", "log2-ceiling", "--kv", 8)
        sites = re.findall(r"^(\d) +(attention|attention_output|mlp|mlp_middle) +4 ", text, re.MULTILINE)
        self.assertEqual(sites, [(str(layer), site) for layer in (0, 1) for site in ("attention", "attention_output", "mlp", "mlp_middle")], text)
        model = ["--model", self.out]
        told = self.output("info", *model)
        for piece in ("model        tiny\n", "2 layers, dimension 16", "length 64", "made for     W4A4 + TRIP + log2-ceiling\n"):
            self.assertIn(piece, told)
        words = ["generate", *model, "--prompt", "abc", "-n", 10, "--temperature", 0]
        one = self.run_program(self.llama, *words).stdout
        self.assertEqual(self.run_program(self.llama, *words, "-t", min(3, self.most_threads), isa="scalar").stdout, one)
        self.assertIn("W4A4 + TRIP + log2-ceiling: perplexity", self.output("perplexity", self.text, *model))
        self.assertIn("W4A4 + TRIP, pruned: perplexity", self.output("perplexity", self.text, *model, "--attention", "softmax", "--kv", 4, "--prune", 0.5))
        rows = re.findall(r"^W4A4 \+ TRIP( \+ log2-ceiling)?, KV(\d+) ", self.output("compare", self.text, *model, "--windows", 1, "--prune", 0), re.MULTILINE)
        self.assertEqual(rows, [(" + log2-ceiling", "8"), ("", "32"), ("", "8"), (" + log2-ceiling", "32")])
        self.assertIn("4 bits, rotated", self.output("sweep", "caches", self.text, *model))
        self.assertIn("none ", self.output("sweep", "pruning", self.text, *model))

    def test_the_bytes_are_the_same_everywhere(self):
        for options in (["-w", 4, "-a", 4, "--trip", "static", "--rotate", "search"], ["-w", 3, "-a", 8, "--prune", 0.3, "--follow", 0, "--rotate", "folded"],
                        ["-w", 2, "-a", 16, "--two-level", "--nearest", "--rotate", "all"], ["-w", 8, "-a", 5, "--trip", "token", "--search", "paper"]):
            with self.subTest(options=options):
                one = self.written(*self.tiny, *options, "-t", 1)
                for isa in self.instruction_sets() if self.slowdown == 1 else ["scalar"]:
                    self.assertEqual(self.written(*self.tiny, *options, "-t", min(3, self.most_threads), isa=isa), one, isa)

    def test_the_embedded_model(self):
        one = self.written(*self.embedded, "-t", 1)
        self.assertEqual(self.written(*self.embedded, "-t", min(3, self.most_threads)), one)
        self.assertIn("length 512", self.output("info", "--model", self.out))  # not that of the windows
        self.assertTrue(self.output("generate", "--model", self.out, "--prompt", "She ", "-n", 3).startswith("She "))

    def test_a_run_that_is_broken_off_goes_on(self):
        config = {**models.CONFIG, "num_hidden_layers": 3}
        folder = models.write_model(self.folder / "three", json.dumps(config).encode(), models.safetensors(config, models.weights(config)))
        words, learned, parts = ["calibrate", "--model", folder, "--out", self.out], ["--calibration", self.text], self.folder / "tiny.aqm.parts"
        whole = self.written(*words, *learned)
        self.out.write_bytes(b"old")
        wall = parts / "layer-2.aqp" / "a folder that is not empty"
        wall.mkdir(parents=True)
        self.assert_refused(*words, *learned, names=["layer-2.aqp: cannot be written"])
        self.assertEqual(self.out.read_bytes(), b"old")
        wall.rmdir()
        wall.parent.rmdir()
        kept = {path.name: path.read_bytes() for path in parts.iterdir()}
        self.assertEqual(sorted(kept), ["layer-0.aqp", "layer-1.aqp"])

        def resumed(*more, spoil=None):
            """How many layers were taken over, and the file."""
            parts.mkdir(exist_ok=True)
            for name, data in kept.items():
                (parts / name).write_bytes(data)
            if spoil is not None:
                (parts / "layer-1.aqp").write_bytes(spoil)
            done = self.run_program(self.llama, *words, *more)
            self.assertEqual((done.returncode, parts.exists()), (0, False), done.stderr)
            taken = re.search(rb"^(\d+) of 3 layers are there", done.stderr, re.MULTILINE)
            return int(taken.group(1)) if taken else 0, self.out.read_bytes()

        self.assertEqual(resumed(*learned), (2, whole))
        part = kept["layer-1.aqp"]
        for spoil in (b"", b"x", part[:-1], part[:3000] + bytes([part[3000] ^ 1]) + part[3001:], kept["layer-0.aqp"]):
            self.assertEqual(resumed(*learned, spoil=spoil), (1, whole))
        for option in (["-w", 3], ["-a", 4], ["--damping", 0.0100000001], ["--tokens", 23], ["--kv", 8], ["--prune", 0.01], ["--nearest"], ["--outliers"], ["--rotate", "folded"],
                       ["--context", 63], ["--separator", "dinner"]):
            self.assertEqual(resumed(*learned, *option)[0], 0, option)
        self.assertEqual(resumed("--calibration", self.text_file(models.SENTENCE * 2 + models.SENTENCE.upper()))[0], 0)
        values = models.weights(config)
        values["model.layers.2.mlp.down_proj.weight"][-1] += 0.25
        models.write_model(folder, json.dumps(config).encode(), models.safetensors(config, values))
        self.assertEqual(resumed(*learned)[0], 0)

    def test_what_is_not_ours_stays(self):
        parts = self.folder / "tiny.aqm.parts"
        parts.mkdir()
        (parts / "novel.txt").write_text("by hand")
        self.output(*self.tiny)
        self.assertEqual([path.name for path in parts.iterdir()], ["novel.txt"])

    def test_refusals(self):
        one = self.text_file("a")
        for words, names in (
            ([*self.tiny, "-w", 16], ["--weights 16"]), (["calibrate", "--model", self.model, "--out", self.out], ["--calibration"]),
            ([*self.tiny, "-a", 16, "--trip", "token"], ["--trip token", "--activations"]), ([*self.tiny, "-w", 8, "--two-level"], ["--two-level"]),
            ([*self.tiny[:-1], ""], ["--out ''"]), ([*self.tiny[:-1], self.folder], ["--out", self.folder.name]),
            ([*self.tiny[:-1], self.folder / "none" / "x.aqm"], ["x.aqm.parts", "cannot be made"]), ([*self.tiny[:-1], one / "x.aqm"], ["x.aqm.parts", "cannot be made"]),
            (["calibrate", "--calibration", self.text_file("", "empty.txt"), "--out", self.out], ["empty.txt"]), (["calibrate", "--calibration", self.folder / "none.txt", "--out", self.out], ["none.txt"]),
            ([*self.tiny, "--prune", 0.5, "--prune-layers", 2], ["--prune-layers 2", "2 layers"]), ([*self.tiny, "--context", 65], ["65", "64"]),
        ):
            with self.subTest(words=words):
                self.assert_refused(*words, names=names)
        for words, name in ((["calibrate"], "--out"), ([*self.tiny, "--rotate", "some"], "--rotate"), ([*self.tiny, "--search", "x"], "--search"), (["calibrate", "--out", self.out, "--tokens", 0], "--tokens"),
                            ([*self.tiny, "--damping", "nan"], "--damping"), ([*self.tiny, "--follow", 1.5], "--follow")):
            self.assert_refused(*words, names=[name], sentence=False)
        self.assertEqual(list(self.folder.glob("*.aqm*")), [])

    def test_a_quantized_model_refuses_other_codes(self):
        self.output(*self.tiny)
        model = ["--model", self.out]
        again = ["calibrate", *model, "--calibration", self.text, "--out", self.folder / "again.aqm"]
        self.assert_refused(*again, names=["tiny is quantized already"])
        for option in (["-w", 4], ["-a", 8], ["--paper-sites"], ["--group", 16], ["--symmetric"], ["--two-level"], ["--trip", "token"], ["--trip-k", 2], ["--outliers"]):
            self.assert_refused("perplexity", self.text, *model, *option, names=["tiny is quantized already"])
        self.assert_refused("info", *model, "--outliers", names=["--outliers: tiny is quantized already"])
        self.assert_refused("info", *model, "--tokenizer", self.text, names=["tiny.aqm", "tokenizer"])
        whole = self.out.read_bytes()
        for place in (0, 9, 70, len(whole) // 2, len(whole) - 100):
            self.out.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:])
            self.assert_refused("info", *model, names=["tiny.aqm"])
        for size in (0, 7, 64, len(whole) - 1):
            self.out.write_bytes(whole[:size])
            self.assert_refused("info", *model, names=["tiny.aqm"])


class BrokenModels(ProgramTest):
    """Every way in which a file can lie: one sentence that names file and field."""

    def refuse(self, names, config=None, tensors=None, commands=("info",)):
        folder = models.write_model(self.folder / "broken", config, tensors)
        for command in commands:
            self.assert_refused(command, *(["--prompt", "a"] if command == "generate" else []), "--model", folder, names=names)

    def test_missing_files(self):
        for command in (["info"], ["generate"], ["perplexity"], ["compare"], ["sweep", "caches"], ["sweep", "pruning"]):
            text = [self.text_file("abc")] if command[0] in ("perplexity", "compare", "sweep") else []
            calibration = ["--calibration", self.text_file("abc")] if command[0] == "compare" else []
            self.assert_refused(*command, *text, *calibration, "--model", self.folder / "nowhere", names=["nowhere", "no such file"])
        self.assert_refused("info", "--model", self.folder, names=["config.json", "cannot be opened"])
        (self.folder / "config.json").write_text(json.dumps(models.CONFIG))
        self.assert_refused("info", "--model", self.folder, names=["model.safetensors", "cannot be opened"])
        (self.folder / "model.gguf").write_text("GGUF")
        self.assert_refused("info", "--model", self.folder / "model.gguf", names=["model.gguf"])

    def test_configurations(self):
        for field, value in (
            *((name, value) for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                                         "num_key_value_heads", "max_position_embeddings")
              for value in (-1, 0, 1.5, "8", [8], 1 << 40, 1 << 64, 10**30)),
            ("num_attention_heads", 3), ("num_key_value_heads", 3), ("num_attention_heads", 16), ("head_dim", 5), ("max_position_embeddings", (1 << 22) + 1), ("rms_norm_eps", -1),
            ("rms_norm_eps", "small"), ("rope_theta", 0), ("rope_theta", -5.0), ("hidden_act", "gelu"), ("model_type", "gpt2"), ("vocab_size", 300),
            ("bos_token_id", 256), ("bos_token_id", -1), ("eos_token_id", [1, 999]), ("rope_scaling", {"type": "linear"}), ("attention_bias", True),
            ("tie_word_embeddings", "yes"), ("quantization_config", {}),
        ):
            with self.subTest(field=field, value=value):
                self.refuse(["config.json" if value != 300 else "", ""], json.dumps({**models.CONFIG, field: value}).encode())
        for field in ("vocab_size", "hidden_size", "num_hidden_layers", "rms_norm_eps", "model_type"):
            with self.subTest(missing=field):
                self.refuse(["config.json", field], json.dumps({k: v for k, v in models.CONFIG.items() if k != field}).encode())
        large = {**models.CONFIG, "hidden_size": 2 * 258}
        self.refuse(["config.json", "hidden_size", "258 channels"], json.dumps(large).encode())
        self.refuse(["config.json", "hidden_size", "-16"], json.dumps({**models.CONFIG, "hidden_size": -16}).encode(), commands=("info", "generate"))

    def test_json(self):
        good = json.dumps(models.CONFIG).encode()
        for broken in (b"{", b"[]", b"3", b"null", b'{"a":', good[:-1], good[:40], good + b"x", b"\xff\xfe{}", b'{"vocab_size": 256, "vocab_size": 256}',
                       b'{"a":' * 1000 + b"1" + b"}" * 1000, b"[" * 100000, b'{"\\ud800": 1}', b'{"a": 1e999}', b"\0" * 64, good.replace(b"256", b"0x100")):
            with self.subTest(json=broken[:40]):
                self.refuse(["config.json"], broken)
        self.refuse(["config.json", "is empty"], b"")

    def test_headers(self):
        good = models.safetensors(models.CONFIG, models.weights(models.CONFIG))
        length = struct.unpack("<Q", good[:8])[0]
        for name, broken, names in (
            ("no length", good[:5], ["header length"]), ("half a header", good[:100], ["header"]), ("no data", good[: 8 + length], []),
            ("half of the data", good[: len(good) // 2], []), ("a byte less", good[:-1], [models.HEAD]), ("a byte more", good + b"\0", []),
            ("a length beyond the file", struct.pack("<Q", len(good)) + good[8:], ["header"]),
            ("a length of 2^63", struct.pack("<Q", 1 << 63) + good[8:], ["header length"]),
            ("a length of 2^64 - 1", struct.pack("<Q", (1 << 64) - 1) + good[8:], ["header length"]),
            ("bad JSON", good[:8] + b"?" + good[9:], ["header"]), ("a list", struct.pack("<Q", 2) + b"[]", ["header"]),
        ):
            with self.subTest(name):
                self.refuse(["model.safetensors", *names], tensors=broken, commands=("info", "generate"))
        self.refuse(["model.safetensors", "is empty"], tensors=b"")

    def test_tensors(self):
        def entry(**fields):
            return lambda header: header[models.Q].update(fields)

        begin = 256 * 16 * 4 + 16 * 4
        for change, names in (
            (entry(shape=[8, 32]), ["[8,32]", "[16,16]"]), (entry(shape=[256]), ["[256]", "[16,16]"]), (entry(shape=[16, 16, 1]), ["[16,16]"]),
            (entry(shape=[16, -16]), ["shape"]), (entry(shape=[16, 1.5]), ["shape"]), (entry(shape="16,16"), ["shape"]),
            (entry(shape=[1 << 40, 1 << 40]), ["shape"]), (entry(shape=[1 << 63, 2]), ["shape"]), (entry(shape=[1 << 32, 1 << 32, 0, 1]), ["shape"]),
            (entry(shape=[1] * 100), ["shape"]), (entry(shape=[]), ["shape"]), (entry(dtype="F16"), ["data_offsets"]), (entry(dtype="I32"), ["dtype", "I32"]),
            (entry(dtype="F7"), ["dtype", "F7"]), (entry(dtype=4), ["dtype"]), (entry(data_offsets=[begin, 1 << 60]), ["data_offsets"]),
            (entry(data_offsets=[1 << 63, (1 << 63) + 1024]), ["data_offsets"]), (entry(data_offsets=[begin + 1024, begin]), ["data_offsets"]),
            (entry(data_offsets=[-4, 1020]), ["data_offsets"]), (entry(data_offsets=[0, 1024]), ["data_offsets"]), (entry(data_offsets=[begin]), ["data_offsets"]),
            (entry(data_offsets=[begin, (1 << 64) + begin + 1024]), ["data_offsets"]), (lambda h: h[models.Q].pop("shape"), ["shape"]),
            (lambda h: h[models.Q].pop("dtype"), ["dtype"]), (lambda h: h.update({models.Q: 7}), []),
        ):
            with self.subTest(names=names):
                broken = models.safetensors(models.CONFIG, models.weights(models.CONFIG), change)
                self.refuse(["model.safetensors", *([models.Q] if names != ["data_offsets"] else []), *names], tensors=broken)
        missing = models.safetensors(models.CONFIG, models.weights(models.CONFIG), lambda h: h.update({"other": h.pop(models.Q)}))
        self.refuse(["model.safetensors", models.Q, "missing"], tensors=missing)
        smaller = {**models.CONFIG, "num_hidden_layers": 1}
        self.refuse(["model.safetensors", "model.layers.1."], config=json.dumps(smaller).encode())

    def test_any_cut_and_any_flipped_byte(self):
        """Not which sentence, but that there is one; what is still a model may also run."""
        chance = random.Random(1775)
        good = {"config.json": json.dumps(models.CONFIG).encode(), "model.safetensors": models.safetensors(models.CONFIG, models.weights(models.CONFIG))}
        for name, whole in good.items():
            header = min(len(whole), 3000)
            for i in range(60):
                broken = bytearray(whole)
                if i % 3 == 0:
                    del broken[chance.randrange(len(whole)):]
                for _ in range(i % 3):
                    place = chance.randrange(header)
                    if place < len(broken):
                        broken[place] ^= 1 << chance.randrange(8)
                folder = models.write_model(self.folder / "broken")
                (folder / name).write_bytes(broken)
                done = self.run_program(self.llama, "generate", "--model", folder, "--prompt", "a", "-n", 2)
                if done.returncode == 2 and done.stdout != b"a":
                    self.assertEqual((done.stdout, done.stderr.count(b"\n")), (b"", 1), (name, i, done.stderr))

    def test_llama2c(self):
        path, tokenizer = self.folder / "tiny.bin", self.folder / "tokenizer.bin"
        good, header = models.llama2c(), (16, 12, 1, 2, 1, 259, 32)
        tokenizer.write_bytes(models.vocabulary())
        fields = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")
        for i, field in enumerate(fields):
            for value in (-16 if field != "vocab_size" else 0, 0, 0x7FFFFFFF, -0x80000000):
                broken = list(header)
                broken[i] = value
                path.write_bytes(struct.pack("<7i", *broken) + good[28:])
                with self.subTest(field=field, value=value):
                    self.assert_refused("info", "--model", path, names=["tiny.bin", field])
        for cut, names in ((0, ["is empty"]), (10, ["n_layers"]), (28, ["token_embedding_table"]), (28 + 259 * 64 + 100, ["wq"]), (len(good) - 4, ["freq_cis"])):
            path.write_bytes(good[:cut])
            self.assert_refused("info", "--model", path, names=["tiny.bin", *names])
        path.write_bytes(good + b"\0\0\0\0")
        self.assert_refused("info", "--model", path, names=["tiny.bin"])
        path.write_bytes(struct.pack("<7i", 1 << 24, 1 << 24, 4096, 2, 2, 1 << 24, 1 << 24) + good[28:])  # sizes whose product overflows
        self.assert_refused("info", "--model", path, names=["tiny.bin"])
        path.write_bytes(good)
        for broken in (b"", b"?", models.vocabulary()[:-3], models.vocabulary()[:100], struct.pack("<i", -1) + models.vocabulary()[4:],
                       models.vocabulary()[:8] + struct.pack("<i", -5) + models.vocabulary()[12:], models.vocabulary()[:8] + struct.pack("<i", 1 << 30)):
            tokenizer.write_bytes(broken)
            self.assert_refused("info", "--model", path, names=["tokenizer.bin"])
        tokenizer.unlink()
        self.assert_refused("info", "--model", path, names=["tiny.bin", "tokenizer"])
        self.assert_refused("info", "--model", path, "--tokenizer", self.folder / "none.bin", names=["none.bin"])


class Block(ProgramTest):
    """llama_block, at sizes that take a moment."""

    small = ("--dim", 64, "--hidden", 96, "--heads", 4, "--kv-heads", 2, "--prompt", 12, "--repetitions", 1, "--group", 32)

    def test_table(self):
        for words in (["--past", 8], ["--past", 0, "--threads", 1], ["--past", 8, "--threads", min(2, self.most_threads), "--all-sites"]):
            text = self.output(*self.small, *words, program=self.llama_block)
            rows = re.findall(r"^(float|W4A8|W4A4) +([\d.]+) ", text, re.MULTILINE)
            self.assertEqual([name for name, _ in rows], 2 * ["float", "W4A8", "W4A4"], text)
            self.assertIn("prompt of 12 tokens", text)
        for isa in self.instruction_sets():
            self.assertIn("kernels " + isa, self.output(*self.small, "--past", 2, "--isa", isa, program=self.llama_block))
        self.assertIn("--prompt", self.output("--help", program=self.llama_block))

    def test_pruning(self):
        text = self.output(*self.small, "--pruning", "--blocks", 6, program=self.llama_block)
        rows = re.findall(r"^(none|\d to \d) +(0\.\d\d) +([\d.]+) % ", text, re.MULTILINE)
        self.assertEqual([layers for layers, _, _ in rows], ["none"] + 3 * ["1 to 3"] + 3 * ["3 to 5"], text)
        sparsities = [float(sparsity) for _, _, sparsity in rows]
        self.assertEqual(sparsities[0], 0.0)
        for of_place in (sparsities[1:4], sparsities[4:]):
            self.assertEqual(of_place, sorted(of_place))
        self.assertGreater(sparsities[3], sparsities[6])  # what goes earlier saves more

    def test_sizes_are_refused(self):
        for words, names in ((["--dim", 64, "--heads", 5], ["--heads 5", "--dim 64"]), (["--heads", 32, "--kv-heads", 3], ["--kv-heads 3", "--heads 32"]),
                             (["--dim", 36, "--heads", 4, "--kv-heads", 4], ["9 channels"]), (["--dim", 32 * 258], ["258 channels"]),
                             (["--isa", "sse9"], ["--isa sse9"])):
            self.assert_refused(*words, names=names, program=self.llama_block)
        for words, name in ((["--dim", 0], "--dim"), (["--dim", 1 << 40], "--dim"), (["--hidden", -3], "--hidden"), (["--heads", 0], "--heads"),
                            (["--kv-heads", 0], "--kv-heads"), (["--prompt", 0], "--prompt"), (["--blocks", 5], "--blocks"), (["--repetitions", 0], "--repetitions"), (["--bogus"], "--bogus"), (["--group", -1], "--group")):
            self.assert_refused(*words, names=[name], program=self.llama_block, sentence=False)
        self.assert_refused(*self.small, names=["AQ_ISA=sse9"], isa="sse9", program=self.llama_block)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llama", required=True, help="the program")
    parser.add_argument("--llama-block", required=True, help="the program")
    parser.add_argument("--launcher", default="", help="what runs a foreign program, words separated by ';'")
    parser.add_argument("--slowdown", type=int, default=1, help="how much slower than usual the programs are")
    parser.add_argument("--without-threads", action="store_true", help="the programs were built without OpenMP")
    options, rest = parser.parse_known_args()
    ProgramTest.llama, ProgramTest.llama_block = options.llama, options.llama_block
    ProgramTest.slowdown, ProgramTest.most_threads = options.slowdown, 1 if options.without_threads else 3
    if options.without_threads:
        print("skipped: programs with several threads: this build has no OpenMP", flush=True)
    ProgramTest.launcher = [word for word in options.launcher.split(";") if word]
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)


if __name__ == "__main__":
    main()
