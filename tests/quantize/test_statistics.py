import numpy as np
import pytest
import scipy.stats

from graph_builder import everything, residual
from tapc.graph.analysis import analyse
from tapc.proxy.columns import COLUMNS, check_table
from tapc.quantize import calibrate, layer_distortion
from tapc.quantize.runtime import evaluate
from tapc.quantize.statistics import statistics


def table_of(model, shape, seed=5):
    x = np.random.default_rng(seed).normal(0.3, 1, (20, *shape)).astype(np.float32)
    network = analyse(model.onnx, "net")
    calibration = calibrate(model, x, seed=0)
    return x, network, statistics(model, network, calibration, x, layer_distortion(model, network, calibration, x))


@pytest.mark.parametrize(("build", "shape"), [(residual, (3, 12, 12)), (everything, (4, 8, 8))])
def test_every_cell_is_within_its_range(build, shape):
    _, network, table = table_of(build(), shape)
    check_table(table)
    assert [row["name"] for row in table] == [layer.name for layer in network.layers]
    assert all(len(row) == len(COLUMNS) for row in table)


def test_the_architecture_is_what_it_is():
    _, _, table = table_of(residual(), (3, 12, 12))
    rows = {row["name"]: row for row in table}
    stem, b1, short, a2, fc = (rows[name] for name in ("stem", "b1", "b.short", "a2", "fc"))
    assert (stem["first"], stem["last"], fc["first"], fc["last"]) == (1, 0, 0, 1)
    assert (stem["depth"], fc["depth"]) == (0, 1)
    assert (b1["stride"], b1["kernel_h"], b1["in_channels"], b1["out_channels"]) == (2, 3, 8, 16)
    assert (b1["parameters"], b1["macs"]) == (8 * 16 * 9, 8 * 16 * 9 * 36)
    assert (short["kernel_w"], short["output_height"], short["output_size"]) == (1, 6, 16 * 36)
    assert (a2["residual"], a2["relu"], b1["residual"], b1["relu"]) == (1, 0, 0, 1)
    assert (fc["op"], fc["output_height"], fc["input_size"]) == ("dense", 1, 16)
    assert sum(row["parameter_share"] for row in table) == pytest.approx(1)
    assert sum(row["mac_share"] for row in table) == pytest.approx(1)


def test_statistics_equal_scipys_on_the_first_sixteen_samples():
    from onnx import numpy_helper

    model = residual()
    x, _, table = table_of(model, (3, 12, 12))
    row = table[0]
    weights = next(numpy_helper.to_array(t) for t in model.onnx.graph.initializer if t.name == "stem.weight")
    w = weights.astype(np.float64)
    assert row["weight_l1"] == pytest.approx(np.abs(w).sum())
    assert row["weight_l2"] == pytest.approx(np.sqrt((w**2).sum()))
    assert row["weight_kurtosis"] == pytest.approx(scipy.stats.kurtosis(w, axis=None, fisher=False))
    assert row["channel_weight_l2"] == pytest.approx([np.linalg.norm(channel) for channel in w])
    seen = x[:16].astype(np.float64)
    assert row["input_mean"] == pytest.approx(seen.mean())
    assert row["input_std"] == pytest.approx(seen.std())
    assert row["input_kurtosis"] == pytest.approx(scipy.stats.kurtosis(seen, axis=None, fisher=False))
    assert (row["input_min"], row["input_max"]) == (seen.min(), seen.max())
    last = evaluate(model.onnx, x[:16], optimized=False).astype(np.float64)
    assert table[-1]["output_std"] == pytest.approx(last.std(), rel=1e-5)
    assert table[-1]["channel_output_mean"] == pytest.approx(last.mean(axis=0), rel=1e-4, abs=1e-6)
