"""Training: better than where it starts from, on samples that it never saw; resumes; exports what it trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graph_builder import Model, everything, pair, residual
from tapc.base.errors import DataError
from tapc.base.options import Options
from tapc.base.ports import split
from tapc.base.progress import Stages
from tapc.data import Samples, overlap
from tapc.data.metrics import Metric
from tapc.finetune import Training, finetune, finetune_at_some_rate
from tapc.finetune.network import QuantizedGraph
from tapc.finetune.train import _Objective
from tapc.flow.inputs import load_data
from tapc.flow.pipeline import calibration_source, training_samples
from tapc.frontend import load
from tapc.graph.analysis import Graph, analyse
from tapc.lower import lower
from tapc.lower.codes import input_codes
from tapc.lower.reference import execute
from tapc.quantize import QuantizedModel, calibrate, evaluate, quantize
from tapc.quantize.model import uniform_bits
from tapc.quantize.runtime import Float

TRAINING = Training(epochs=3, batch=32, rate=0.005, augment=False)


def draw(model: Model, count: int, seed: int) -> Float:
    return np.random.default_rng(seed).normal(0, 1, (count, *Graph(model.onnx).shape("x")[1:])).astype(np.float32)


def rounded(model: Model, w_bits: int, a_bits: int) -> QuantizedModel:
    network = analyse(model.onnx, "net")
    x = draw(model, 64, 0)
    return quantize(model, network, uniform_bits(network, w_bits, a_bits), calibrate(model, x, seed=0), x=x)


def error(model: Model, quantized: QuantizedModel) -> float:
    fresh = draw(model, 128, 9)
    exact = evaluate(model.onnx, fresh, optimized=True)
    return float(np.square(evaluate(quantized.onnx, fresh, optimized=False) - exact).mean())


@pytest.mark.parametrize(("make", "w_bits", "a_bits"), [(residual, 2, 8), (everything, 2, 4), (residual, 8, 4)])
def test_the_start_is_the_quantized_network(make: type, w_bits: int, a_bits: int) -> None:
    model = make()
    quantized = rounded(model, w_bits, a_bits)
    student = QuantizedGraph(Graph(model.onnx), quantized)
    x = draw(model, 8, 1)
    with torch.no_grad():
        mine = student(torch.from_numpy(x), Graph(model.onnx).output)
    theirs = evaluate(quantized.onnx, x, optimized=False)
    step = quantized.activations[Graph(model.onnx).output].scale
    assert np.abs(mine.numpy().reshape(theirs.shape) - theirs).max() <= 2.01 * step
    layers, parameters = student.layers()
    for name, layer in layers.items():
        np.testing.assert_array_equal(layer.weights.values, quantized.layers[name].weights.values)
        np.testing.assert_allclose(layer.bias, quantized.layers[name].bias, atol=2, rtol=1e-5)
    assert {n: round(p.scale, 6) for n, p in parameters.items()} == {
        n: round(p.scale, 6) for n, p in quantized.activations.items()
    }


def test_training_helps_and_exports_what_it_trained() -> None:
    model = residual()
    quantized = rounded(model, 2, 8)
    samples = Samples(draw(model, 640, 2), None, "drawn")
    training = Training(epochs=16, batch=32, rate=0.001, augment=False)
    trained, before, after = finetune(model, quantized, samples, training)
    assert after < before
    assert error(model, trained) < 0.95 * error(model, quantized)
    assert set(trained.rounding.values()) == {"finetune"}
    assert trained.bits == quantized.bits
    program = lower(trained.onnx, "net", "float", "dsp").reference
    x = draw(model, 16, 3)
    y = program.tensors[program.output]
    codes = execute(program, input_codes(program, x)).reshape(len(x), -1)
    theirs = evaluate(trained.onnx, x, optimized=False).reshape(len(x), -1)
    assert np.abs((codes - y.zero) * y.scale - theirs).max() <= 1.01 * y.scale


def test_the_best_epoch_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against every epoch's state, computed again; its weights start out wrong, and half-way they are lost."""
    model = residual()
    quantized, graph = rounded(model, 2, 8), Graph(model.onnx)
    samples = Samples(draw(model, 60, 2), None, "drawn")
    states: list[dict[str, torch.Tensor]] = []
    students: list[QuantizedGraph] = []
    save = torch.save

    def keep(state: dict[str, Any], path: Path) -> None:
        states.append({name: value.clone() for name, value in state["student"].items()})
        save(state, path)

    def make(*arguments: Any) -> QuantizedGraph:
        students.append(QuantizedGraph(*arguments))
        scale(-1)
        return students[-1]

    def scale(factor: float) -> None:
        with torch.no_grad():
            for latent in students[0].latents:
                latent.mul_(factor)

    def disturb(done: int, total: int) -> None:
        if done == 1:
            scale(-1)
        elif done > total // 2:
            scale(0)

    monkeypatch.setattr(torch, "save", keep)
    monkeypatch.setattr("tapc.finetune.train.QuantizedGraph", make)
    training = Training(epochs=4, batch=19, rate=0.001, augment=False)
    trained, before, after = finetune(
        model, quantized, samples, training, checkpoint=tmp_path / "run.pt", advance=disturb
    )
    kept = samples.x[::20]
    goal = evaluate(model.onnx, kept, optimized=True)
    losses, again = [], []
    for state in states:
        student = QuantizedGraph(graph, quantized)
        student.load_state_dict(state)
        with torch.no_grad():
            losses.append(float(np.square(student(torch.from_numpy(kept), graph.output).numpy() - goal).mean()))
        again.append(student)
    assert len(losses) == 4
    best = int(np.argmin(losses))
    assert best < 2
    assert losses[best] < min(before, *losses[2:])
    assert after == pytest.approx(losses[best], rel=1e-4)
    for name, layer in again[best].layers()[0].items():
        np.testing.assert_array_equal(layer.weights.values, trained.layers[name].weights.values)


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    model = residual()
    quantized = rounded(model, 2, 8)
    samples = Samples(draw(model, 320, 2), None, "drawn")
    whole, _, loss = finetune(model, quantized, samples, TRAINING)
    checkpoint, calls = tmp_path / "run.pt", 0

    def stop(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if done == total - 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(model, quantized, samples, TRAINING, checkpoint=checkpoint, advance=stop)
    first, calls = calls, 0
    resumed, _, again = finetune(
        model, quantized, samples, TRAINING, checkpoint=checkpoint, advance=lambda done, total: stop(0, total)
    )
    assert calls < first
    assert again == loss
    assert resumed.onnx.SerializeToString(deterministic=True) == whole.onnx.SerializeToString(deterministic=True)


def test_a_checkpoint_of_other_settings_is_not_used(tmp_path: Path) -> None:
    model = residual()
    quantized = rounded(model, 2, 8)
    samples = Samples(draw(model, 320, 2), None, "drawn")
    checkpoint = tmp_path / "run.pt"
    other = Training(epochs=1, batch=32, rate=0.001, augment=False)
    finetune(model, quantized, samples, other, checkpoint=checkpoint)
    fresh, _, _ = finetune(model, quantized, samples, TRAINING, checkpoint=checkpoint)
    plain, _, _ = finetune(model, quantized, samples, TRAINING)
    assert fresh.onnx.SerializeToString(deterministic=True) == plain.onnx.SerializeToString(deterministic=True)


def test_what_does_not_help_is_not_taken() -> None:
    model = residual()
    quantized = rounded(model, 4, 8)
    samples = Samples(draw(model, 64, 2), None, "drawn")
    same, before, after = finetune(model, quantized, samples, Training(epochs=1, batch=8, rate=5.0, augment=False))
    assert same is quantized
    assert after >= before


@pytest.mark.thorough
def test_lower_rates_are_tried_while_training_does_not_help(tmp_path: Path) -> None:
    model = residual()
    quantized = rounded(model, 2, 8)
    samples = Samples(draw(model, 480, 2), None, "drawn")
    wild = Training(epochs=3, batch=32, rate=0.3, augment=False)
    found = finetune_at_some_rate(model, quantized, samples, wild, tmp_path / "wild", Stages())
    assert [rate for rate, _ in found.after] == pytest.approx([0.3, 0.12, 0.048])
    assert (found.rate, found.quantized) == (None, quantized)
    assert all(loss >= found.before for _, loss in found.after)
    high = Training(epochs=6, batch=32, rate=0.05, augment=False)
    found = finetune_at_some_rate(model, quantized, samples, high, tmp_path / "high", Stages())
    assert found.rate == found.after[-1][0] < 0.05
    assert found.after[-1][1] < found.before <= found.after[0][1]
    tame = Training(epochs=8, batch=32, rate=0.001, augment=False)
    found = finetune_at_some_rate(model, quantized, samples, tame, tmp_path / "tame", Stages())
    assert (found.rate, len(found.after)) == (0.001, 1)
    assert found.quantized is not quantized


def test_too_few_samples() -> None:
    model = residual()
    with pytest.raises(DataError, match="too few"):
        finetune(model, rounded(model, 4, 8), Samples(draw(model, 10, 2), None, "drawn"), TRAINING)


def test_training_samples_also_calibrate_where_nothing_else_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TAPC_DATA", raising=False)
    model = load("resnet8")
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    assert calibration_source(model, None, (first, second)) == first
    assert calibration_source(model, "random", (first,)) == "random"
    assert calibration_source(model, second, (first,)) == second
    assert calibration_source(model, None, ()) is None
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cifar10-original-subset.npz").touch()
    # The zoo's network knows its own data set.
    assert calibration_source(model, None, (first,)) is None


def test_all_samples_train_but_of_a_set_that_also_tests(tmp_path: Path) -> None:
    model = load("resnet8")
    rng = np.random.default_rng(0)
    files = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path in files:
        np.savez(path, x=rng.integers(0, 256, (1100, 3, 32, 32)).astype(np.uint8), y=rng.integers(0, 10, 1100))
    first, second = files
    found, warnings = training_samples(model, (first, second), first, Options())
    assert len(found.x) == 512 + 1100
    assert found.y is not None
    assert len(found.y) == len(found.x)
    assert [text.split(":")[0] for text in warnings] == ["a.npz"]
    assert not overlap(found, load_data(model, first, Options()).test)
    # With test samples of its own, or where something else tests, a set trains as a whole.
    for evaluated, options in ((first, Options(test_data=second)), (second, Options()), (None, Options())):
        found, warnings = training_samples(model, (first,), evaluated, options)
        assert (len(found.x), warnings) == (1100, ())


def test_only_classes_of_the_network_teach(tmp_path: Path) -> None:
    model = residual()
    objective = _Objective(Graph(model.onnx), Training())
    x, outputs = draw(model, 6, 0), objective.outputs
    assert objective.classes
    for y in (None, np.array([0.5] * 6, np.float32), np.ones((6, outputs), np.float32)):
        assert objective.labels(Samples(x, y, "drawn")) is None
    taught = objective.labels(Samples(x, np.arange(6) % outputs, "drawn"))
    assert taught is not None
    assert taught.tolist() == [i % outputs for i in range(6)]
    with pytest.raises(DataError, match=f"the network has {outputs} outputs"):
        objective.labels(Samples(x, np.full(6, outputs), "drawn"))


def test_labels_of_training_sets_are_classes_or_are_left_out(tmp_path: Path) -> None:
    model = load("resnet8")
    x = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(50) % 11)
    with pytest.raises(DataError, match="labels from 0 to 10"):
        training_samples(model, (tmp_path / "a.npz",), "random", Options(), Metric("top1", 10))
    found, _ = training_samples(model, (tmp_path / "a.npz",), "random", Options(), Metric("auc", 3072))
    assert found.y is None
    assert found.pictures


