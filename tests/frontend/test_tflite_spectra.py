"""Spectra in TFLite files (RFFT2D, COMPLEX_ABS, REAL, IMAG), against LiteRT's reference kernels and numpy's."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import tapc
from frontend.canonical_form import assert_canonical
from frontend.tflite_builder import check_refused, litert
from frontend.tflite_spectra import SpectrumBuilder, log_mel
from tapc.frontend import FloatModel, load


def compare(blob: bytes, folder: Path, *shape: int) -> FloatModel:
    """Load a file and compare what it gives with LiteRT, as a share of the largest value."""
    path = folder / "net.tflite"
    path.write_bytes(blob)
    loaded = load(path)
    assert_canonical(loaded.onnx)
    assert "checked against LiteRT" in loaded.provenance
    products = [node.input for node in loaded.onnx.graph.node if node.op_type == "Mul"]
    assert all(a == b for a, b in products)  # squares: windows are part of the layers
    session = ort.InferenceSession(loaded.onnx.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    (inlet,), (outlet,) = loaded.inputs, loaded.outputs
    inputs = [rng.normal(0, size, shape) for size in (1e-3, 1, 1e3)] + [np.zeros(shape)]
    for given in inputs:
        x = given.astype(np.float32)
        (found,) = session.run(None, {inlet.name: inlet.canonical(x).reshape(inlet.shape)})
        expected = outlet.canonical(litert(blob, x)).reshape(found.shape)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max() + 1e-30)
    return loaded


def parts(b: SpectrumBuilder, spectrum: int, *kinds: str) -> bytes:
    """Return a network that gives these of a spectrum, one behind the other."""
    found = [b.part(kind, spectrum) for kind in kinds]
    *shape, last = b.graph.tensors[found[0]].shape
    whole = (*shape, last * len(kinds))
    return b.finish(b.operator("CONCATENATION", found, whole, "ConcatenationOptions", axis=len(shape)))


@pytest.mark.parametrize(("samples", "length"), [(32, 32), (20, 32), (50, 32), (3, 2)])
def test_a_transform(samples: int, length: int, tmp_path: Path) -> None:
    """Frames that are shorter or longer than fft_length are filled with zeros, or cut."""
    b = SpectrumBuilder(1, 1, samples)
    blob = parts(b, b.rfft(b.input, length), "REAL", "IMAG", "COMPLEX_ABS")
    compare(blob, tmp_path, 1, 1, samples)
    x = np.random.default_rng(2).normal(size=(1, 1, samples)).astype(np.float32)
    spectrum = np.fft.rfft(x.astype(np.float64), length)
    expected = np.concatenate([spectrum.real, spectrum.imag, np.abs(spectrum)], axis=-1)
    np.testing.assert_allclose(litert(blob, x), expected, atol=1e-5)


@pytest.mark.parametrize(("rows", "height"), [(4, 4), (3, 4), (6, 4), (3, 1)])
def test_two_dimensions(rows: int, height: int, tmp_path: Path) -> None:
    b = SpectrumBuilder(1, rows, 8)
    compare(parts(b, b.rfft(b.input, 8, height), "REAL", "IMAG"), tmp_path, 1, rows, 8)


@pytest.mark.parametrize("fft", [64, 128])
def test_log_mel(fft: int, tmp_path: Path) -> None:
    """The window, and the zeros behind it, are part of the matrices."""
    loaded = compare(log_mel(fft=fft), tmp_path, 1, 160)
    sizes = [list(each.dims) for each in loaded.onnx.graph.initializer if each.name.endswith("weight")]
    assert sizes.count([fft // 2 + 1, 64, 1, 1]) == 2
    assert "Pad" not in {node.op_type for node in loaded.onnx.graph.node}


def test_zeros_before_and_other_windows(tmp_path: Path) -> None:
    """A factor for each frame is no window, and a sum before it no part of the matrices."""
    b = SpectrumBuilder(1, 4, 12)
    x = b.operator("ADD", [b.input, b.weights(12)], (1, 4, 12), "AddOptions")
    x = b.windowed(b.padded(b.windowed(x), (0, 0), (0, 0), (3, 1)))
    blob = parts(b, b.rfft(b.reshape(x, 1, 4, 1, 16), 16), "COMPLEX_ABS", "IMAG")
    compare(blob, tmp_path, 1, 4, 12)


def test_moves_of_complex_tensors(tmp_path: Path) -> None:
    b = SpectrumBuilder(1, 3, 1, 16)
    s = b.complex("SQUEEZE", [b.rfft(b.input, 16)], (1, 3, 9), "SqueezeOptions", squeezeDims=[2])
    s = b.complex("EXPAND_DIMS", [s, b.integers(1)], (1, 1, 3, 9), "ExpandDimsOptions")
    s = b.complex("RESHAPE", [s, b.integers(1, 9, 3)], (1, 9, 3), "ReshapeOptions")
    compare(parts(b, s, "COMPLEX_ABS", "IMAG"), tmp_path, 1, 3, 1, 16)


def test_a_signal_without_a_batch(tmp_path: Path) -> None:
    b = SpectrumBuilder(32)
    blob = b.finish(b.part("COMPLEX_ABS", b.rfft(b.reshape(b.input, 2, 1, 16), 16)))
    (tmp_path / "net.tflite").write_bytes(blob)
    loaded = load(tmp_path / "net.tflite")
    assert loaded.source_error is not None
    assert loaded.source_error < 1e-5


def test_bands_that_the_file_computes_of_constants(tmp_path: Path) -> None:
    """The converter leaves the row of zeros to the file that the mel matrix begins with."""
    b = SpectrumBuilder(1, 2, 1, 16)
    size = b.reshape(b.part("COMPLEX_ABS", b.rfft(b.input, 16)), 2, 9)
    turned = b.operator("TRANSPOSE", [b.padded(b.weights(8, 5), (1, 0), (0, 0)), b.integers(1, 0)], (5, 9))
    options = {"table": "FullyConnectedOptions"}
    blob = b.finish(b.reshape(b.operator("FULLY_CONNECTED", [size, turned, b.weights(5)], (2, 5), **options), 1, 2, 5))
    compare(blob, tmp_path, 1, 2, 1, 16)


def product() -> bytes:
    b = SpectrumBuilder(1, 1, 16)
    s = b.rfft(b.input, 16)
    return b.finish(b.part("REAL", b.complex("MUL", [s, s], (1, 1, 9), "MulOptions")))


def joined() -> bytes:
    b = SpectrumBuilder(1, 1, 16)
    s = b.rfft(b.input, 16)
    return b.finish(b.part("REAL", b.complex("PACK", [s, s], (2, 1, 1, 9), "PackOptions", valuesCount=2)))


def complex_output() -> bytes:
    b = SpectrumBuilder(1, 1, 16)
    return b.finish(b.rfft(b.input, 16))


def complex_input() -> bytes:
    b = SpectrumBuilder(1, 1, 16)
    b.graph.tensors[b.input].type = 8
    return b.finish(b.part("REAL", b.input))


def computed_length() -> bytes:
    b = SpectrumBuilder(1, 1, 16)
    length = b.operator("CAST", [b.reshape(b.input, 16)], (2,), "CastOptions", outDataType=2)
    b.graph.tensors[length].type = 2
    s = b.complex("RFFT2D", [b.input, length], (1, 1, 9), "Rfft2dOptions")
    return b.finish(b.part("REAL", s))


@pytest.mark.parametrize(("build", "message"), [
    (product, r"operator 1 (MUL, output"),
    (joined, r"only COMPLEX_ABS, REAL, IMAG, RESHAPE"),
    (complex_output, "is complex; let the network take and give real tensors"),
    (complex_input, "complex tensors are compiled where RFFT2D makes them of real ones"),
    (computed_length, "fft_length must be two constant numbers"),
])  # fmt: skip
def test_what_else_reads_complex_tensors_is_refused(build: Callable[[], bytes], message: str, tmp_path: Path) -> None:
    check_refused(build(), message, tmp_path)


@pytest.mark.parametrize("abits", ["8", "16"])
def test_features_compile_exactly(abits: str, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(log_mel())
    options = tapc.Options(wbits=(8,), abits=(int(abits),), calibration=32, eval=2, rounding="nearest", equalize=False)
    report = tapc.compile(path, board="stm32h7", data="random", output=tmp_path / "b", options=options).report
    assert report.exact
