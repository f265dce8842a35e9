"""What an AArch64 instruction uses of a core, and the least cycles that a block of instructions can take.

The tables below are data: each line can be held against the software optimisation guide of the core. docs/arm-model.md says what
they are calibrated with and what they leave out.

    resource    what                                                     of it each cycle
    V0, V1      one of the two vector pipes, for one cycle               1 each
    V           a vector pipe, either of the two                         (V0 + V1 + V) / 2, and no less than V0 or V1 alone
    L, S        a load, a store of a register                            Core.loads, Core.stores
    I, M        a plain, a multiplying general-purpose operation         Core.integers, 1
    slots       what decoding and renaming hands on                      Core.slots
"""
import collections
import dataclasses
import functools
import re

# Rows of a table are (mnemonics, use with a 64-bit or scalar result, use with a 128-bit result). Slots that a row does not name are
# Core.slots_64 or slots_128. A mnemonic that ends in 2 (smull2) costs what it costs without. Rows further down replace those above.
# Words in <> are what _shape() makes of an instruction whose cost follows from its operands.

CORTEX_A72 = (
    ("<vector>", "V", "V"),  # what is named nowhere below: and, add, movi, mov, dup, ins, zip, ext, cmeq, smax, ...
    # multiplies: V0 alone has the multiplier; 128-bit results that are not widened take it twice
    ("smull umull smlal umlal smlsl umlsl sqdmull sqdmlal sqdmlsl pmull", "V0", "V0"),
    ("mul mla mls pmul sqdmulh sqrdmulh", "V0", "2 V0"),
    # shifts, pairwise and absolute sums: V1 alone
    ("shl sshr ushr sshll ushll sxtl uxtl shll shrn rshrn sqshrn uqshrn sqrshrn uqrshrn sqshrun sqrshrun", "V1", "V1"),
    ("sqxtn uqxtn sqxtun", "V1", "V1"),
    ("ssra usra srsra ursra sadalp uadalp saddlp uaddlp sabal uabal sabd uabd abs cnt bsl bit bif", "V1", "V1"),
    ("sli sri sshl ushl saba uaba", "V1", "2 V1"),
    ("addv saddlv uaddlv smaxv umaxv sminv uminv fmaxv fminv fmaxnmv fminnmv", "V1, V", "V1, V"),
    ("tbl1 tbx1", "V", "3 V, 3 slots"),
    ("tbl2 tbx2", "2 V", "6 V, 6 slots"),
    ("tbl3 tbx3", "3 V", "9 V, 9 slots"),
    ("tbl4 tbx4", "4 V", "12 V, 12 slots"),
    # float
    ("fmla fmls fmul fadd fsub fabd faddp fmax fmin fmaxnm fminnm fcmeq fcmge fcmgt fcmle fcmlt facge facgt", "V", "2 V"),
    ("scvtf ucvtf fcvtns fcvtnu fcvtzs fcvtzu fcvtas fcvtms fcvtps fcvtn fcvtl", "V0", "2 V0"),
    ("frintn frinta frintm frintp frintz frintx frinti", "V0", "2 V0"),
    # loads and stores; lists are for each register of the list
    ("<load>", "L", "L"),
    ("<load pair>", "L, 2 slots", "2 L, 4 slots"),
    ("<load list>", "L", "L"),
    ("<load lane>", "L, V", "L, V"),  # and ld1r
    ("<load interleaved>", "L, 1.5 V, 3 slots", "L, 1.5 V, 3 slots"),
    ("<store>", "S", "2 S"),
    ("<store pair>", "S", "4 S"),
    ("<store list>", "S", "2 S"),
    ("<general store>", "S, 1 slots", "S, 1 slots"),
    ("<general store pair>", "S, 1 slots", "S, 1 slots"),
    ("<prefetch>", "L, 1 slots", "L, 1 slots"),
    ("<write-back>", "I, 1 slots", "I, 1 slots"),  # beside the load or store
    # general registers
    ("<general>", "I, 1 slots", "I, 1 slots"),
    ("<general multiply>", "M, 1 slots", "M, 1 slots"),
    ("<to general>", "L, 1 slots", "L, 1 slots"),
    ("<fmov from general>", "L, 1 slots", "L, 1 slots"),
    ("<from general>", "L, V, 2 slots", "L, V, 3 slots"),  # dup, ins, scvtf
)

