import numpy as np
import pytest
import scipy.stats

from graph_builder import Builder, everything, pooled, residual
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


def test_what_is_around_layers():
    _, _, table = table_of(residual(), (3, 12, 12))
    rows = {row["name"]: row for row in table}
    names = ("readers", "activation", "next_op", "output_pixels", "layers_behind", "width_before", "width_behind")
    assert {name: tuple(row[column] for column in names) for name, row in rows.items()} == {
        "stem": (2, "relu", "conv", 144, 2, 0, 16),  # the shortest way: b.short and fc
        "a1": (1, "relu", "conv", 144, 3, 8, 8),
        "a2": (1, "none", "conv", 144, 2, 8, 16),
        "b1": (1, "relu", "conv", 36, 2, 8, 16),
        "b2": (1, "none", "dense", 36, 1, 16, 5),
        "b.short": (1, "none", "dense", 36, 1, 8, 5),
        "fc": (0, "none", "none", 1, 0, 16, 0),
    }
    assert rows["b2"]["addition_share"] + rows["b.short"]["addition_share"] == pytest.approx(1)
    assert rows["a2"]["addition_share"] + rows["stem"]["addition_share"] == pytest.approx(1)
    assert rows["fc"]["addition_share"] == rows["b1"]["addition_share"] == rows["a2"]["activation_slope"] == 1
    assert rows["fc"]["downstream_gain"] == 1
    _, _, table = table_of(pooled(), (3, 14, 14))
    assert [(r["activation"], r["average_pooled"], r["max_pooled"]) for r in table] == [
        ("relu", 1, 4), ("relu", 1, 9), ("none", 1, 1)
    ]  # fmt: skip


def numbers(b, name, weights):
    return b.constant(name, np.array(weights, np.float32))


def test_an_error_on_its_way_worked_out_by_hand():
    b = Builder((1, 1, 1, 2))
    same = numbers(b, "w1", [[[[1.0]]], [[[1.0]]]])
    y = b.node("Relu", [b.node("Conv", ["x", same], "c1", kernel_shape=[1, 1])], "relu")
    both = b.node("Conv", [y, numbers(b, "w2", [[[[3.0]], [[1.0]]]])], "c2", kernel_shape=[1, 1])
    beside = b.node("Conv", ["x", numbers(b, "w3", [[[[2.0]]]])], "c3", kernel_shape=[1, 1])
    y = b.node("Add", [both, beside], "add")
    y = b.node("Flatten", [b.node("GlobalAveragePool", [y], "pool")], "flatten", axis=1)
    model = b.build(b.node("Gemm", [y, numbers(b, "w4", [[3.0], [4.0]])], "fc", transB=1))
    x = np.tile(np.array([1.0, -2.0], np.float32), (20, 1)).reshape(20, 1, 1, 2)
    network = analyse(model.onnx, "net")
    calibration = calibrate(model, x, seed=0)
    table = statistics(model, network, calibration, x, layer_distortion(model, network, calibration, x))
    check_table(table)
    rows = {row["name"]: row for row in table}
    # c1 gives (1, -2) in both channels, the Relu (1, 0), c2 (4, 0), c3 (2, -4), their sum (6, -4), its mean 1.
    assert rows["c1"]["activation_slope"] == 0.5
    assert rows["c2"]["addition_share"] == pytest.approx(16 / 36)
    assert rows["c3"]["addition_share"] == pytest.approx(20 / 36)
    # fc makes (3, 4) of 1, and of an error of 1 one of 9 + 16. An error of 52 / 2 per value, alike at both places,
    # stays as large behind the mean, where the signal is 1.
    pool = 52 / 2
    assert rows["c2"]["downstream_gain"] == pytest.approx(16 / 52 * pool)
    assert rows["c3"]["downstream_gain"] == pytest.approx(20 / 52 * pool)
    # The Relu passes half of an error of 10 onto 2 of signal; c2 makes of an error of 2 / 4 per value 10 x that, at two
    # places, onto 16.
    assert rows["c1"]["downstream_gain"] == pytest.approx((10 / 2 / 2) * (2 / 4 * 10 * 2 / 16) * 16 / 52 * pool)
    assert (rows["c1"]["average_pooled"], rows["c2"]["layers_behind"], rows["c1"]["layers_behind"]) == (1, 1, 2)


def test_pooling_and_smooth_functions_behind_a_layer():
    b = Builder((1, 1, 2, 2))
    y = b.node("Conv", ["x", numbers(b, "w1", [[[[1.0]]]])], "c1", kernel_shape=[1, 1])
    y = b.node("Sigmoid", [b.node("AveragePool", [y], "pool", kernel_shape=[2, 2])], "sigmoid")
    y = b.node("Flatten", [y], "flatten", axis=1)
    model = b.build(b.node("Gemm", [y, numbers(b, "w2", [[1.0], [1.0]])], "fc", transB=1))
    x = np.tile(np.array([1.0, 3.0, 2.0, 2.0], np.float32), (20, 1)).reshape(20, 1, 2, 2)
    network = analyse(model.onnx, "net")
    calibration = calibrate(model, x, seed=0)
    table = statistics(model, network, calibration, x, layer_distortion(model, network, calibration, x))
    assert (table[0]["activation"], table[0]["average_pooled"], table[0]["readers"]) == ("sigmoid", 4, 1)
    p = 1 / (1 + np.exp(-2.0))
    slope = p * (1 - p)
    assert table[0]["activation_slope"] == pytest.approx(slope**2, rel=0.01)
    # 18 / 4 of squares per value, before and behind the average of 2, whose square is 4; fc doubles both.
    assert table[0]["downstream_gain"] == pytest.approx(18 / 4 / 4 * slope**2 * 4 / p**2, rel=0.01)
