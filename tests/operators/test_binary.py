"""Operators of two operands: exact values, what has no kernel, and what a constant operand makes of them."""

import numpy as np
import pytest

from graph_builder import Builder
from kernels.programs import program, tensor
from tapc.base.errors import UnsupportedError
from tapc.graph.analysis import Graph, analyse
from tapc.ir.channels import Kept
from tapc.ir.program import Tensor
from tapc.kernels.binary import BinarySpec, Operation
from tapc.kernels.layout import Plane
from tapc.operators.binary import Binary, Fixed


def test_operands_of_another_rank() -> None:
    b = Builder((1, 3, 6, 6))
    flat = b.node("Flatten", [b.node("GlobalAveragePool", [b.conv("x", "c", 3, 6)], "pool")], "flat")
    with pytest.raises(UnsupportedError, match=r"'m': Mul of \[1, 3, 6, 6\] and \[1, 6\]: give both as many axes"):
        analyse(b.build(b.node("Mul", ["x", flat], "m")).onnx, "net")


def test_more_than_two_operands() -> None:
    b = Builder((1, 3, 6, 6))
    with pytest.raises(UnsupportedError, match="'m': Max takes two operands, of which one may be constant"):
        analyse(b.build(b.node("Max", ["x", "x", "x"], "m")).onnx, "net")


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_a_number_makes_a_table_and_an_array_does_not(op: str) -> None:
    b = Builder((1, 3, 6, 6))
    number = b.node(op, ["x", b.constant("half", np.array([0.5], np.float32))], "n")
    array = b.node(op, [number, b.constant("map", np.ones((1, 3, 1, 1), np.float32))], "a")
    graph = Graph(b.build(array).onnx)
    table, mapped = (graph.rule(node) for node in graph.nodes)
    assert (table.only_8_bits, mapped.only_8_bits) == (True, False)
    assert [graph.mapped(node) for node in graph.nodes] == [[], ["map"]]
    assert not mapped.joins


@pytest.mark.parametrize("mode", ["float", "fixed", "tflite"])
@pytest.mark.parametrize(("operation", "expected"), [("add", 33), ("sub", -17), ("mul", 20), ("min", 8), ("max", 25)])
def test_exact_values(operation: Operation, expected: int, mode: str) -> None:
    """8 and 25 hundredths, in steps of a hundredth; products in steps of a thousandth."""
    a, b = Tensor("a", (1, 1, 1), 8, 0.04, 5), Tensor("b", (1, 1, 1), 8, 0.05, -3)
    y = Tensor("y", (1, 1, 1), 8, 0.001 if operation == "mul" else 0.01, 0)
    codes = [np.full((1, 1, 1, 1), 7, np.int64), np.full((1, 1, 1, 1), 2, np.int64)]
    p = program([Binary("op", ("a", "b"), "y", operation, -128, 127)], [a, b, y], mode)
    assert p.ops[0].reference(p, codes).item() == expected
    fixed = Fixed(codes[1][0].astype(np.int8), b.scale, b.zero, first=False)
    p = program([Binary("op", ("a",), "y", operation, -128, 127, fixed)], [a, y], mode)
    assert p.ops[0].reference(p, codes[:1]).item() == expected
    swapped = {"sub": 17}.get(operation, expected)
    p = program(
        [Binary("op", ("a",), "y", operation, -128, 127, Fixed(fixed.codes, 0.05, -3, first=True))], [a, y], mode
    )
    assert p.ops[0].reference(p, codes[:1]).item() == swapped


def test_a_channel_that_is_pruned_takes_its_constant_along() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (1, 1, 4)).astype(np.int8)
    y = tensor("y", (2, 2, 4), 8, rng)
    op = Binary("op", ("x",), "y", "add", y.low, y.high, Fixed(codes, 0.05, 0, first=False))
    kept = Kept({"x": np.array([1, 0, 1, 0], bool), "y": np.array([0, 0, 1, 0], bool)}, {}, {})
    op.keep(kept)
    assert kept.masks["y"].tolist() == [True, False, True, False]
    sliced = op.sliced(kept).fixed
    assert sliced is not None
    np.testing.assert_array_equal(sliced.codes, codes[:, :, [0, 2]])


@pytest.mark.parametrize(
    ("a", "b", "y", "loops"),
    [
        ((4, 5, 8), (4, 5, 8), (4, 5, 8), (1, 1, 160)),
        ((4, 5, 8), (1, 1, 8), (4, 5, 8), (1, 20, 8)),
        ((4, 5, 8), (4, 5, 1), (4, 5, 8), (1, 20, 8)),
        ((4, 1, 8), (1, 5, 1), (4, 5, 8), (4, 5, 8)),
        ((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
    ],
)
def test_axes_that_are_repeated_alike_are_one_loop(
    a: tuple[int, int, int], b: tuple[int, int, int], y: tuple[int, int, int], loops: tuple[int, int, int]
) -> None:
    own = BinarySpec("mul", Plane(*a, 8), Plane(*b, 8), Plane(*y, 8), "float", "", clamped=False).folded.y
    assert (own.height, own.width, own.channels) == loops