# Cortex-A76, Cortex-A77 and Neoverse N1: 128-bit pipes, dot products on both.
CORTEX_A76 = (
    ("<vector>", "V", "V"),  # as above, and sdot, udot, fmla, fmul, fadd, tbl of one or two tables, saddlp, sabd, bsl, ...
    ("smull umull smlal umlal smlsl umlsl sqdmull sqdmlal sqdmlsl pmull", "V0", "V0"),
    ("mul mla mls pmul sqdmulh sqrdmulh", "V0", "2 V0"),
    ("shl sshr ushr sshl ushl sli sri sshll ushll sxtl uxtl shll shrn rshrn", "V1", "V1"),
    ("sqshrn uqshrn sqrshrn uqrshrn sqshrun sqrshrun sqxtn uqxtn sqxtun", "V1", "V1"),
    ("ssra usra srsra ursra sadalp uadalp sabal uabal saba uaba", "V1", "V1"),
    ("addv saddlv uaddlv smaxv umaxv sminv uminv fmaxv fminv fmaxnmv fminnmv", "V1, V", "V1, V"),
    ("tbl3 tbx3", "2 V", "4 V"),
    ("tbl4 tbx4", "3 V", "6 V"),
    ("scvtf ucvtf fcvtns fcvtnu fcvtzs fcvtzu fcvtas fcvtms fcvtps fcvtn fcvtl", "V0", "2 V0"),
    ("frintn frinta frintm frintp frintz frintx frinti", "V0", "2 V0"),
    ("<load>", "L", "L"),
    ("<load pair>", "L, 2 slots", "2 L, 2 slots"),
    ("<load list>", "L", "L"),
    ("<load lane>", "L, V, 2 slots", "L, V, 2 slots"),
    ("<load interleaved>", "L, V", "L, V"),
    ("<store>", "S, V1, 2 slots", "S, V1, 2 slots"),
    ("<store pair>", "2 S, 2 V1, 2 slots", "2 S, 2 V1, 2 slots"),
    ("<store list>", "S, V1, 2 slots", "S, V1, 2 slots"),
    ("<general store>", "S, 2 slots", "S, 2 slots"),
    ("<general store pair>", "2 S, 2 slots", "2 S, 2 slots"),
    ("<prefetch>", "L", "L"),
    ("<write-back>", "I, 0 slots", "I, 0 slots"),
    ("<general>", "I", "I"),
    ("<general multiply>", "M", "M"),
    ("<to general>", "V1", "V1"),
    ("<fmov from general>", "M", "M"),
    ("<from general>", "M", "M"),
)

# Neoverse N2 where it differs: smmla, usmmla and ummla run on both pipes as sdot does; 128-bit multiplies take V0 once; stores use either pipe.
NEOVERSE_N2 = CORTEX_A76 + (
    ("mul mla mls pmul sqdmulh sqrdmulh", "V0", "V0"),
    ("<store>", "S, V, 2 slots", "S, V, 2 slots"),
    ("<store pair>", "S, V, 2 slots", "2 S, 2 V, 2 slots"),
    ("<store list>", "S, V, 2 slots", "S, V, 2 slots"),
)


@dataclasses.dataclass(frozen=True)
class Core:
    name: str
    rows: tuple
    slots: float  # each cycle
    loads: float
    stores: float
    integers: float
    slots_64: float  # that an instruction takes whose row says nothing
    slots_128: float


CORES = {
    "A72": Core("Cortex-A72", CORTEX_A72, slots=3, loads=1, stores=1, integers=2, slots_64=1, slots_128=2),
    "A76": Core("Cortex-A76", CORTEX_A76, slots=4, loads=2, stores=1, integers=3, slots_64=1, slots_128=1),
    "N2": Core("Neoverse N2", NEOVERSE_N2, slots=5, loads=3, stores=2, integers=4, slots_64=1, slots_128=1),
}

_VECTOR = re.compile(r"\{?\s*(?:v\d+\.|[bhsdq]\d+\b)")
_RESULT = re.compile(r"\{?\s*(?:v\d+\.(\d+)([bhsd])\b|(q)\d+)")
_LANE_BITS = {"b": 8, "h": 16, "s": 32, "d": 64}
_GENERAL_SOURCE = re.compile(r",\s*(?:[wx]\d+|[wx]zr)$")
_VECTOR_SOURCE = re.compile(r",\s*(?:v\d+\.|[bhsdq]\d+\b)")
_MULTIPLIES = frozenset("madd msub mneg mul umaddl smaddl umull smull umulh smulh umsubl smsubl".split())


