"""The tables that come with tapc: complete, without doubles, and true to what can be recomputed from their bits."""

import math
from pathlib import Path

import numpy as np
import pytest

from tapc.bench.configurations import BenchTable, load_table, save_table, table_names
from tapc.bench.configurations.table import DATA
from tapc.proxy.columns import COLUMNS

LIMIT = 150_000


@pytest.fixture(scope="module", params=["dscnn", "resnet8"])
def table(request: pytest.FixtureRequest) -> BenchTable:
    return load_table(request.param)


def test_both_networks_are_there_and_small() -> None:
    assert table_names() == ("dscnn", "resnet8")
    for name in table_names():
        assert (DATA / f"{name}.json").stat().st_size < LIMIT
        assert "/work" not in (DATA / f"{name}.json").read_text()


def test_written_again_a_table_is_the_same(table: BenchTable, tmp_path: Path) -> None:
    save_table(table, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (DATA / f"{table.network}.json").read_bytes()


def test_many_configurations_and_none_twice(table: BenchTable) -> None:
    keys = {row.key for row in table.configurations}
    assert len(keys) == len(table.configurations) >= 320
    assert sum(set(row.activations) == {"8"} for row in table.configurations) >= 200


def test_extremal_configurations_are_there(table: BenchTable) -> None:
    n = len(table.layers)
    weights = {row.weights for row in table.configurations if set(row.activations) == {"8"}}
    for bits in "248":
        assert bits * n in weights
    for i in range(n):
        for rest, own in (("8", "2"), ("8", "4"), ("2", "8")):
            assert rest * i + own + rest * (n - 1 - i) in weights
    assert any(set(row.activations) == {"4", "8"} for row in table.configurations)


def test_sizes_follow_from_the_bits(table: BenchTable) -> None:
    total = sum(layer.parameters for layer in table.layers)
    for row in table.configurations:
        assert len(row.weights) == len(table.layers)
        assert all(row.activations[i] == "8" for i in table.interface)
        weight_bits = sum(layer.parameters * int(b) for layer, b in zip(table.layers, row.weights, strict=True))
        assert row.weight_bytes == weight_bits / 8
        assert row.average_bits == pytest.approx(weight_bits / total, abs=1e-6)
        bops = sum(
            layer.macs * int(b) * int(row.activations[layer.input_group])
            for layer, b in zip(table.layers, row.weights, strict=True)
        )
        assert row.bops == bops
        # Constants hold the weights, but for dead channels; flash holds the constants and the code.
        assert row.constant_bytes < row.flash_bytes
        assert row.arena_bytes < row.ram_bytes
        assert 0 <= row.correct <= table.provenance.test_samples
        assert row.cross_entropy > 0


def test_sizes_are_spread_from_2_to_8_bits(table: BenchTable) -> None:
    counts, _ = np.histogram([row.average_bits for row in table.configurations], bins=12, range=(2, 8))
    assert counts.min() >= 15


def test_more_bits_take_more_flash_and_lose_less(table: BenchTable) -> None:
    n = len(table.layers)
    rows = {row.weights: row for row in table.configurations if set(row.activations) == {"8"}}
    two, four, eight = (rows[bits * n] for bits in "248")
    for name in ("weight_bytes", "constant_bytes", "flash_bytes", "bops"):
        assert getattr(two, name) < getattr(four, name) < getattr(eight, name)
    assert two.cross_entropy > four.cross_entropy > eight.cross_entropy
    assert abs(eight.correct - table.provenance.float_correct) <= table.provenance.test_samples * 0.02


def test_predictions_are_near_the_measurements(table: BenchTable) -> None:
    for row in table.configurations:
        assert row.flash_bytes_predicted == pytest.approx(row.flash_bytes, rel=0.1)
        assert row.instructions_predicted == pytest.approx(row.instructions, rel=0.1)
        # onnxruntime rounds in float where the firmware rounds integers.
        assert abs(row.correct - row.onnx_correct) <= table.provenance.test_samples * 0.03


def test_layers_are_complete(table: BenchTable) -> None:
    for layer in table.layers:
        assert set(layer.errors) == {"2", "4", "8"}
        assert layer.errors["2"] > layer.errors["4"] > layer.errors["8"] > 0
        assert set(layer.distortion) == {f"w{w}a{a}" for w in (2, 4, 8) for a in (4, 8)}
        assert layer.distortion["w2a8"] > layer.distortion["w4a8"] > layer.distortion["w8a8"] > 0
        assert layer.distortion["w8a4"] > layer.distortion["w8a8"]
    for name in ("uniform", "tap", "error"):
        scores = table.scores[name]
        assert len(scores) == len(table.layers)
        assert math.fsum(scores) / len(scores) == pytest.approx(1)


def test_statistics_have_every_column_of_the_current_version(table: BenchTable) -> None:
    assert table.statistics is not None
    assert [row["name"] for row in table.statistics] == [layer.name for layer in table.layers]
    for row in table.statistics:
        assert set(row) == {column.name for column in COLUMNS}
        for column in COLUMNS:
            cells = row[column.name] if isinstance(row[column.name], list) else [row[column.name]]
            assert column.text or all(column.low <= float(cell) <= column.high for cell in cells)


def test_the_provenance_names_everything(table: BenchTable) -> None:
    p = table.provenance
    assert len(p.model_sha256) == len(p.data_sha256) == 64
    assert p.test_samples >= 400
    assert p.calibration_samples >= 100
    assert "gcc" in p.compiler
    assert table.network in p.command
