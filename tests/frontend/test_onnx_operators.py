"""Each operator and each fold, against onnxruntime on the graph as it was written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from frontend.canonical_form import assert_canonical, attributes, build, operators, run, save
from tapc.frontend import FloatModel, load
from tapc.frontend.canonical import canonicalize

RNG = np.random.default_rng(3)


def rand(*shape: int) -> Any:
    return RNG.normal(0, 0.7, shape).astype(np.float32)


def node(op: str, inputs: list[str], output: str, name: str = "", **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=name, **attrs)


def compare(model: onnx.ModelProto, folder: Path) -> FloatModel:
    """Load from a file; the canonical graph must give what onnxruntime gives for the original."""
    loaded = load(save(model, folder))
    assert_canonical(loaded.onnx)
    x = np.random.default_rng(7).normal(0, 1, loaded.input_shape).astype(np.float32)
    np.testing.assert_allclose(run(loaded.onnx, x), run(model, x), rtol=1e-4, atol=1e-5)
    assert loaded.source_error is not None
    assert loaded.source_error < 1e-4
    return loaded


BN = {"g": rand(4), "b": rand(4), "m": rand(4), "v": np.abs(rand(4)) + 0.3}
IMAGE = (1, 3, 9, 8)
CONV = node("Conv", ["x", "w"], "c", "/features/conv/Conv", pads=[1, 1, 1, 1], strides=[2, 1])
W = {"w": rand(4, 3, 3, 3)}
VECTOR = (1, 6)

CASES: dict[str, tuple[Callable[[], onnx.ModelProto], list[str]]] = {
    "conv without bias": (lambda: build([CONV], IMAGE, "c", W), ["Conv"]),
    "conv + bn": (
        lambda: build([CONV, node("BatchNormalization", ["c", "g", "b", "m", "v"], "y")], IMAGE, "y", {**W, **BN}),
        ["Conv"],
    ),
    "standalone bn": (
        lambda: build(
            [CONV, node("Relu", ["c"], "r"), node("BatchNormalization", ["r", "g", "b", "m", "v"], "y")],
            IMAGE,
            "y",
            {**W, **BN},
        ),
        ["Conv", "Relu", "Conv"],
    ),
    "conv read twice + bn": (
        lambda: build(
            [CONV, node("BatchNormalization", ["c", "g", "b", "m", "v"], "n"), node("Add", ["n", "c"], "y")],
            IMAGE,
            "y",
            {**W, **BN},
        ),
        ["Conv", "Conv", "Add"],
    ),
    "normalized input": (
        lambda: build(
            [
                node("Sub", ["x", "mean"], "s"),
                node("Div", ["s", "std"], "d"),
                node("Conv", ["d", "w"], "y", pads=[1] * 4),
            ],
            IMAGE,
            "y",
            {**W, "mean": rand(3, 1, 1), "std": np.abs(rand(1, 3, 1, 1)) + 0.5},
        ),
        ["Conv", "Conv"],
    ),
    "conv + arithmetic": (
        lambda: build(
            [
                CONV,
                node("Mul", ["c", "k"], "m"),
                node("Add", ["o", "m"], "a"),
                node("Sub", ["one", "a"], "y"),
            ],
            IMAGE,
            "y",
            {**W, "k": rand(4, 1, 1), "o": rand(1, 4, 1, 1), "one": np.array(1.0, np.float32)},
        ),
        ["Conv"],
    ),
    "matmul + add": (
        lambda: build(
            [node("MatMul", ["x", "w"], "m", "/fc/MatMul"), node("Add", ["b", "m"], "y")],
            VECTOR,
            "y",
            {"w": rand(6, 5), "b": rand(5)},
        ),
        ["Gemm"],
    ),
    "gemm alpha beta": (
        lambda: build(
            [node("Gemm", ["x", "w", "b"], "y", alpha=0.5, beta=2.0)], VECTOR, "y", {"w": rand(6, 5), "b": rand(1)}
        ),
        ["Gemm"],
    ),
    "bn before gemm": (
        lambda: build(
            [node("BatchNormalization", ["x", "g", "b", "m", "v"], "n"), node("Gemm", ["n", "w"], "y", transB=1)],
            (1, 4),
            "y",
            {**BN, "w": rand(3, 4)},
        ),
        ["Gemm"],
    ),
    "gemm + bn": (
        lambda: build(
            [node("Gemm", ["x", "w"], "n"), node("BatchNormalization", ["n", "g", "b", "m", "v"], "y")],
            VECTOR,
            "y",
            {**BN, "w": rand(6, 4)},
        ),
        ["Gemm"],
    ),
    "pad + conv": (
        lambda: build(
            [node("Pad", ["x", "p"], "q"), node("Conv", ["q", "w"], "y", pads=[0, 1, 1, 0])],
            IMAGE,
            "y",
            {**W, "p": np.array([0, 0, 1, 0, 0, 0, 2, 3], np.int64)},
        ),
        ["Conv"],
    ),
    "pad with axes": (
        lambda: build(
            [node("Pad", ["x", "p", "", "axes"], "q"), node("MaxPool", ["q"], "y", kernel_shape=[2, 2])],
            IMAGE,
            "y",
            {"p": np.array([1, 2], np.int64), "axes": np.array([-1], np.int64)},
            opset=18,
        ),
        ["Pad", "MaxPool"],
    ),
    "pad read twice": (
        lambda: build(
            [node("Pad", ["x", "p"], "q"), node("Relu", ["q"], "r"), node("Add", ["q", "r"], "y")],
            IMAGE,
            "y",
            {"p": np.array([0, 0, 1, 0, 0, 0, 2, 3], np.int64)},
        ),
        ["Pad", "Relu", "Add"],
    ),
    "relu6": (
        lambda: build(
            [node("Clip", ["x", "lo", "hi"], "y")],
            IMAGE,
            "y",
            {"lo": np.array(0, np.float32), "hi": np.array(6, np.float32)},
        ),
        ["Clip"],
    ),
    "clip by attribute": (lambda: build([node("Clip", ["x"], "y", min=-0.5, max=0.4)], IMAGE, "y", opset=9), ["Clip"]),
    "clip one side": (
        lambda: build([node("Clip", ["x", "", "hi"], "y")], IMAGE, "y", {"hi": np.array(0.3, np.float32)}),
        ["Clip"],
    ),
    "clip is relu": (
        lambda: build([node("Clip", ["x", "lo"], "y")], IMAGE, "y", {"lo": np.array(0, np.float32)}),
        ["Relu"],
    ),
    "max pool": (
        lambda: build(
            [node("MaxPool", ["x"], "y", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1])], IMAGE, "y"
        ),
        ["MaxPool"],
    ),
    "average pool, pad counted": (
        lambda: build(
            [node("AveragePool", ["x"], "y", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)], IMAGE, "y"
        ),
        ["AveragePool"],
    ),
    "average pool same": (
        lambda: build(
            [node("AveragePool", ["x"], "y", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")], IMAGE, "y"
        ),
        ["AveragePool"],
    ),
    "average pool of everything": (
        lambda: build([node("AveragePool", ["x"], "y", kernel_shape=[9, 8])], IMAGE, "y"),
        ["GlobalAveragePool"],
    ),
    "ceil_mode without effect": (
        lambda: build([node("MaxPool", ["x"], "y", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)], IMAGE, "y"),
        ["MaxPool"],
    ),
    "mean": (
        lambda: build([node("ReduceMean", ["x"], "y", axes=[-1, 2], keepdims=0)], IMAGE, "y", opset=13),
        ["GlobalAveragePool", "Flatten"],
    ),
    "mean with axes input": (
        lambda: build([node("ReduceMean", ["x", "a"], "y")], IMAGE, "y", {"a": np.array([2, 3], np.int64)}, opset=18),
        ["GlobalAveragePool"],
    ),
    "squeezed mean": (
        lambda: build(
            [
                node("GlobalAveragePool", ["x"], "p"),
                node("Squeeze", ["p", "a"], "s"),
                node("Gemm", ["s", "w"], "y"),
            ],
            IMAGE,
            "y",
            {"a": np.array([2, 3], np.int64), "w": rand(3, 5)},
        ),
        ["GlobalAveragePool", "Flatten", "Gemm"],
    ),
    "transpose of ones": (
        lambda: build(
            [
                node("GlobalAveragePool", ["x"], "p"),
                node("Transpose", ["p"], "t", perm=[0, 2, 3, 1]),
                node("Reshape", ["t", "s"], "y"),
            ],
            IMAGE,
            "y",
            {"s": np.array([1, -1], np.int64)},
        ),
        ["GlobalAveragePool", "Flatten"],
    ),
    "reshape there and back": (
        lambda: build(
            [
                node("Reshape", ["x", "s"], "r"),
                node("Unsqueeze", ["r", "a"], "u"),
                node("Reshape", ["u", "t"], "q"),
                node("Relu", ["q"], "y"),
            ],
            IMAGE,
            "y",
            {"s": np.array([3, -1], np.int64), "a": np.array([0], np.int64), "t": np.array([1, 3, 9, 8], np.int64)},
        ),
        ["Relu"],
    ),
    "vector to image": (
        lambda: build(
            [node("Reshape", ["x", "s"], "r"), node("Conv", ["r", "w"], "y")],
            (1, 72),
            "y",
            {"s": np.array([0, 3, 4, -1], np.int64), **W},
        ),
        ["Reshape", "Conv"],
    ),
    "flatten to other axis": (lambda: build([node("Flatten", ["x"], "y", axis=0)], IMAGE, "y"), ["Flatten"]),
    "concat": (
        lambda: build([CONV, node("Relu", ["c"], "r"), node("Concat", ["c", "r", "c"], "y", axis=-3)], IMAGE, "y", W),
        ["Conv", "Relu", "Concat"],
    ),
    "softmax": (lambda: build([node("Softmax", ["x"], "y")], VECTOR, "y"), ["Softmax"]),
    "old softmax": (lambda: build([node("Softmax", ["x"], "y")], VECTOR, "y", opset=11), ["Softmax"]),
    "identity and dropout": (
        lambda: build(
            [node("Identity", ["x"], "i"), node("Dropout", ["i"], "d"), node("Relu", ["d"], "y")], IMAGE, "y"
        ),
        ["Relu"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_operator(case: str, tmp_path: Path) -> None:
    make, expected = CASES[case]
    assert operators(compare(make(), tmp_path).onnx) == expected


def test_computed_reshape_target_is_folded(tmp_path: Path) -> None:
    """The classic exported `x.view(x.size(0), -1)`."""
    nodes = [
        node("Shape", ["x"], "s"),
        node("Constant", [], "zero", value=onnx.numpy_helper.from_array(np.array(0, np.int64))),
        node("Gather", ["s", "zero"], "n"),
        node("Unsqueeze", ["n", "axis"], "u"),
        node("Concat", ["u", "rest"], "t", axis=0),
        node("Reshape", ["x", "t"], "f"),
        node("Gemm", ["f", "w"], "y"),
    ]
    constants = {"axis": np.array([0], np.int64), "rest": np.array([-1], np.int64), "w": rand(216, 4)}
    model = build(nodes, ("batch", 3, 9, 8), "y", constants)
    assert operators(compare(model, tmp_path).onnx) == ["Flatten", "Gemm"]


def test_grouped_and_depthwise_convolution(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "a", "ab"], "d", group=4, pads=[1] * 4),
        node("Conv", ["d", "g"], "y", group=2),
    ]
    constants = {"a": rand(8, 1, 3, 3), "ab": rand(8), "g": rand(6, 4, 1, 1)}
    loaded = compare(build(nodes, (1, 4, 7, 5), "y", constants), tmp_path)
    assert [attributes(n)["group"] for n in loaded.onnx.graph.node] == [4, 2]


def test_shared_weights_stay_separate(tmp_path: Path) -> None:
    """Folding one reader's BatchNormalization must not touch the other reader of the same initializer."""
    bn = {key: value[:3] for key, value in BN.items()}
    nodes = [
        node("Conv", ["x", "w"], "a"),
        node("BatchNormalization", ["a", "g", "b", "m", "v"], "n"),
        node("Relu", ["n"], "r"),
        node("Conv", ["r", "w"], "y"),
    ]
    compare(build(nodes, IMAGE, "y", {**bn, "w": rand(3, 3, 1, 1)}), tmp_path)


def test_initializers_listed_as_inputs(tmp_path: Path) -> None:
    model = build([CONV], IMAGE, "c", W)
    model.graph.input.append(helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, (4, 3, 3, 3)))
    compare(model, tmp_path)


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    function = helper.make_function(
        "mine", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], "b")], [helper.make_opsetid("", 17)]
    )
    model = build([helper.make_node("Twice", ["x"], ["y"], domain="mine")], IMAGE, "y")
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    assert operators(compare(model, tmp_path).onnx) == ["Add"]


def test_source_is_left_alone_and_result_is_deterministic() -> None:
    model = CASES["conv + bn"][0]()
    before = model.SerializeToString()
    first, second = canonicalize(model), canonicalize(model)
    assert model.SerializeToString() == before
    assert first.SerializeToString() == second.SerializeToString()


def test_canonical_graph_is_a_fixed_point() -> None:
    for make, _ in CASES.values():
        once = canonicalize(make())
        assert canonicalize(once).SerializeToString() == once.SerializeToString()
