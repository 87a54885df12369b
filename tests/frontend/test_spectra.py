"""Fourier transforms inside networks: what onnxruntime and torch compute, as layers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from frontend.canonical_form import assert_canonical
from tapc.base.errors import DataError, UnsupportedError
from tapc.frontend import load

CONSTANTS = {"step": 20, "length": 64, "long": 80, "short": 40, "first": 1, "last": -2, "zero": 0}


def written(path: Path, op: str, shape: tuple[int, ...], inputs: list[str], opset: int = 20, **options: Any) -> Path:
    constants = {name: np.array(value, np.int64) for name, value in CONSTANTS.items() if name in inputs}
    if "window" in inputs:
        constants["window"] = np.hanning(64).astype(np.float32)
    nodes = [
        helper.make_node(op, ["x", *inputs], ["z"], name="spectrum", **options),
        helper.make_node("Mul", ["z", "z"], ["y"], name="squares"),
    ]
    info, extents = helper.make_tensor_value_info, (1, *(None for _ in range(3 if op == "STFT" else len(shape) - 1)))
    graph = helper.make_graph(
        nodes, "net", [info("x", TensorProto.FLOAT, shape)], [info("y", TensorProto.FLOAT, extents)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)
    return path


def compare(path: Path, shape: tuple[int, ...]) -> None:
    model = load(path)
    assert_canonical(model.onnx)
    x = np.random.default_rng(0).normal(0, 1, (3, *shape)).astype(np.float32)
    own = ort.InferenceSession(model.onnx.SerializeToString(), providers=["CPUExecutionProvider"])
    theirs = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for sample in x:
        (expected,) = theirs.run(None, {theirs.get_inputs()[0].name: sample})
        given = model.inputs[0].canonical(sample.reshape(1, -1))
        (found,) = own.run(None, {own.get_inputs()[0].name: given})
        found = model.outputs[0].restored(found)
        np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=3e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("op", "shape", "inputs", "opset", "options"),
    [
        ("STFT", (1, 200, 1), ["step", "window", "length"], 17, {}),
        ("STFT", (1, 200, 1), ["step", "window"], 20, {"onesided": 0}),
        ("STFT", (1, 200, 1), ["step", "", "length"], 20, {"onesided": 1}),
        ("DFT", (1, 3, 64, 1), ["", "last"], 20, {"onesided": 1}),
        ("DFT", (1, 3, 64, 1), ["long", "last"], 20, {}),
        ("DFT", (1, 3, 64, 1), ["short", "last"], 20, {"onesided": 1}),
        ("DFT", (1, 12, 5, 2), ["", "first"], 20, {}),
        ("DFT", (1, 12, 5, 2), ["", "first"], 20, {"inverse": 1}),
        ("DFT", (1, 12, 5, 1), [], 17, {"axis": 2, "onesided": 1}),
        ("DFT", (1, 13, 1), [], 17, {}),
    ],
)  # fmt: skip
def test_equal_to_onnxruntime(
    op: str, shape: tuple[int, ...], inputs: list[str], opset: int, options: dict[str, Any], tmp_path: Path
) -> None:
    compare(written(tmp_path / "net.onnx", op, shape, inputs, opset, **options), shape)


class Features(torch.nn.Module):
    """Logarithms of mel-like sums of a power spectrum, less their means."""

    def __init__(self, mels: int = 12, *, center: bool = False) -> None:
        super().__init__()
        self.center = center
        self.register_buffer("window", torch.hann_window(64))
        self.register_buffer("mel", torch.rand(mels, 33, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.stft(x, 64, 20, window=self.window, center=self.center, return_complex=True)
        parts = torch.view_as_real(z)
        power = parts.square().sum(-1)
        logs = torch.log(torch.matmul(self.mel, power) + 1e-2)
        return logs - logs.mean(dim=2, keepdim=True)


@pytest.mark.parametrize("center", [False, True])
def test_as_torch_exports_it(center: bool, tmp_path: Path) -> None:
    module = Features(center=center).eval()
    torch.onnx.export(module, (torch.zeros(1, 400),), tmp_path / "net.onnx", dynamo=True, opset_version=20)
    compare(tmp_path / "net.onnx", (1, 400))


@pytest.mark.parametrize(
    ("error", "match", "op", "shape", "inputs", "options"),
    [
        (DataError, "do not fit 50 samples", "STFT", (1, 50, 1), ["step", "", "length"], {}),
        (UnsupportedError, "no single real one", "STFT", (1, 200, 2), ["step", "", "length"], {"onesided": 0}),
        (DataError, "one-sided", "DFT", (1, 12, 5, 2), ["", "first"], {"onesided": 1}),
        (UnsupportedError, "real numbers", "DFT", (1, 12, 5, 2), ["", "first"], {"onesided": 1, "inverse": 1}),
        (UnsupportedError, "is 0", "DFT", (1, 12, 5, 1), ["zero", "first"], {}),
    ],
)  # fmt: skip
def test_what_has_no_matrix_is_told(
    error: type[Exception], match: str, op: str, shape: tuple[int, ...], inputs: list[str], options: dict[str, Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    with pytest.raises(error, match=match):
        load(written(tmp_path / "net.onnx", op, shape, inputs, **options))
