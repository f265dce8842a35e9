#!/usr/bin/env python3
"""The port model against figures that are known, and the reading of executed blocks."""
import unittest

import executed_blocks
import port_model
from executed_blocks import Block

# instruction, and the cycles between two of them in a long row of independent ones on A72, A76 and N2: None where there is none
THROUGHPUTS = (
    ("smlal v0.8h, v1.8b, v2.8b", 1, 1, 1),
    ("umull2 v0.8h, v1.16b, v2.16b", 1, 1, 1),
    ("mul v0.16b, v1.16b, v2.16b", 2, 2, 1),
    ("mul v0.8b, v1.8b, v2.8b", 1, 1, 1),
    ("sdot v0.4s, v1.16b, v2.4b[1]", None, 0.5, 0.5),
    ("smmla v0.4s, v1.16b, v2.16b", None, None, 0.5),
    ("sadalp v0.4s, v1.8h", 1, 1, 1),
    ("ushr v0.16b, v1.16b, #4", 1, 1, 1),
    ("ushl v0.16b, v1.16b, v2.16b", 2, 1, 1),
    ("and v0.16b, v1.16b, v2.16b", 2 / 3, 0.5, 0.5),  # A72: three slots a cycle, two for 128 bits
    ("and v0.8b, v1.8b, v2.8b", 0.5, 0.5, 0.5),
    ("fmla v0.4s, v1.4s, v2.s[0]", 1, 0.5, 0.5),
    ("tbl v0.16b, { v1.16b }, v2.16b", 1.5, 0.5, 0.5),
    ("scvtf v0.4s, v1.4s", 2, 2, 2),
    ("ldr q0, [x0]", 1, 0.5, 1 / 3),
    ("ldp q0, q1, [x0], #32", 2, 1, 2 / 3),
    ("ld1 { v0.16b, v1.16b, v2.16b, v3.16b }, [x0], #64", 4, 2, 4 / 3),
    ("ld1r { v0.4s }, [x0]", 1, 0.5, 0.5),
    ("str q0, [x0]", 2, 1, 0.5),
    ("stp x0, x1, [sp, #-16]!", 1, 2, 1),
    ("add x0, x0, #16", 0.5, 1 / 3, 0.25),
    ("mov w0, v0.s[1]", 1, 1, 1),
    ("dup v0.4s, w1", 1, 1, 1),
)

SGEMM_8X12 = ([f"fmla v{8 + i}.4s, v{i % 3}.4s, v4.s[{i % 4}]" for i in range(24)] +
              [f"ldr q{i}, [x0], #16" for i in range(5)] + ["subs x2, x2, #1", "b.ne #-120"])
SDOT_8X12 = ([f"sdot v{8 + i}.4s, v{i % 3}.16b, v4.4b[{i % 4}]" for i in range(24)] +
             [f"ldr q{i}, [x0, #{16 * i}]" for i in range(5)] + ["add x0, x0, #80", "subs x2, x2, #1", "b.ne #-124"])
# four rows by four columns, 16 of depth, pairs of 8-bit products in 16 bits: gemmlowp's and ruy's inner loop without dot products
SMLAL_4X4 = ([text for i in range(16) for text in
              (f"smull v0.8h, v{i % 4 + 4}.8b, v2.8b", f"smlal2 v0.8h, v{i % 4 + 4}.16b, v2.16b", f"sadalp v{i + 16}.4s, v0.8h")] +
             [f"ldr q{i}, [x0, #{16 * i}]" for i in range(8)] + ["add x0, x0, #128", "subs x2, x2, #1", "b.ne #-232"])


def for_1000(core, loop):
    return 1000 * port_model.cycles(core, loop) / executed_blocks.macs_of(loop)


class PortModel(unittest.TestCase):
    def test_throughputs(self):
        for instruction, *expected in THROUGHPUTS:
            for core, cycles in zip(port_model.CORES, expected):
                if cycles is not None:
                    self.assertAlmostEqual(port_model.cycles(core, [instruction]), cycles, msg=f"{instruction} on {core}")

    def test_loops(self):
        self.assertAlmostEqual(for_1000("A72", SGEMM_8X12), 250)
        self.assertAlmostEqual(for_1000("A76", SGEMM_8X12), 125)
        self.assertAlmostEqual(for_1000("A76", SDOT_8X12), 31.25)
        self.assertAlmostEqual(for_1000("A76", SMLAL_4X4), 125)
        # 56 instructions of two slots and three of one, three a cycle: 38.3 cycles, more than the 32 of the multiplier
        self.assertAlmostEqual(for_1000("A72", SMLAL_4X4), 1000 * 115 / 3 / 256)


class Blocks(unittest.TestCase):
    def test_macs(self):
        self.assertEqual(executed_blocks.macs_of(SGEMM_8X12), 96)
        self.assertEqual(executed_blocks.macs_of(SDOT_8X12), 384)
        self.assertEqual(executed_blocks.macs_of(SMLAL_4X4), 256)
        self.assertEqual(executed_blocks.macs_of(["mul v0.16b, v1.16b, v2.16b", "fmul v3.4s, v4.4s, v5.4s"]), 16)

    def test_loop(self):
        self.assertTrue(Block(0x1000, 1, "f", ("nop", "nop", "b.ne #-8")).is_loop)
        self.assertFalse(Block(0x1000, 1, "f", ("nop", "nop", "b.ne #-12")).is_loop)
        self.assertFalse(Block(0x1000, 1, "f", ("nop", "ret")).is_loop)

    def test_stack(self):
        block = Block(0, 1, "f", ("ldr q0, [sp, #16]", "stp q0, q1, [x29, #-32]", "ldr x0, [sp]", "ldr q1, [x0]", "ld1 { v0.4s }, [sp]"))
        self.assertEqual(len(block.stack_accesses()), 3)

    def test_cut_by_a_page(self):
        # a loop of three instructions, cut behind the first; entered ten times at its start, twice in its middle
        head, tail = Block(0xFFC, 10, "f", ("nop",)), Block(0x1000, 12, "f", ("nop", "b.ne #-8"))
        whole = {b.address: b for b in executed_blocks.joined([tail, head])}
        self.assertEqual((whole[0xFFC].executions, len(whole[0xFFC].instructions)), (10, 3))
        self.assertEqual((whole[0x1000].executions, len(whole[0x1000].instructions)), (2, 2))
        self.assertTrue(whole[0xFFC].is_loop)

    def test_neighbours(self):
        first, second = Block(0x1000, 5, "f", ("nop", "cbz x0, #8")), Block(0x1008, 5, "f", ("nop", "ret"))
        self.assertEqual(len(executed_blocks.joined([first, second])), 2)


if __name__ == "__main__":
    unittest.main()
