"""Operators on tensors of any rank become the canonical graph, which computes what onnxruntime computes."""

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from frontend.canonical_form import build
from tapc.base.errors import UnsupportedError
from tapc.frontend.canonical import Canonical, canonical_form

RNG = np.random.default_rng(0)
MOVES = {"Transpose", "Slice", "Gather"}


def normal(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(0, 1, shape).astype(np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def translated(model: onnx.ModelProto) -> Canonical:
    """Return the canonical form, after it was compared with its source."""
    canonical = canonical_form(model)
    (inlet,) = canonical.inputs
    runs = [ort.InferenceSession(m.SerializeToString()) for m in (model, canonical.onnx)]
    for _ in range(2):
        x = RNG.normal(0, 1, inlet.source or inlet.shape).astype(np.float32)
        expected = runs[0].run(None, {inlet.name: x})
        got = runs[1].run(None, {inlet.name: inlet.canonical(x)})
        for y, z, outlet in zip(expected, got, canonical.outputs, strict=True):
            assert z.shape == outlet.shape
            np.testing.assert_allclose(outlet.restored(z), y, rtol=1e-4, atol=1e-4)
    return canonical


def moves(canonical: Canonical) -> int:
    return sum(node.op_type in MOVES for node in canonical.onnx.graph.node)


Net = tuple[list[tuple[Any, ...]], tuple[int, ...], dict[str, Any]]


def net(
    op: str, shape: tuple[int, ...], *constants: Any, opset: int = 17, before: str = "Relu", **attributes: Any
) -> Any:
    """Return x -> before -> op, with these constants behind the activation; None leaves an input out."""
    names = ["" if c is None else f"c{i}" for i, c in enumerate(constants)]
    given_ = {name: c for name, c in zip(names, constants, strict=True) if name}
    nodes = [helper.make_node(before, ["x"], ["r"]), helper.make_node(op, ["r", *names], ["y"], **attributes)]
    return build(nodes, shape, "y", given_, opset)


SINGLE = {
    "1-D convolution": net("Conv", (1, 3, 9), normal(4, 3, 3), normal(4), pads=[1, 2], strides=[2]),
    "1-D convolution with dilation": net("Conv", (1, 4, 20), normal(8, 2, 3), dilations=[4], pads=[8, 0], group=2),
    "2-D convolution with dilation": net("Conv", (1, 3, 9, 8), normal(4, 3, 3, 3), dilations=[2, 1]),
    "1-D maximum": net("MaxPool", (1, 3, 9), kernel_shape=[2], strides=[2]),
    "1-D average": net("AveragePool", (1, 3, 9), kernel_shape=[3], pads=[1, 1], strides=[2], count_include_pad=1),
    "pooling, the last window cut": net("MaxPool", (1, 3, 9, 8), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "average, the last window cut": net("AveragePool", (1, 3, 9, 8), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "mean of channels": net("ReduceMean", (1, 3, 9, 8), axes=[1]),
    "mean of everything": net("ReduceMean", (1, 3, 9, 8)),
    "mean of rows": net("ReduceMean", (1, 3, 9, 8), axes=[2], keepdims=0),
    "mean of a sequence": net("ReduceMean", (1, 9, 5), axes=[1], keepdims=0),
    "maximum of a sequence's features": net("ReduceMax", (1, 9, 5), axes=[2]),
    "minimum": net("ReduceMin", (1, 3, 4, 5), axes=[1, 3]),
    "sum": net("ReduceSum", (1, 3, 4, 5), ints(2, 3), keepdims=0),
    "length": net("ReduceL2", (1, 3, 4, 5), axes=[2, 3]),
    "transpose": net("Transpose", (1, 3, 4, 5), perm=[0, 2, 3, 1]),
    "sum with rows": net("Add", (1, 3, 4, 5), normal(1, 1, 4, 5)),
    "product with columns": net("Mul", (1, 3, 4, 5), normal(5)),
    "quotient": net("Div", (1, 3, 4, 5), normal(3, 1, 1) + 3),
    "quotient of rows": net("Div", (1, 3, 4, 5), np.abs(normal(4, 1)) + 1),
    "difference": net("Sub", (1, 6, 5), normal(6, 1)),
    "at least": net("Max", (1, 6, 5), np.float32(0.3)),
    "reflected": net("Pad", (1, 3, 4, 5), ints(0, 0, 1, 2, 0, 0, 1, 0), mode="reflect"),
    "repeated edge": net("Pad", (1, 6, 5), ints(0, 0, 2, 0, 0, 1), mode="edge"),
    "padded channels": net("Pad", (1, 3, 4, 5), ints(0, 1, 0, 0, 0, 2, 0, 0)),
    "padded with a number": net("Pad", (1, 6, 5), ints(0, 0, 2, 0, 0, 1), np.float32(0.5)),
    "cut": net("Pad", (1, 3, 4, 5), ints(0, 0, -1, 1, 0, 0, 0, 0)),
    "softmax of channels": net("Softmax", (1, 3, 4, 5), axis=1),
    "softmax of rows": net("Softmax", (1, 3, 4, 5), axis=2),
    "softmax of old opsets": net("Softmax", (1, 3, 4, 5), axis=2, opset=11),
    "logarithm of softmax": net("LogSoftmax", (1, 6, 5), axis=-1),
    "matrices": net("MatMul", (1, 3, 4, 5), normal(5, 7)),
    "a matrix": net("MatMul", (4, 5), normal(5, 7)),
    "a batch of dense layers": net("Gemm", (4, 5), normal(5, 7), normal(7)),
    "another shape": net("Reshape", (1, 3, 9, 8), ints(3, 72)),
    "three dimensions": net("Reshape", (1, 3, 9, 8), ints(1, 3, 72)),
    "five dimensions": net("Transpose", (1, 2, 3, 4, 5), perm=[0, 4, 2, 3, 1]),
    "nearest": net("Resize", (1, 3, 4, 5), None, np.array([1, 1, 2, 3], np.float32), mode="nearest"),
    "nearest, uneven": net(
        "Resize", (1, 3, 4, 5), None, None, ints(1, 3, 7, 9), mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    ),
    "linear": net(
        "Resize", (1, 3, 4, 5), None, None, ints(1, 3, 7, 9), mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    "linear, twice": net("Resize", (1, 3, 4, 5), None, np.array([1, 1, 2, 2], np.float32), mode="linear"),
    "linear in 1-D": net("Resize", (1, 3, 5), None, None, ints(1, 3, 9), mode="linear"),
    "old nearest": net("Upsample", (1, 3, 4, 5), np.array([1, 1, 2, 2], np.float32), opset=9),
    "depth to space": net("DepthToSpace", (1, 8, 3, 4), blocksize=2, mode="CRD"),
    "space to depth": net("SpaceToDepth", (1, 3, 4, 6), blocksize=2),
    "tiles": net("Tile", (1, 3, 4, 5), ints(1, 2, 1, 3)),
    "layer normalization": net("LayerNormalization", (1, 6, 8), normal(8), normal(8)),
    "layer normalization of maps": net("LayerNormalization", (1, 3, 4, 5), normal(4, 5), axis=2),
    "instance normalization": net("InstanceNormalization", (1, 3, 4, 5), normal(3), normal(3)),
    "group normalization": net("GroupNormalization", (1, 6, 4, 5), normal(6), normal(6), num_groups=2, opset=21),
    "batch normalization of a sequence": net("BatchNormalization", (1, 6, 8), *(abs(normal(6)) for _ in range(4))),
    "transposed": net("ConvTranspose", (1, 3, 4, 5), normal(3, 4, 2, 2), normal(4), strides=[2, 2]),
    "transposed, all options": net(
        "ConvTranspose", (1, 4, 4, 5), normal(4, 3, 3, 4), normal(6), strides=[2, 3], pads=[1, 0, 0, 2], group=2,
        output_padding=[1, 0], dilations=[2, 1],
    ),
    "transposed, the same size": net(
        "ConvTranspose", (1, 3, 4, 5), normal(3, 4, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"
    ),
    "transposed in 1-D": net("ConvTranspose", (1, 3, 7), normal(3, 2, 5), strides=[2], pads=[2, 1]),
    "slopes": net("PRelu", (1, 3, 4, 5), normal(3, 1, 1), before="Abs"),
    "slopes of a sequence": net("PRelu", (1, 6, 5), normal(5), before="Sin"),
    "slopes of elements": net("PRelu", (1, 3, 4, 5), normal(3, 4, 5), before="Sin"),
    "slopes of rows": net("PRelu", (1, 3, 4, 5), normal(3, 4, 1), before="Sin"),
    "a matrix for each of a batch": net("MatMul", (1, 3, 4, 5), normal(3, 5, 7)),
    "matrices and a batch that is repeated": net("MatMul", (1, 4, 5), normal(3, 5, 2)),
}  # fmt: skip


@pytest.mark.parametrize("case", SINGLE)
def test_operator(case: str) -> None:
    translated(SINGLE[case])


@pytest.mark.parametrize("first", [(2, 2), (1, 4)])
def test_convolution_of_maps_that_alternate(first: tuple[int, int]) -> None:
    """What TensorFlow cuts apart becomes one dilated convolution; the pads of its maps count as often as there are."""
    rows, columns = first
    nodes = [
        helper.make_node("Reshape", ["x", "apart"], ["cut"]),
        helper.make_node("Transpose", ["cut"], ["turned"], perm=[2, 4, 1, 3, 5, 0]),
        helper.make_node("Reshape", ["turned", "maps"], ["batch"]),
        helper.make_node("Transpose", ["batch"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["channels", "w"], ["y"], pads=[1, 0, 0, 1]),
    ]
    constants = {"apart": ints(1, 4, rows, 8 // columns, columns, 3), "w": normal(4, 3, 2, 3)}
    constants["maps"] = ints(4, 4, 8 // columns, 3)
    canonical = translated(build(nodes, (1, 4 * rows, 8, 3), "y", constants))
    (conv,) = (node for node in canonical.onnx.graph.node if node.op_type == "Conv")
    assert next(list(a.ints) for a in conv.attribute if a.name == "dilations") == [rows, columns]


def test_steps_over_a_batch_of_maps() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "maps"], ["m"]), helper.make_node("Conv", ["m", "w"], ["y"], strides=[2, 2])
    ]  # fmt: skip
    with pytest.raises(UnsupportedError, match=r"strides \[2, 2\] over a batch of 3 maps"):
        canonical_form(build(nodes, (1, 3, 8, 8), "y", {"maps": ints(3, 1, 8, 8), "w": normal(2, 1, 3, 3)}))


FREE = {  # what takes no move at all
    "channels last": ([("Transpose", ["x"], {"perm": [0, 3, 1, 2]}), ("Conv", ["", "w"], {}),
                       ("Relu", [""], {}), ("Transpose", [""], {"perm": [0, 2, 3, 1]})], (1, 5, 6, 3)),
    "functions between transposes": ([("Transpose", ["x"], {"perm": [0, 3, 1, 2]}), ("Sigmoid", [""], {}),
                       ("Transpose", [""], {"perm": [0, 2, 3, 1]}), ("Mul", ["", "s"], {}),
                       ("Transpose", [""], {"perm": [0, 3, 1, 2]}), ("Conv", ["", "w"], {})], (1, 5, 6, 3)),
    "a sequence by a matrix": ([("MatMul", ["x", "m"], {}), ("Relu", [""], {}), ("MatMul", ["", "n"], {})], (1, 9, 3)),
    "a signal": ([("Conv", ["x", "v"], {}), ("Relu", [""], {}), ("Conv", ["", "u"], {}),
                  ("GlobalAveragePool", [""], {})], (1, 3, 16)),
}  # fmt: skip


@pytest.mark.parametrize("case", FREE)
def test_free(case: str) -> None:
    steps, shape = FREE[case]
    nodes, last = [], "x"
    for i, (op, inputs, attributes) in enumerate(steps):
        names = [name if name else last for name in inputs]
        last = f"t{i}"
        nodes.append(helper.make_node(op, names, [last], **attributes))
    constants = {"w": normal(4, 3, 3, 3), "s": normal(3), "m": normal(3, 4), "n": normal(4, 2), "v": normal(4, 3, 3),
                 "u": normal(2, 4, 3)}  # fmt: skip
    used = {name for node in nodes for name in node.input}
    canonical = translated(build(nodes, shape, last, {k: v for k, v in constants.items() if k in used}, 17))
    assert moves(canonical) == 0


def test_attention_within_windows() -> None:
    """Windows of 2 x 2 pixels, two heads, a relative bias: products in batches."""
    nodes = [
        helper.make_node("Reshape", ["x", "split"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 1, 3, 2, 4, 5]),
        helper.make_node("Reshape", ["b", "windows"], ["c"]),
        helper.make_node("MatMul", ["c", "w"], ["d"]),
        helper.make_node("Reshape", ["d", "heads"], ["e"]),
        helper.make_node("Transpose", ["e"], ["f"], perm=[2, 0, 3, 1, 4]),
        *(helper.make_node("Gather", ["f", str(i)], [name], axis=0) for i, name in enumerate("qkv")),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"]),
        helper.make_node("Add", ["scores", "bias"], ["biased"]),
        helper.make_node("Softmax", ["biased"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "v"], ["values"]),
        helper.make_node("Transpose", ["values"], ["g"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["g", "joined"], ["y"]),
    ]
    constants = {
        "split": ints(1, 2, 2, 2, 2, 8), "windows": ints(4, 4, 8), "w": normal(8, 24), "heads": ints(4, 4, 3, 2, 4),
        "0": np.array(0), "1": np.array(1), "2": np.array(2), "bias": normal(1, 2, 4, 4), "joined": ints(4, 4, 8),
    }  # fmt: skip
    translated(build(nodes, (1, 4, 4, 8), "y", constants, 17))


@pytest.mark.parametrize("spelling", ["Pow, Div", "Mul, Reciprocal", "Pow alone"])
def test_a_normalization_that_is_spelled_out(spelling: str) -> None:
    square = helper.make_node(*(("Pow", ["d", "two"]) if "Pow" in spelling else ("Mul", ["d", "d"])), ["s"])
    root = {
        "Pow, Div": [helper.make_node("Sqrt", ["e"], ["q"]), helper.make_node("Div", ["d", "q"], ["n"])],
        "Mul, Reciprocal": [
            helper.make_node("Sqrt", ["e"], ["q"]), helper.make_node("Reciprocal", ["q"], ["i"]),
            helper.make_node("Mul", ["i", "d"], ["n"]),
        ],
        "Pow alone": [helper.make_node("Pow", ["e", "root"], ["i"]), helper.make_node("Mul", ["d", "i"], ["n"])],
    }[spelling]  # fmt: skip
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[-1]), helper.make_node("Sub", ["x", "m"], ["d"]), square,
        helper.make_node("ReduceMean", ["s"], ["v"], axes=[2]), helper.make_node("Add", ["v", "epsilon"], ["e"]), *root,
        helper.make_node("Mul", ["n", "g"], ["a"]), helper.make_node("Add", ["a", "b"], ["y"]),
    ]  # fmt: skip
    constants = {
        "two": np.float32(2),
        "epsilon": np.float32(1e-5),
        "root": np.float32(-0.5),
        "g": normal(6),
        "b": normal(6),
    }
    used = {name for node in nodes for name in node.input}
    canonical = translated(build(nodes, (1, 4, 6), "y", {k: v for k, v in constants.items() if k in used}, 16))
    assert [n.op_type for n in canonical.onnx.graph.node] == ["Transpose", "LayerNormalization", "Transpose"]


def test_a_class_token() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[2, 2]),
        helper.make_node("Reshape", ["c", "s"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
        helper.make_node("Concat", ["class", "t"], ["all"], axis=1),
        helper.make_node("Add", ["all", "places"], ["p"]),
        helper.make_node("LayerNormalization", ["p", "g", "b"], ["n"]),
        helper.make_node("Gather", ["n", "zero"], ["first"], axis=1),
        helper.make_node("Gemm", ["first", "m"], ["y"]),
    ]
    constants = {
        "w": normal(6, 3, 2, 2), "s": ints(1, 6, 16), "class": normal(1, 1, 6), "places": normal(1, 17, 6),
        "g": normal(6), "b": normal(6), "zero": np.array(0), "m": normal(6, 4),
    }  # fmt: skip
    translated(build(nodes, (1, 3, 8, 8), "y", constants, 17))


@st.composite
def chains(draw: st.DrawFn) -> onnx.ModelProto:
    """Draw a convolution, some moves, and a sum of the result with a constant."""
    shape = [1, 4, draw(st.sampled_from([2, 3, 4])), draw(st.sampled_from([2, 4, 6]))]
    constants: dict[str, Any] = {"w": normal(4, 3, 1, 1)}
    nodes, last = [helper.make_node("Conv", ["x", "w"], ["t"])], "t"
    image = (1, 3, *shape[2:])
    for i in range(draw(st.integers(1, 5))):
        kind, name = draw(st.sampled_from(["transpose", "merge", "split", "slice", "gather"])), f"m{i}"
        axes = range(1, len(shape))
        axis = draw(st.sampled_from(list(axes)))
        if kind == "transpose":
            perm = [0, *draw(st.permutations(list(axes)))]
            nodes.append(helper.make_node("Transpose", [last], [name], perm=perm))
            shape = [shape[a] for a in perm]
        elif kind in ("merge", "split"):
            if kind == "merge" and len(shape) > 2:
                at = draw(st.integers(1, len(shape) - 2))
                shape = [*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]]
            elif len(shape) < 6 and shape[axis] % 2 == 0:
                shape = [*shape[:axis], shape[axis] // 2, 2, *shape[axis + 1 :]]
            constants[f"s{i}"] = ints(*shape)
            nodes.append(helper.make_node("Reshape", [last, f"s{i}"], [name]))
        elif kind == "slice":
            start = draw(st.integers(0, shape[axis] - 1))
            parts = {
                "b": start,
                "e": draw(st.integers(start + 1, shape[axis])),
                "a": axis,
                "d": draw(st.integers(1, 2)),
            }
            constants |= {f"{k}{i}": ints(v) for k, v in parts.items()}
            nodes.append(helper.make_node("Slice", [last, *(f"{k}{i}" for k in parts)], [name]))
            shape[axis] = len(range(parts["b"], parts["e"], parts["d"]))
        else:
            chosen = draw(st.lists(st.integers(0, shape[axis] - 1), min_size=1, max_size=4))
            constants[f"g{i}"] = ints(*chosen)
            nodes.append(helper.make_node("Gather", [last, f"g{i}"], [name], axis=axis))
            shape[axis] = len(chosen)
        last = name
    constants["c"] = normal(*shape)
    nodes.append(helper.make_node("Mul", [last, "c"], ["p"]))
    nodes.append(helper.make_node("Tanh", ["p"], ["y"]))
    return build(nodes, image, "y", constants, 17)


@settings(max_examples=60, deadline=None)
@given(chains())
def test_chains_of_moves(model: onnx.ModelProto) -> None:
    translated(model)
