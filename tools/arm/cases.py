"""What is modelled: products and the quantizing of activations, on each of Arm's instruction sets."""
import dataclasses

DEPTH = 4096
COLUMNS = {1: 1024, 4: 1024, 8: 512, 64: 128, 256: 128}  # for each number of rows: enough panels to tell, few enough for an emulator
QUANTIZED_ROWS = 8
LARGEST_TILE = 16  # columns of a panel


@dataclasses.dataclass(frozen=True)
class Isa:
    models: dict  # core of port_model.CORES -> the fewest cycles for 1000 multiply-accumulates that its instructions allow
    in_order: tuple  # of llvm-mca's processors


ISAS = {
    "neon": Isa({"A72": 125.0, "A76": 125.0}, ("cortex-a53", "cortex-a55")),  # smlal: 8 on one pipe
    "dotprod": Isa({"A76": 31.25}, ("cortex-a55",)),  # sdot: 16 on each of two pipes
    "i8mm": Isa({"N2": 15.625}, ()),  # smmla: 32 on each of two pipes
}


@dataclasses.dataclass(frozen=True)
class Case:
    isa: str
    m: int
    activation_bits: int
    n: int = 0  # 0: quantizing rows of activations
    weight_bits: int = 0
    group: int = 0  # 0: a scale for each output channel
    scales: str = "float"
    is_packed: bool = False  # by the packed multiplier

    @property
    def is_product(self):
        return self.n != 0

    @property
    def format(self):
        """As benchmarks/names.hpp writes it: w4g128a8; pc: per channel; t128: two-level."""
        weights = f"w{self.weight_bits}" + ("pc" if self.group == 0 else "gt"[self.scales == "integer"] + str(self.group))
        return (weights if self.is_product else "") + f"a{self.activation_bits}"

    @property
    def name(self):
        if self.is_product:
            return f"{'packed_multiplier' if self.is_packed else 'gemm'}/{self.isa}/{self.format}/m{self.m}/n{self.n}/k{DEPTH}"
        return f"quantize/{self.isa}/{self.format}/m{self.m}/k{DEPTH}"

    @property
    def arguments(self):
        """Of product.cpp."""
        if self.is_product:
            words = (self.isa, self.m, self.n, DEPTH, self.weight_bits, self.activation_bits, self.group, self.scales,
                     *(["packed"] if self.is_packed else []))
        else:
            words = (self.isa, "quantize", self.m, DEPTH, self.activation_bits)
        return [str(word) for word in words]

    @property
    def work(self):
        """Multiply-accumulates of a product, values that are quantized."""
        return self.m * (self.n or 1) * DEPTH

    @property
    def unit(self):
        """A figure is cycles for so many units of work."""
        return 1000 if self.is_product else 1


def products(isa):
    for m, n in COLUMNS.items():
        for activation_bits in (8, 4):
            for group, scales in ((128, "float"), (128, "integer"), (0, "float")):
                yield Case(isa, m, activation_bits, n, 4, group, scales)
    for m in (1, 64):
        for weight_bits, activation_bits in ((2, 8), (8, 8), (8, 4), (2, 4)):
            yield Case(isa, m, activation_bits, COLUMNS[m], weight_bits)


def all_cases():
    for isa in ISAS:
        yield from products(isa)
        if isa == "neon":  # the others take neon's
            yield from (Case(isa, m, 4, COLUMNS[m], 4, group, is_packed=True) for m in (4, 64) for group in (128, 0))
        yield from (Case(isa, QUANTIZED_ROWS, activation_bits) for activation_bits in (8, 4))
