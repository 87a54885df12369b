"""Whole inputs of every kind, made from seeds: what the mutants start from."""

import io
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from frontend.tflite_builder import TfliteBuilder
from graph_builder import Builder

SHAPE = (1, 3, 8, 8)
CLASSES = 4
QUICK = ("--calibration", "4", "--eval", "1", "--no-simulate", "--wbits", "8", "--rounding", "nearest", "--no-equalize")
CALLABLE = """
import torch

def make():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 4))
"""
OVERRIDES = '[weights]\n"c" = 4\n[activations]\n"c" = 8\n'
PROXY = """schema = 1
name = "p"
reasoning = "because"
inputs = "statistics"
code = '''
def score(layers):
    return [float(layer["parameters"]) for layer in layers]
'''
"""


@dataclass(frozen=True)
class Sources:
    """A valid input of each kind, and a finished build."""

    onnx: bytes
    tflite: bytes
    board: str
    npz: bytes
    npy: bytes
    csv: str
    archive: bytes
    picture: bytes
    state: bytes
    build: Path


def network() -> onnx.ModelProto:
    """A convolution, an addition, pooling and a dense layer."""
    b = Builder(SHAPE)
    x = b.node("Relu", [b.conv("x", "c", 3, 4)], "c.relu")
    y = b.node("Add", [x, b.conv(x, "d", 4, 4)], "sum")
    y = b.node("MaxPool", [y], "pool", kernel_shape=[2, 2], strides=[2, 2])
    y = b.reshape(y, "flat", [1, 64])
    return b.build(b.gemm(y, "g", 64, CLASSES)).onnx


def _tflite() -> bytes:
    b = TfliteBuilder(1, 8, 8, 3)
    x = b.conv(b.input, 4, (3, 3), (1, 8, 8, 4), fusedActivationFunction=1)
    return b.finish(b.dense(b.reshape(x, 1, 256), CLASSES))


def picture(kind: str = "PNG", seed: int = 0) -> bytes:
    """A picture of the network's size."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def archive(files: dict[str, bytes]) -> bytes:
    """A zip file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return stream.getvalue()


def saved(**arrays: object) -> bytes:
    """An npz file."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def make_sources(folder: Path) -> Sources:
    """Make all of them; the build in a process of its own, so that this one starts no threads.

    A folder in which they were made before is used again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (24, 3, 8, 8)).astype(np.float32)
    y = rng.integers(0, CLASSES, 24)
    array = io.BytesIO()
    np.save(array, x)
    rows = [",".join(f"{v:.3f}" for v in (*sample.reshape(-1), label)) for sample, label in zip(x, y, strict=True)]
    files = {f"class{i % CLASSES}/{i}.png": picture(seed=i) for i in range(12)}
    (folder / "net.onnx").write_bytes(network().SerializeToString())
    (folder / "make.py").write_text(CALLABLE, encoding="utf-8")
    if not (folder / "build").is_dir():
        save = "import torch, make; torch.save(make.make().state_dict(), 'w.pt')"
        subprocess.run([sys.executable, "-c", save], cwd=folder, check=True)
        command = ["compile", "net.onnx", "--board", "pico", "--data", "random", *QUICK, "-o", "build"]
        tapc = [sys.executable, "-m", "tapc", *command]
        done = subprocess.run(tapc, cwd=folder, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return Sources(
        onnx=(folder / "net.onnx").read_bytes(),
        tflite=_tflite(),
        board=(Path(__file__).parents[2] / "boards" / "pico.toml").read_text(encoding="utf-8"),
        npz=saved(x=x, y=y),
        npy=array.getvalue(),
        csv="\n".join(rows) + "\n",
        archive=archive(files),
        picture=picture(),
        state=(folder / "w.pt").read_bytes(),
        build=folder / "build",
    )
