"""Integer loops of TFLite files (WHILE), kept step by step: every byte that TFLite-Micro gives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from frontend.tflite_loops import INPUTS, STEPS, UNITS, LoopBuilder
from quantize.kept import assert_kept
from tapc.base.errors import UnsupportedError
from tapc.frontend import load
from tflite_micro_files import Int8Builder, Quantization

BOOL, INT8 = 6, 9
X, GATE, PART = Quantization(0.03, -5), Quantization(0.05, 7), Quantization(0.02, -3)
SIGMOID, TANH, CELL = Quantization(1 / 256, -128), Quantization(1 / 128, 0), Quantization(0.03, 4)


class Int8LoopBuilder(LoopBuilder, Int8Builder):
    """Every activation of a loop is int8, the values that its graphs are given too."""

    def __init__(self, steps: int) -> None:
        Int8Builder.__init__(self, 1, steps, INPUTS, quantization=X)
        self.others = []

    def dense(self, x: int, outputs: int, q: Quantization) -> int:  # type: ignore[override]
        weights = self.rng.integers(-127, 128, (outputs, self.graph.tensors[x].shape[-1])).astype(np.int8)
        scales = self.rng.uniform(0.01, 0.03, 1).astype(np.float32)
        return self.layer("FULLY_CONNECTED", x, weights, scales, 0, (1, outputs), q, "FullyConnectedOptions")

    def moved(self, index: int, q: Quantization) -> int:
        self.graph.tensors[index].type = INT8
        return self.scaled(index, q)

    def gate(self, kind: str, x: int) -> int:
        return self.node(kind, [x], (1, UNITS), SIGMOID if kind == "LOGISTIC" else TANH)

    def pair(self, kind: str, a: int, b: int, q: Quantization) -> int:
        return self.node(kind, [a, b], (1, UNITS), q, f"{kind.title()}Options")


Cell = Callable[[Int8LoopBuilder, int, list[int]], list[int]]


def rnn(b: Int8LoopBuilder, x: int, states: list[int]) -> list[int]:
    return [b.gate("TANH", b.pair("ADD", b.dense(x, UNITS, PART), b.dense(states[0], UNITS, GATE), GATE))]


def lstm(b: Int8LoopBuilder, x: int, states: list[int]) -> list[int]:
    h, c = states
    gates = b.node(
        "ADD", [b.dense(x, 4 * UNITS, PART), b.dense(h, 4 * UNITS, PART)], (1, 4 * UNITS), GATE, "AddOptions"
    )
    i, f, g, o = (b.moved(part, GATE) for part in b.parts(gates, 4))
    added = b.pair("MUL", b.gate("LOGISTIC", i), b.gate("TANH", g), TANH)
    c = b.pair("ADD", b.pair("MUL", b.gate("LOGISTIC", f), c, CELL), added, CELL)
    return [b.pair("MUL", b.gate("LOGISTIC", o), b.gate("TANH", c), TANH), c]


def network(b: Int8LoopBuilder, cell: Cell, begun: list[int], scales: tuple[Quantization, ...]) -> int:
    """Add a loop over the input whose states begin with these, and a layer."""
    given = b.moved(b.reshape(b.input, STEPS, 1, INPUTS), X)

    def step(values: list[int]) -> list[int]:
        counter, *before, source = values
        for index, q in zip((*before, source), (*scales, X), strict=True):
            b.scaled(index, q)
        own = b.node("GATHER", [source, counter], (1, INPUTS), X, "GatherOptions")
        return [b.whole("ADD", [counter, b.number(1)], table="AddOptions"), *cell(b, own, before), source]

    def goes_on(values: list[int]) -> int:
        return b.whole("LESS", [values[0], b.number(STEPS)], of=BOOL)

    _, *after, rest = b.loop([b.number(0), *begun, given], step, goes_on)
    for index, q in zip((*after, rest), (*scales, X), strict=True):
        b.scaled(index, q)
    return b.dense(after[0], 3, GATE)


@pytest.mark.parametrize(("cell", "scales"), [(rnn, (TANH,)), (lstm, (TANH, CELL))])
def test_every_byte_equals_tflite_micro(cell: Cell, scales: tuple[Quantization, ...], tmp_path: Path) -> None:
    b = Int8LoopBuilder(STEPS)
    flat = b.moved(b.reshape(b.input, 1, STEPS * INPUTS), X)
    begun = [b.dense(flat, UNITS, q) for q in scales]
    assert len(np.unique(assert_kept(b, network(b, cell, begun, scales), X.zero, tmp_path))) > 20


def test_what_is_computed_of_constants_is_not_kept(tmp_path: Path) -> None:
    """The first step's product of a constant state, which would be folded without being rounded to a code."""
    b = Int8LoopBuilder(STEPS)
    begun = b.scaled(b.constant(np.zeros((1, UNITS), np.int8)), TANH)
    (tmp_path / "net.tflite").write_bytes(b.finish(network(b, rnn, [begun], (TANH,))))
    with pytest.raises(UnsupportedError, match=r"of constants alone.*--requantize"):
        load(tmp_path / "net.tflite")
    assert load(tmp_path / "net.tflite", keep=False).given is None
