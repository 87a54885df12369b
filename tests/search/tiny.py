"""A network that takes milliseconds, with labels that are its own answers: for searches in tests."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from graph_builder import residual
from tapc.data import Samples
from tapc.frontend import load
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.quantize import evaluate
from tapc.search.networks import SearchNetwork, prepare
from tapc.search.options import SearchOptions


def tiny_samples(model: onnx.ModelProto, count: int, seed: int) -> Samples:
    x = np.random.default_rng(seed).normal(0, 1, (count, 3, 12, 12)).astype(np.float32)
    y = evaluate(model, x, optimized=True).reshape(count, -1).argmax(axis=1)
    return Samples(x, y.astype(np.int64), f"seed {seed}")


def tiny_files(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """Write tiny.onnx and samples as tiny.npz; return their paths."""
    model = residual(seed).onnx
    onnx.save(model, folder / "tiny.onnx")
    train, test = tiny_samples(model, 300, 1), tiny_samples(model, 40, 2)
    np.savez(folder / "tiny.npz", train_x=train.x, train_y=train.y, test_x=test.x, test_y=test.y)
    return folder / "tiny.onnx", folder / "tiny.npz"


def tiny_network(folder: Path, options: SearchOptions, board: str = "stm32h7", seed: int = 0) -> SearchNetwork:
    path, _ = tiny_files(folder, seed)
    model = replace(load(str(path)), run=None)
    silicon = load_board(board)
    samples, holdout = tiny_samples(model.onnx, 64, 1), tiny_samples(model.onnx, 96, 3)
    return prepare(model, samples, holdout, silicon, load_target(silicon.core), options)
