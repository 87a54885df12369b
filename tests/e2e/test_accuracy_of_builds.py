"""One build, several kinds of labels: report, eval and run name the metric and agree with numpy."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tapc
from tapc.base.errors import DataError
from tapc.base.progress import Stages
from tapc.data import load_samples
from tapc.flow.evaluation import evaluate_build
from tapc.flow.rerun import rerun

WEIGHTS = np.random.default_rng(0).normal(0, 1, (8, 1)).astype(np.float32)


def write(path: Path, x: np.ndarray, y: np.ndarray, name: str) -> Path:
    header = ",".join([*(f"f{i}" for i in range(8)), name])
    np.savetxt(path, np.hstack([x, y]), delimiter=",", header=header, comments="", fmt="%.9g")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(1)
    x = rng.normal(0, 1, (120, 8)).astype(np.float32)
    y = x @ WEIGHTS + rng.normal(0, 0.3, (120, 1))
    return {
        "targets": write(folder / "targets.csv", x, y, "target"),
        "classes": write(folder / "classes.csv", x, y > 0, "label"),
        "wrong": write(folder / "wrong.csv", x, y - y.min() + 0.5, "class_0"),
    }


@pytest.fixture(scope="module")
def result(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tapc.Result:
    folder = tmp_path_factory.mktemp("build")
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 8)),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 1))]  # fmt: skip
    weights = [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(np.zeros(1, np.float32), "b")]
    graph = helper.make_graph([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], "g", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "line.onnx")
    return tapc.compile(folder / "line.onnx", board="pico", data=data["targets"], output=folder / "b", wbits=(8,))


def test_targets_are_regression(result: tapc.Result, data: dict[str, Path]) -> None:
    accuracy = result.report.accuracy
    assert (accuracy.metric, accuracy.reason, accuracy.device) == ("regression", None, None)
    test = load_samples(data["targets"], (1, 8), pixel_scale=1.0, count=100, split="test")
    assert test.y is not None
    error = np.abs(test.x @ WEIGHTS - test.y[:, None]).mean()
    assert accuracy.scores["float"]["mae"] == pytest.approx(error, rel=1e-4)
    assert accuracy.scores["device"]["r2"] > 0.95
    assert accuracy.sqnr_db is not None
    assert accuracy.sqnr_db > 20
    assert result.report.inputs is not None
    assert result.report.inputs.kind == "floats"


def test_eval_and_run_name_what_they_measure(result: tapc.Result, data: dict[str, Path]) -> None:
    common = {"samples": 40, "seed": 0, "stages": Stages()}
    found = evaluate_build(result.output, data["classes"], everything=False, **common)  # type: ignore[arg-type]
    assert (found.metric, found.threshold) == ("binary", 0.0)
    test = load_samples(data["classes"], (1, 8), pixel_scale=1.0, count=40, split="test")
    assert test.y is not None
    right = 100 * np.mean(((test.x @ WEIGHTS)[:, 0] > 0) == test.y)
    assert found.executors[0].top1 == pytest.approx(right)
    assert all(item.scores["auc"] > 0.9 for item in found.executors)
    again = rerun(result.output, data=str(data["classes"]), all_layers=False, **common)  # type: ignore[arg-type]
    assert again.accuracy == pytest.approx(found.executors[2].top1)
    targets = rerun(result.output, data=str(data["targets"]), all_layers=False, **common)  # type: ignore[arg-type]
    assert (targets.metric, targets.accuracy, set(targets.scores)) == ("regression", None, {"mae", "mse", "r2"})
    with pytest.raises(DataError, match="needs labels 0 and 1"):
        rerun(result.output, data=str(data["wrong"]), all_layers=False, wanted="binary", **common)  # type: ignore[arg-type]
