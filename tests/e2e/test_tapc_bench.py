"""Two configurations of tapc-bench measured again: the figures of the table."""

from pathlib import Path

import pytest

from tapc.bench.configurations import load_table
from tapc.bench.configurations.draw import Configuration
from tapc.bench.configurations.generate import row_of
from tapc.bench.configurations.layers import layer_facts
from tapc.bench.configurations.measure import Setup, Source, file_digest, prepare
from tapc.firmware.toolchain import compiler_version
from thorough import thorough


@pytest.fixture(scope="module")
def setup(shared_data: Path) -> Setup:
    table = load_table("resnet8")
    p = table.provenance
    data = shared_data / p.data
    if not data.is_file() or file_digest(data) != p.data_sha256:
        pytest.skip(f"needs {p.data} with the digest that the table names")
    return prepare(Source("resnet8", p.model, data, p.calibration_samples, p.seed, p.board))


# Of a main that ran once on zeros, and of memset: when the tables were measured they were counted.
MAIN = {"flash_bytes": 200, "ram_bytes": 4}


@pytest.mark.parametrize("narrow", [thorough(False), True])
def test_a_configuration_measured_again(setup: Setup, narrow: bool) -> None:
    table = load_table("resnet8")
    # The one nearest to 4 bits of those drawn at random.
    random = [row for row in table.configurations if row.kind == "random" and ("4" in row.activations) == narrow]
    stored = min(random, key=lambda row: abs(row.average_bits - 4))
    bits = [tuple(map(int, text)) for text in (stored.weights, stored.activations)]
    again = row_of(setup, Configuration("random", bits[0], bits[1]))
    expected = stored.model_dump()
    expected["flash_bytes"] -= MAIN["flash_bytes"]
    expected["ram_bytes"] -= MAIN["ram_bytes"]
    # What the cost model said then: its coefficients are fitted anew now and then.
    for name in ("flash_bytes", "instructions"):
        assert again.pop(f"{name}_predicted") == pytest.approx(expected.pop(f"{name}_predicted"), rel=0.05)
    # The float network and bias correction run in onnxruntime, whose last digit is the processor's.
    assert again.pop("cross_entropy") == pytest.approx(expected.pop("cross_entropy"), rel=1e-3)
    assert abs(again.pop("onnx_correct") - expected.pop("onnx_correct")) <= 2
    # Kernels have become better since: what they take may only fall, and by little.
    for name, least, most in (("instructions", 0.96, 1.0), ("flash_bytes", 0.98, 1.0), ("ram_bytes", 0.99, 1.001)):
        now, then = again.pop(name), expected.pop(name)
        if compiler_version() == table.provenance.compiler:
            assert least * then <= now <= most * then, name
    assert again == expected


def test_layers_measured_again(setup: Setup) -> None:
    table = load_table("resnet8")
    again = layer_facts(setup, table)
    for layer, stored in zip(again.layers, table.layers, strict=True):
        # Of 8 bits they are so small that the processor's last digits show.
        assert layer.errors == pytest.approx(stored.errors, rel=2e-2)
        assert layer.distortion == pytest.approx(stored.distortion, rel=1e-2)
    # Fails where a built-in proxy or the statistics have changed: examples/make_tapc_bench.py NAME --refresh-layers.
    assert set(again.scores) == set(table.scores)
    for name, scores in again.scores.items():
        assert scores == pytest.approx(table.scores[name], rel=1e-2)
    assert (again.statistics is None) == (table.statistics is None)
