"""Loss tables: which configurations are drawn, figures by hand, files, and how a killed run goes on."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tapc import zoo
from tapc.base.errors import DataError, UsageError
from tapc.flow.losses import LossProvenance, LossRow, LossTable, Measured, load_losses, save_losses
from tapc.flow.losses import generate as builder
from tapc.flow.losses.draw import BUDGETS, SIZES, TOLERANCE, Drawn, choose, draw
from tapc.flow.losses.measure import Source, anomaly_agreement, compared, divergence, float_metric, prepare
from tapc.flow.losses.sounds import machine_sounds
from tapc.graph.network import Group, Layer, Network

SAMPLE = Path(zoo.__file__).parent / "samples" / "cifar10-sample.zip"


def network(parameters: tuple[int, ...] = (27, 90, 500, 1000, 40, 300, 210, 77)) -> Network:
    n = len(parameters)
    layers = tuple(Layer(f"l{i}", "dense", (p, 1), p, i, i + 1, i) for i, p in enumerate(parameters))
    return Network("small", layers, tuple(Group((f"t{i}",), i in (0, n)) for i in range(n + 1)))


def average(drawn: Drawn, of: Network) -> float:
    bits = [layer.parameters * int(w) for layer, w in zip(of.layers, drawn.weights, strict=True)]
    return sum(bits) / sum(layer.parameters for layer in of.layers)


def test_draws_are_different_repeatable_and_of_equal_size() -> None:
    small = network()
    drawn = draw(small, 200, 3)
    assert len({d.key for d in drawn}) == len(drawn) == 200
    assert drawn == draw(small, 200, 3)
    assert drawn[:150] == draw(small, 150, 3)
    assert drawn != draw(small, 200, 4)
    for d in drawn:
        assert set(d.weights) <= set("248")
        assert d.activations[0] == d.activations[-1] == "8"
        if d.kind == "size":
            assert d.size is not None
            assert d.size * (1 - TOLERANCE) - 1e-9 <= average(d, small) <= d.size + 1e-9
    random = [d for d in drawn if d.kind == "size"]
    for size in SIZES:
        own = [d.activations for d in random if d.size == size]
        # Many of one size, with 8-bit activations as well as with 4-bit ones: ranks within a size say something.
        assert len(own) >= 25
        assert sum("4" not in a for a in own) >= 9
        assert sum("8" not in a[1:-1] for a in own) >= 9
    assert {"22222222/844444448", "88888888/888888888", "88288888/888888888", "22222282/888888888"} <= {
        d.key for d in drawn
    }


def test_fewer_where_there_are_no_more() -> None:
    assert 6 < len(draw(network((10, 20)), 500, 0)) < 100


def test_chosen_are_the_best_under_the_budget_by_trying_all() -> None:
    small = network((27, 90, 500, 100, 40))
    names = [layer.name for layer in small.layers]
    rng = np.random.default_rng(0)
    distortion = {
        name: {(w, a): float(rng.uniform(0.5, 1)) * 16.0 ** (1 - w / 2) + (a == 4) for w in (2, 4, 8) for a in (4, 8)}
        for name in names
    }
    scores = {"p": rng.uniform(0.1, 3, len(names)).tolist()}
    alone = [sorted(rng.uniform(0, 1, 3).tolist(), reverse=True) for _ in names]
    found = choose(small, scores, distortion, alone)
    assert set(found) == {f"{p}@{b:g}" for b in BUDGETS for p in ("p", "alone")}

    def loss(weights: tuple[int, ...]) -> float:
        return sum(
            s * distortion[n][w, 4] / distortion[n][2, 8] for s, n, w in zip(scores["p"], names, weights, strict=True)
        )

    def measured(weights: tuple[int, ...]) -> float:
        # 4-bit inputs of all layers but the first, which reads the network's input.
        total = 0.0
        for i, (name, w) in enumerate(zip(names, weights, strict=True)):
            d = distortion[name]
            total += alone[i][(2, 4, 8).index(w)] + (i > 0) * (d[w, 4] - d[w, 8]) / d[2, 8] * alone[i][0]
        return total

    for budget in BUDGETS:
        drawn = found[f"p@{budget:g}"]
        assert drawn.activations == "844448"
        fitting = [
            w
            for w in itertools.product((2, 4, 8), repeat=len(names))
            if average(Drawn("chosen", budget, "".join(map(str, w)), ""), small) <= budget
        ]
        assert loss(tuple(map(int, drawn.weights))) == pytest.approx(min(map(loss, fitting)))
        by_losses = tuple(map(int, found[f"alone@{budget:g}"].weights))
        assert measured(by_losses) == pytest.approx(min(map(measured, fitting)))


def test_divergence_and_agreement_by_hand() -> None:
    exact, found = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.25, 0.75], [0.9, 0.1]])
    assert divergence(exact, found) == pytest.approx((0.5 * np.log(2) + 0.5 * np.log(2 / 3)) / 2)
    x = np.zeros((4, 2), np.float32)
    exact = np.array([[1, 0], [2, 0], [3, 0], [4, 0]], np.float32)
    # Ranks 1 2 3 4 against 2 1 3 4: 1 - 6 * 2 / 60.
    assert anomaly_agreement(x, exact, exact[[1, 0, 2, 3]]) == pytest.approx(0.8)
    assert anomaly_agreement(x, exact, x) == 0


def test_sounds_are_repeatable_and_like_spectra() -> None:
    sounds = machine_sounds(6, 1)
    assert sounds.shape == (6, 640)
    np.testing.assert_array_equal(sounds, machine_sounds(6, 1))
    assert not np.array_equal(sounds, machine_sounds(6, 2))
    frames = sounds.reshape(6, 5, 128)
    # Neighbouring frames of a steady machine are alike; its low bands are louder than its high ones.
    assert np.corrcoef(frames[:, 0].ravel(), frames[:, 1].ravel())[0, 1] > 0.8
    assert frames[..., :32].mean() > frames[..., -32:].mean() + 5


def row(weights: str, loss: float) -> LossRow:
    own = Measured(loss, 1 - loss, 2 * loss, loss / 2)
    return LossRow("size", 3.0, weights, "848", 3.0, 30.0, Measured(2 * loss, 0.5, None, None), own)


ALONE = {"gptq": ((0.3, 0.1, 0.0), (0.2, 0.05, 0.0))}


def table(rows: tuple[LossRow, ...]) -> LossTable:
    own = LossProvenance("by hand", "none", "m", "0" * 64, "d", "0" * 64, 1, 1, 1, 0, "top1", 1.0, "0", "0" * 64)
    return LossTable("tiny", own, (), (0, 2), (), {"uniform": (1.0, 1.0)}, ALONE, {"uniform@3": "24/848"}, rows)


def test_tables_are_written_and_read_back(tmp_path: Path) -> None:
    whole = table((row("24", 0.25), row("42", 0.5)))
    path = tmp_path / "tiny.json.gz"
    save_losses(whole, path)
    first = path.read_bytes()
    assert first[4:8] == bytes(4)  # no time
    assert load_losses(path) == whole
    save_losses(load_losses(path), path)
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.json.gz"]
    assert whole.row("42/848") == whole.rows[1]
    assert whole.row("44/848") is None
    assert whole.rows[0].by("nearest").loss == 2 * whole.rows[0].by("gptq").loss == 0.5
    path.write_bytes(first[:40])
    with pytest.raises(DataError, match="no loss table"):
        load_losses(path)
    with pytest.raises(UsageError, match="no network 'nothing' in the loss tables"):
        load_losses("nothing")


@pytest.mark.thorough
def test_a_killed_run_measures_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = [Drawn("uniform", None, bits * 10, "8" * 9) for bits in "84"]
    drawn.append(Drawn("uniform", None, "2" * 10, "8" + "4" * 7 + "8"))
    monkeypatch.setattr(builder, "draw", lambda network, count, seed: drawn)
    monkeypatch.setattr(builder, "choose", lambda network, scores, distortion, alone: {"uniform@2": drawn[2]})
    source = Source("resnet8", "resnet8", SAMPLE, 32, 16, 40)
    asked: list[str] = []
    measure = builder.measure
    monkeypatch.setattr(builder, "measure", lambda setup, d: (asked.append(d.key), measure(setup, d))[1])
    whole = builder.generate(source, count=3, folder=tmp_path, command="c")
    canary = "2482482482/844444448"
    assert asked == [canary, *(d.key for d in drawn)]
    eight, four, two = whole.rows
    for rounding in ("nearest", "gptq"):
        assert eight.by(rounding).loss < four.by(rounding).loss < two.by(rounding).loss
    assert two.gptq.loss < two.nearest.loss
    assert eight.average_bits == 8
    assert two.weight_bytes * 4 == eight.weight_bytes == sum(layer.parameters for layer in whole.layers)
    # Of a layer alone, more bits are never worse; gptq's loss of all layers at 2 bits is below that of nearest.
    assert all(two >= four >= eight >= 0 for own in whole.alone.values() for two, four, eight in own)
    assert sum(own[0] for own in whole.alone["gptq"]) < sum(own[0] for own in whole.alone["nearest"])
    assert whole.choices == {"uniform@2": drawn[2].key}
    assert whole.provenance.test_samples == 40
    assert len(whole.statistics) == len(whole.layers) == 10
    # Killed in the middle of the third line, and with a line of another network in the file.
    partial = tmp_path / "resnet8.jsonl"
    lines = partial.read_text().splitlines()
    partial.write_text("\n".join([json.dumps({"key": "other", "row": {}}), *lines[:2], lines[2][:50]]))
    asked.clear()
    assert builder.generate(source, count=3, folder=tmp_path, command="c") == whole
    assert asked == [canary, drawn[2].key]
    assert json.loads(partial.read_text().splitlines()[0])["key"] == "other"
    # Code that measures otherwise begins anew, and loses nothing of what was there.
    lines = partial.read_text().splitlines()
    monkeypatch.setattr(builder, "measure", lambda setup, d: replace(whole.rows[0], weights=d.weights))
    builder.generate(source, count=3, folder=tmp_path, command="c")
    assert partial.read_text().splitlines()[: len(lines)] == lines
    assert len(partial.read_text().splitlines()) == len(lines) + 3
    partial.write_text("[\n")
    with pytest.raises(UsageError, match="no partial results"):
        builder.opened(partial)


def test_the_float_networks_answers_in_place_of_labels() -> None:
    setup = prepare(Source("resnet8", "resnet8", SAMPLE, 16, 16, 40, answers=True))
    assert setup.metric == "agreement"
    assert float_metric(setup) == 1
    assert prepare(Source("resnet8", "resnet8", SAMPLE, 16, 16, 40)).data_sha256 != setup.data_sha256


def test_labels_that_are_no_classes_measure_what_they_can(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    weights = numpy_helper.from_array(np.eye(2, 3, dtype=np.float32).reshape(2, 3, 1, 1), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "conv")],
        "masks", [value("x", 1, (1, 3, 4, 4))], [value("y", 1, (1, 2, 4, 4))], [weights],
    )  # fmt: skip
    network_file, data = tmp_path / "masks.onnx", tmp_path / "masks.npz"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), network_file)
    x = np.random.default_rng(0).random((12, 3, 4, 4)).astype(np.float32)
    np.savez(data, x=x, y=(x[:, 1] > x[:, 0]).astype(np.int64))
    setup = prepare(Source("masks", str(network_file), data, 4, 4, 8))
    assert setup.metric == "miou"
    assert float_metric(setup) == 1.0
    found = compared(setup, -setup.exact)
    assert (found.metric, found.cross_entropy, found.divergence) == (0.0, None, None)
    assert found.loss > 1
