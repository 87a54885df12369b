"""Networks with several inputs and outputs, and with a batch: one graph that computes the same."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from frontend.canonical_form import assert_canonical, save
from frontend.tflite_builder import TfliteBuilder
from graph_builder import pair
from tapc.base.errors import DataError, UnsupportedError
from tapc.base.ports import joined, split
from tapc.frontend import FloatModel, load
from tapc.frontend.verify import onnx_runner, source_error

MAP = (1, 2, 3, 4)


def onnx_model(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, ...]], outputs: list[str], opset: int = 17
) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [info(name, TensorProto.FLOAT, None) for name in outputs],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def outputs_of(loaded: FloatModel, *values: np.ndarray) -> list[np.ndarray]:
    run = onnx_runner(loaded.onnx)
    return list(split(loaded.outputs, run(joined(list(values)))).values())


def test_names_and_shapes_stay_in_order(tmp_path: Path) -> None:
    loaded = load(save(pair().onnx, tmp_path))
    assert_canonical(loaded.onnx)
    assert [(port.name, port.shape) for port in loaded.inputs] == [
        ("x", (1, 3, 8, 8)), ("depth", (1, 1, 8, 8)), ("numbers", (1, 3)),
    ]  # fmt: skip
    assert [port.shape for port in loaded.outputs] == [(1, 6, 8, 8), (1, 4), (1, 3)]
    with pytest.raises(UnsupportedError, match="3 inputs"):
        _ = loaded.input_shape


def test_an_output_that_is_an_input_and_two_that_are_one(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["y"]),
        helper.make_node("Identity", ["y"], ["again"]),
        helper.make_node("Identity", ["b"], ["given"]),
    ]
    source = onnx_model(nodes, {"a": MAP, "b": MAP}, ["y", "again", "given", "sum"])
    loaded = load(save(source, tmp_path))
    assert_canonical(loaded.onnx)
    a, b = np.random.default_rng(0).normal(0, 1, (2, *MAP)).astype(np.float32)
    y, again, given, total = outputs_of(loaded, a, b)
    np.testing.assert_array_equal(y, np.maximum(a + b, 0))
    np.testing.assert_array_equal(again, y)
    np.testing.assert_array_equal(given, b)
    np.testing.assert_array_equal(total, a + b)


def test_outputs_without_an_operator_are_nothing_to_compile(tmp_path: Path) -> None:
    source = onnx_model([helper.make_node("Identity", ["a"], ["y"])], {"a": MAP}, ["y"])
    with pytest.raises(UnsupportedError, match="nothing to compile"):
        load(save(source, tmp_path))


def test_an_error_in_the_smaller_output_is_seen() -> None:
    nodes = [helper.make_node("Relu", ["a"], ["large"]), helper.make_node("Relu", ["b"], ["small"])]
    graph = onnx_model(nodes, {"a": (1, 4), "b": (1, 4)}, ["large", "small"], 21)

    def reference(x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0) + np.float32(0.01) * np.repeat([0, 1], 4).astype(np.float32)

    samples = np.repeat(np.float32([[1000, 0.001]]), 4, axis=1).reshape(1, 8)
    with pytest.raises(DataError, match="at output 'small'"):
        source_error(graph, reference, samples, 0)


def test_a_fixed_batch_becomes_one(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(0, 1, (4, 2, 1, 1)).astype(np.float32)
    source = onnx_model([helper.make_node("Relu", ["a"], ["r"])], {"a": (8, *MAP[1:])}, ["r"])
    source.graph.node.append(helper.make_node("Conv", ["r", "w"], ["c"]))
    source.graph.node.append(helper.make_node("Flatten", ["c"], ["y"]))
    source.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    source.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, (8, 48)))
    loaded = load(save(source, tmp_path))
    assert (loaded.input_shape, loaded.output_shape) == (MAP, (1, 48))
    assert loaded.source_error is not None  # against the file as it is, with batch 8
    assert loaded.run is not None
    x = np.random.default_rng(1).normal(0, 1, (11, *MAP[1:])).astype(np.float32)
    expected = np.einsum("oi,nihw->nohw", weights[:, :, 0, 0], np.maximum(x, 0)).reshape(11, -1)
    np.testing.assert_allclose(loaded.run(x), expected, rtol=1e-4, atol=1e-5)


def test_tflite(tmp_path: Path) -> None:
    builder = TfliteBuilder(*MAP)
    other = builder.tensor(MAP, "other")
    builder.graph.inputs = [0, other]
    total = builder.operator("ADD", [0, other], MAP, "AddOptions")
    top = builder.operator("RELU6", [total], MAP)
    (tmp_path / "net.tflite").write_bytes(builder.finish(top, total))
    loaded = load(tmp_path / "net.tflite")
    assert_canonical(loaded.onnx)
    assert "checked against LiteRT" in loaded.provenance
    x = np.random.default_rng(0).normal(0, 4, (2, 1, 4, 2, 3)).astype(np.float32)
    first, second = outputs_of(loaded, *x)
    np.testing.assert_array_equal(first, np.clip(x[0] + x[1], 0, 6))
    np.testing.assert_array_equal(second, x[0] + x[1])


@pytest.mark.parametrize("kind", [TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT])
def test_tokens_choose_rows(kind: int, tmp_path: Path) -> None:
    """Integers, or floats that are made integers first; the table in any arrangement that is asked for."""
    table = np.random.default_rng(0).normal(0, 1, (11, 6)).astype(np.float32)
    weights = np.random.default_rng(1).normal(0, 1, (4, 6, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["words"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "whole"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["columns"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["columns", "weights"], ["conv"], pads=[1, 1]),
        helper.make_node("ReduceMean", ["conv"], ["y"], axes=[2], keepdims=0),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("words", kind, (1, 5))], [info("y", TensorProto.FLOAT, (1, 4))],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(weights, "weights")],
    )  # fmt: skip
    loaded = load(save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path))
    assert [(port.tokens, port.size) for port in loaded.inputs] == [(11, 5)]
    words = np.random.default_rng(2).integers(0, 11, (3, 1, 5, 1))
    padded = np.pad(table[words[:, 0, :, 0]], ((0, 0), (1, 1), (0, 0)))
    expected = sum(padded[:, k : k + 5] @ weights[:, :, k].T for k in range(3)).mean(axis=1)
    np.testing.assert_allclose(onnx_runner(loaded.onnx)(words.astype(np.float32)), expected, rtol=1e-4, atol=1e-5)


def test_tokens_that_do_something_else_are_refused(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    nodes = [helper.make_node("Cast", ["words"], ["x"], to=TensorProto.FLOAT), helper.make_node("Relu", ["x"], ["y"])]
    graph = helper.make_graph(nodes, "g", [info("words", TensorProto.INT64, (1, 5))], [info("y", 1, (1, 5))])
    with pytest.raises(UnsupportedError, match="only choose rows of a table"):
        load(save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path))
