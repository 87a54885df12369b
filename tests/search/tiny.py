"""Networks that take milliseconds, with labels that are their own answers: for searches in tests."""

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from graph_builder import residual
from tapc.data import Samples
from tapc.flow.losses import LossProvenance, LossRow, LossTable, Measured, load_losses
from tapc.flow.losses.draw import Drawn, draw
from tapc.flow.losses.facts import LayerFacts
from tapc.flow.losses.measure import Setup, Source, setup_of
from tapc.flow.losses.ranking import Ranking, predicted_loss
from tapc.frontend import load
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.quantize import evaluate, layer_distortion
from tapc.quantize.statistics import statistics
from tapc.search.networks import SearchNetwork, on_device
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


def tiny_setup(folder: Path, seed: int = 0) -> Setup:
    model, data = tiny_files(folder, seed)
    return setup_of(Source("tiny", str(model), data, 64, 32, 40, seed=0), load(str(model), keep=False))


def facts(setup: Setup) -> tuple[LayerFacts, ...]:
    """Return the layers, whose single errors are made up."""
    distortion = layer_distortion(setup.model, setup.network, setup.calibration, setup.samples.x)
    return tuple(
        LayerFacts(
            name=layer.name, op=layer.op, parameters=layer.parameters, macs=layer.macs, input_group=layer.input_group,
            errors={"2": 0.1 + i % 3, "4": 0.01, "8": 0.0},
            distortion={f"w{w}a{a}": value for (w, a), value in distortion[layer.name].items()},
        )
        for i, layer in enumerate(setup.network.layers)
    )  # fmt: skip


def made_row(layers: tuple[LayerFacts, ...], drawn: Drawn) -> LossRow:
    """Return a configuration whose loss follows from scores 1, 2, 3, ... and some noise."""
    (predicted,) = predicted_loss(layers, [float(i + 1) for i in range(len(layers))], [drawn])
    loss = float(predicted) / 100 * (0.8 + 0.4 * zlib.crc32(drawn.key.encode()) / 2**32)
    parameters = [layer.parameters for layer in layers]
    average = sum(p * int(b) for p, b in zip(parameters, drawn.weights, strict=True)) / sum(parameters)
    nearest, gptq = (Measured(loss * k, max(0.0, 1 - loss), None, None) for k in (2, 1))
    return LossRow(drawn.kind, drawn.size, drawn.weights, drawn.activations, round(average, 6), 0.0, nearest, gptq)


def tiny_table(setup: Setup, name: str = "tiny") -> LossTable:
    """Return a loss table of the network with losses that were never measured."""
    layers, x = facts(setup), setup.samples.x
    distortion = layer_distortion(setup.model, setup.network, setup.calibration, x)
    table = statistics(setup.model, setup.network, setup.calibration, x, distortion)
    about = LossProvenance(
        "made up", "none", "tiny.onnx", setup.model_sha256, "tiny.npz", "0" * 64, 64, 32, 40, 0, "top1", 1.0, "0", "0"
    )
    n = len(layers)
    scores = {"uniform": (1.0,) * n, "sqnr": tuple(float(n - i) for i in range(n)), "error": (2.0,) * (n - 1) + (1.0,)}
    alone = {rounding: tuple((i + 1.0, 0.1, 0.0) for i in range(n)) for rounding in ("nearest", "gptq")}
    interface = tuple(i for i, group in enumerate(setup.network.groups) if group.interface)
    rows = tuple(made_row(layers, drawn) for drawn in draw(setup.network, 90, 0))
    return LossTable(name, about, layers, interface, tuple(dict(row) for row in table), scores, alone, {}, rows)


def device_network(folder: Path, options: SearchOptions, board: str = "stm32h7") -> SearchNetwork:
    """Return the tiny network with what the device needs."""
    setup = tiny_setup(folder)
    table, silicon = tiny_table(setup), load_board(board)
    device = on_device(setup, table, silicon, load_target(silicon.core), options)
    return SearchNetwork(Ranking(table, options.rounding), device)


def shipped_network(options: SearchOptions | None = None) -> SearchNetwork:
    """Return ResNet-8 with the configurations that come with tapc."""
    return SearchNetwork(Ranking(load_losses("resnet8"), (options or SearchOptions()).rounding))


def narrowed(table: LossTable, name: str, content: str, step: int) -> LossTable:
    """Return a table of another name and content, with every step-th random configuration left out."""
    rows = tuple(row for i, row in enumerate(table.rows) if row.kind != "size" or i % step)
    provenance = replace(table.provenance, model_sha256=content)
    return replace(table, network=name, provenance=provenance, rows=rows)