def test_several_inputs_and_outputs_are_trained_together() -> None:
    """The loss is the sum of relative errors: what one output gains, none of the others loses."""
    model = pair()
    x = np.random.default_rng(0).normal(0, 1, (400, 259)).astype(np.float32)
    network = analyse(model.onnx, "net")
    bits, calibration = uniform_bits(network, 2, 8), calibrate(model, x[:64], seed=0)
    quantized = quantize(model, network, bits, calibration, x=x[:64], bias_correction=False)
    training = Training(epochs=4, batch=32, rate=0.003, augment=False)
    trained, before, after = finetune(model, quantized, Samples(x, None, "drawn"), training)
    assert after < 0.8 * before
    fresh = np.random.default_rng(9).normal(0, 1, (128, 259)).astype(np.float32)
    graph = Graph(model.onnx)
    exact = split(graph.output_ports, evaluate(model.onnx, fresh, optimized=True))
    first, second = (
        {name: float(np.square(value - exact[name]).mean()) for name, value in found.items()}
        for found in (split(graph.output_ports, evaluate(m.onnx, fresh, optimized=False)) for m in (quantized, trained))
    )
    assert second["scores_out"] < 0.7 * first["scores_out"]
    assert all(second[name] < 1.2 * first[name] for name in graph.outputs)
