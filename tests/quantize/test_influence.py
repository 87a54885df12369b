import numpy as np
import pytest

from graph_builder import Builder, residual, words
from tapc.graph.analysis import Graph, analyse
from tapc.proxy.columns import check_table
from tapc.quantize import calibrate, layer_distortion
from tapc.quantize.gains import gains
from tapc.quantize.problem import LayerProblem
from tapc.quantize.rounding import quick_method
from tapc.quantize.runtime import evaluate
from tapc.quantize.statistics import statistics


def table_of(model, x):
    network = analyse(model.onnx, "net")
    calibration = calibrate(model, x, seed=0)
    return {
        r["name"]: r
        for r in statistics(model, network, calibration, x, layer_distortion(model, network, calibration, x))
    }


def dense(weights):
    b = Builder((1, weights.shape[1]))
    return b.build(b.node("Gemm", ["x", b.constant("w", weights)], "fc", transB=1))


def test_an_error_of_the_logits_is_one_of_the_logits():
    rng = np.random.default_rng(0)
    row = table_of(dense(rng.normal(size=(5, 12)).astype(np.float32)), rng.normal(size=(16, 12)).astype(np.float32))[
        "fc"
    ]
    assert row["channel_logit_gain"] == pytest.approx([1.0] * 5, rel=1e-5)
    assert row["logit_gain"] == row["logit_gain_alike"] == pytest.approx(1, rel=1e-5)


def test_gains_behind_an_average_worked_out_by_hand():
    b = Builder((1, 2, 4, 4))
    rng = np.random.default_rng(1)
    w1 = b.constant("w1", rng.normal(size=(2, 2, 1, 1)).astype(np.float32))
    y = conv = b.node("Conv", ["x", w1], "c", kernel_shape=[1, 1])
    y = b.node("Flatten", [b.node("GlobalAveragePool", [y], "pool")], "flatten", axis=1)
    # Each output reads one channel, so that random signs give the squares exactly.
    model = b.build(
        b.node("Gemm", [y, b.constant("w2", np.array([[3.0, 0], [0, 4], [0, 2]], np.float32))], "fc", transB=1)
    )
    x = rng.normal(size=(16, 2, 4, 4)).astype(np.float32)
    logits = evaluate(model.onnx, x, optimized=False)
    spread = logits.var(axis=0).sum()
    found = gains(Graph(model.onnx), x, {conv: 1})[conv]
    # An error of 1 in one of 16 places is one of 1/16 behind the mean; channel 1 goes to outputs 1 and 2.
    assert found.alike[0] == pytest.approx(9 / spread, rel=1e-5)
    assert found.apart[0] == pytest.approx(9 / 16 / spread, rel=1e-5)
    assert found.alike[1] == pytest.approx(20 / spread, rel=0.4)  # of 128 pairs of signs
    assert found.apart[1] / found.alike[1] == pytest.approx(1 / 16, rel=1e-4)


def test_what_gptq_leaves_is_what_the_rounded_layer_does_with_other_samples():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(16, 6)).astype(np.float32) @ rng.normal(size=(6, 12)).astype(np.float32)
    w = rng.normal(size=(4, 12)).astype(np.float32)
    row = table_of(dense(w), x)["fc"]
    none = np.zeros(4)
    layer = analyse(dense(w).onnx, "net").layers[0]
    errors = np.zeros(4)
    for bits in (2, 4):
        errors[:] = 0
        for seen, kept in ((x[:8], x[8:]), (x[8:], x[:8])):
            problem = LayerProblem(layer, bits, w, none, none, seen, seen, None, target=seen @ w.T)
            rounded = quick_method("gptq").round(problem).dequantized()
            errors += (kept @ (rounded - w).T).var(axis=0) / 2
        relative = errors / (x @ w.T).var(axis=0).sum()
        assert row[f"channel_gptq_error_{bits}"] == pytest.approx(list(relative), rel=1e-3)
        assert row[f"gptq_error_{bits}"] == pytest.approx(relative.sum(), rel=1e-3)
    assert row["gptq_error_4"] < row["gptq_error_2"]


def test_few_samples_and_outputs_that_nothing_reaches():
    x = np.random.default_rng(3).normal(size=(1, 3, 12, 12)).astype(np.float32)
    model = residual()
    check_table(list(table_of(model, x).values()))
    assert gains(Graph(model.onnx), x, {}) == {}
    b = Builder((1, 4))
    unused = b.node("Gemm", ["x", b.constant("w0", np.ones((3, 4), np.float32))], "unused", transB=1)
    used = b.node("Gemm", ["x", b.constant("w1", np.ones((2, 4), np.float32))], "fc", transB=1)
    graph = Graph(b.build(used).onnx)
    assert set(gains(graph, np.ones((2, 4), np.float32), {unused: 1, used: 1})) == {used}


def test_tables():
    x = np.random.default_rng(4).integers(0, 23, (20, 1, 7, 1)).astype(np.float32)
    rows = table_of(words(), x)
    check_table(list(rows.values()))
    assert 0 < rows["embed"]["gptq_error_4"] < rows["embed"]["gptq_error_2"]
    assert rows["embed"]["logit_gain"] > 0
