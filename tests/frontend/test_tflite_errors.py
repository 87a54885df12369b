"""TFLite files that are refused say which operator or tensor, why, and what to do."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frontend.tflite_builder import TfliteBuilder
from tapc.base.errors import DataError, TapcError, UnsupportedError
from tapc.frontend import load

IMAGE = (1, 7, 5, 3)


def write(builder: TfliteBuilder, *outputs: int, folder: Path) -> str:
    path = folder / "net.tflite"
    path.write_bytes(builder.finish(*outputs))
    return str(path)


def relu(b: TfliteBuilder) -> int:
    return b.operator("RELU", [b.input], IMAGE, name="model/relu/Relu")


UNSUPPORTED: dict[str, tuple[Callable[[TfliteBuilder], int], str]] = {
    "operator": (
        lambda b: b.operator("CUMSUM", [relu(b), relu(b)], IMAGE, name="model/act/hs"),
        r"operator 2 \(CUMSUM, output 'model/act/hs'\): operator CUMSUM is not supported; supported: ABS",
    ),
    "tanh": (
        lambda b: b.conv(b.input, 2, (2, 2), (1, 7, 5, 2), fusedActivationFunction=4),
        "fused activation TANH",
    ),
    "computed weights": (
        lambda b: b.operator("FULLY_CONNECTED", [b.input, relu(b), -1], (1, 4), "FullyConnectedOptions"),
        "input 1 must be constant",
    ),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_unsupported(case: str, tmp_path: Path) -> None:
    build, message = UNSUPPORTED[case]
    builder = TfliteBuilder(*IMAGE)
    with pytest.raises(UnsupportedError, match=message):
        load(write(builder, build(builder), folder=tmp_path))


def test_quantized_inside(tmp_path: Path) -> None:
    builder = TfliteBuilder(*IMAGE)
    inner = builder.operator("QUANTIZE", [builder.input], IMAGE, name="inner")
    builder.graph.tensors[inner].type = 9
    hidden = builder.operator("RELU", [inner], IMAGE)
    builder.graph.tensors[hidden].type = 9
    with pytest.raises(UnsupportedError, match=r"'inner' is INT8 without a scale"):
        load(write(builder, builder.operator("DEQUANTIZE", [hidden], IMAGE), folder=tmp_path))


def test_dynamic_dimension(tmp_path: Path) -> None:
    builder = TfliteBuilder(*IMAGE)
    builder.graph.tensors[0].shapeSignature = [-1, -1, 5, 3]
    with pytest.raises(UnsupportedError, match=r"tensor 'in' has dynamic dimension 1; convert the model with a fixed"):
        load(write(builder, relu(builder), folder=tmp_path))


def test_dynamic_batch_is_one(tmp_path: Path) -> None:
    builder = TfliteBuilder(*IMAGE)
    builder.graph.tensors[0].shapeSignature = [-1, 7, 5, 3]
    assert load(write(builder, relu(builder), folder=tmp_path)).input_shape == (1, 3, 7, 5)


def test_nan_weights(tmp_path: Path) -> None:
    builder = TfliteBuilder(1, 6)
    weights = builder.constant(np.full((4, 6), np.nan, np.float32), name="model/fc/MatMul")
    output = builder.operator("FULLY_CONNECTED", [0, weights, -1], (1, 4), "FullyConnectedOptions")
    with pytest.raises(DataError, match="'model/fc/MatMul' holds NaN"):
        load(write(builder, output, folder=tmp_path))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 zip", b"\0\0\0\0TFL3"])
def test_not_tflite(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.tflite"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad.tflite: (not a TFLite file|corrupt)"):
        load(str(path))


def test_truncations_are_reported(tmp_path: Path) -> None:
    builder = TfliteBuilder(1, 6)
    blob = builder.finish(builder.dense(0, 4))
    path = tmp_path / "cut.tflite"
    for size in range(8, len(blob) - 8, 41):
        path.write_bytes(blob[:size])
        with pytest.raises(TapcError):
            load(str(path))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(8, 10_000), st.integers(0, 255)), min_size=1, max_size=3))
def test_damaged_files_never_escape_as_other_errors(flips: list[tuple[int, int]], tmp_path: Path) -> None:
    builder = TfliteBuilder(1, 4, 3, 2)
    image = builder.conv(builder.input, 3, (2, 2), (1, 4, 3, 3))
    blob = bytearray(builder.finish(builder.dense(builder.reshape(image, 1, 36), 4)))
    for position, value in flips:
        blob[8 + position % (len(blob) - 8)] = value
    path = tmp_path / "flipped.tflite"
    path.write_bytes(blob)
    with contextlib.suppress(TapcError), pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
        load(str(path))


def test_missing_runtime_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = TfliteBuilder(*IMAGE)
    path = write(builder, relu(builder), folder=tmp_path)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    loaded = load(path)
    assert loaded.source_error is None
    assert "not checked: ai-edge-litert is missing (pip install ai-edge-litert)" in loaded.provenance