def is_vector(operands):
    """Whether the first operand is a vector or floating-point register, or a list of them."""
    return _VECTOR.match(operands) is not None


def has_128_bits(operands):
    """Whether the first operand is a 128-bit register. One lane of a register counts as 64."""
    result = _RESULT.match(operands)
    if result is None:
        return False
    return result[3] is not None or int(result[1]) * _LANE_BITS[result[2]] == 128


def registers_of_list(operands):
    """How many registers { v0.4s, v1.4s } or { v0.4s - v3.4s } names."""
    inside = operands.partition("{")[2].partition("}")[0]
    numbers = [int(number) for number in re.findall(r"\bv(\d+)", inside)]
    return (numbers[1] - numbers[0]) % 32 + 1 if "-" in inside else max(len(numbers), 1)


def _load_or_store(mnemonic, operands):
    """[(row, times)] of a load or store."""
    address = operands.rpartition("[")[2]
    rows = [("<write-back>", 1)] if "]!" in address or "]," in address else []
    vector = is_vector(operands)
    if mnemonic.startswith("prf"):
        return [("<prefetch>", 1)]
    if mnemonic in ("ldp", "ldnp"):
        return rows + [("<load pair>", 1)]
    if mnemonic in ("stp", "stnp"):
        return rows + [("<store pair>" if vector else "<general store pair>", 1)]
    if not operands.startswith("{"):
        store = "<store>" if vector else "<general store>"
        return rows + [("<load>" if mnemonic.startswith("ld") else store, 1)]
    registers = registers_of_list(operands)
    if mnemonic.startswith("st"):
        return rows + [("<store list>", registers)]
    if mnemonic == "ld1" and "}[" in operands.replace(" ", "") or mnemonic == "ld1r":
        return rows + [("<load lane>", registers)]
    return rows + [("<load list>" if mnemonic == "ld1" else "<load interleaved>", registers)]


def _shape(mnemonic, operands):
    """[(row, times)] of an instruction: the rows of the table that it is the sum of."""
    if mnemonic.startswith(("ld", "st", "prf")):
        return _load_or_store(mnemonic, operands)
    if not is_vector(operands):
        if _VECTOR_SOURCE.search(operands):
            return [("<to general>", 1)]
        return [("<general multiply>" if mnemonic in _MULTIPLIES else "<general>", 1)]
    if _GENERAL_SOURCE.search(operands):
        return [("<fmov from general>" if mnemonic == "fmov" else "<from general>", 1)]
    if mnemonic in ("tbl", "tbx"):
        return [(mnemonic + str(registers_of_list(operands)), 1)]
    return [(mnemonic, 1)]


@functools.lru_cache(maxsize=None)
def _table(core_name):
    """row -> (use with 64 bits, use with 128 bits)."""
    core = CORES[core_name]

    def parsed(text, slots):
        use = {"slots": slots}
        for part in text.split(", "):
            count, _, resource = part.rpartition(" ")
            use[resource] = float(count or 1)
        return use

    table = {}
    for names, narrow, wide in core.rows:
        split = (names,) if names.startswith("<") else names.split()
        table.update(dict.fromkeys(split, (parsed(narrow, core.slots_64), parsed(wide, core.slots_128))))
    return table


@functools.lru_cache(maxsize=None)
def use_of(core_name, instruction):
    """What one instruction, as text ("smlal v0.8h, v1.8b, v2.8b"), uses: resource -> how much."""
    mnemonic, _, operands = instruction.partition(" ")
    table, wide = _table(core_name), has_128_bits(operands)
    total = collections.Counter()
    for row, times in _shape(mnemonic, operands):
        found = table.get(row) or table.get(row.removesuffix("2")) or table["<vector>"]
        for resource, amount in found[wide].items():
            total[resource] += amount * times
    return total


def bounds(core_name, instructions):
    """What each resource needs, in cycles, to carry out a block."""
    core, used = CORES[core_name], collections.Counter()
    for instruction in instructions:
        used.update(use_of(core_name, instruction))
    return {
        "vector": max(used["V0"], used["V1"], (used["V0"] + used["V1"] + used["V"]) / 2),
        "loads": used["L"] / core.loads,
        "stores": used["S"] / core.stores,
        "integers": used["I"] / core.integers,
        "multiplies": used["M"],
        "slots": used["slots"] / core.slots,
    }


def cycles(core_name, instructions):
    """The least cycles that a block can take: those of its busiest resource."""
    return max(bounds(core_name, instructions).values())
