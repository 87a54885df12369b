import itertools
from dataclasses import replace

import numpy as np
import pytest

from graph_builder import residual
from tapc.allocate import AllocationProblem, Budgets, Choice, GroupChoices, LayerChoices, solve
from tapc.base.errors import DataError
from tapc.base.options import Options
from tapc.flow.decide import Evidence, decide, relative_distortion, with_losses, with_scores
from tapc.graph.analysis import analyse
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.quantize import calibrate

DISTORTION = {
    "a": {(2, 8): 0.5, (4, 8): 0.05, (8, 8): 0.0, (2, 4): 0.75},
    "b": {(2, 8): 0.2, (4, 8): 0.01, (8, 8): 0.001, (2, 4): 0.1},
    "c": {(2, 8): 0.0, (4, 8): 0.0, (8, 8): 0.0, (2, 4): 0.3},
}


def problem(target_bits=None):
    relative = relative_distortion(DISTORTION, 2)
    layers = tuple(
        LayerChoices(name, 0, n, tuple(Choice(w, 8, relative[name][w, 8], n * w, 1.0, n * w) for w in (2, 4, 8)))
        for name, n in (("a", 10), ("b", 30), ("c", 20))
    )
    return AllocationProblem(layers, (GroupChoices(True, (8,)),), Budgets(target_bits=target_bits))


def test_the_score_is_the_loss_at_the_lowest_bits():
    scored = with_scores(problem(), {"a": 3.0, "b": 7.0, "c": 1.0})
    assert [layer.choices[0].loss for layer in scored.layers] == [3.0, 7.0, 0.0]
    assert scored.layers[0].choices[1].loss == pytest.approx(0.3)


def test_distortion_is_relative_to_the_lowest_weight_bits_and_wide_activations():
    assert relative_distortion(DISTORTION, 2)["a"][2, 4] == pytest.approx(1.5)
    assert relative_distortion(DISTORTION, 4)["b"] == pytest.approx({(2, 8): 20, (4, 8): 1, (8, 8): 0.1, (2, 4): 10})
    assert set(relative_distortion(DISTORTION, 2)["c"].values()) == {0.0}


@pytest.mark.parametrize("scores", [{"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 0.1, "b": 9.0, "c": 4.0}])
def test_solved_bits_are_the_best_of_all(scores):
    scored = with_scores(problem(target_bits=4), scores)
    best = min(
        (sum(c.loss for c in choices), sum(c.flash_bytes for c in choices))
        for choices in itertools.product(*(layer.choices for layer in scored.layers))
        if sum(layer.parameters * c.w_bits for layer, c in zip(scored.layers, choices, strict=True)) <= 240
    )
    found = solve(scored)
    assert (found.objective, found.used["flash"].used) == pytest.approx(best)


def test_measured_losses_replace_predicted_ones():
    losses = {name: {2: 4.0, 4: 1.0, 8: 0.5} for name in "abc"}
    measured = with_losses(problem(), losses)
    assert [[choice.loss for choice in layer.choices] for layer in measured.layers] == [[4.0, 1.0, 0.5]] * 3
    narrow = Choice(2, 4, 1.5, 20, 1.0, 80)
    first = problem().layers[0]
    groups = (GroupChoices(False, (4, 8)),)
    joined = replace(problem(), layers=(replace(first, choices=(*first.choices, narrow)),), groups=groups)
    # 4-bit activations add half of the relative loss at 2-bit weights: half of 4.
    assert with_losses(joined, losses).layers[0].choices[-1].loss == pytest.approx(6.0)


def test_a_layer_without_a_score_is_named():
    with pytest.raises(DataError, match="'c' has no score"):
        with_scores(problem(), {"a": 1.0, "b": 1.0})


def test_many_layers_are_solved_like_the_integer_program():
    """Listing assignments must agree with HiGHS where the relaxation is far from the optimum."""
    from random import Random

    from tapc.allocate.engine import Engine
    from tapc.allocate.listing import best_listed

    listed = 0
    for seed in range(40):
        random = Random(seed)
        layers = tuple(
            LayerChoices(f"l{i}", 0, size, tuple(
                Choice(w, 8, score * d, size * w, 1.0, size * w)
                for w, d in ((2, 1.0), (4, random.uniform(0.01, 0.6)), (8, 0.001))
            ))
            for i in range(9) for size, score in [(random.choice([7, 90, 400, 1100]), random.random())]
        )  # fmt: skip
        stated = AllocationProblem(layers, (GroupChoices(True, (8,)),), Budgets(target_bits=random.uniform(2.1, 5)))
        engine = Engine(stated, 60.0)
        found, exact = best_listed(engine, engine.limits()), engine.minimize("loss", engine.limits())
        listed += found is not None
        assert found is None or found.value == pytest.approx(exact.value, rel=1e-9)
    assert listed > 30


def test_one_width_for_all_needs_no_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither scores nor distortions are measured, and the bits are those asked for."""
    model = residual()
    shape = [d.dim_value for d in model.onnx.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).normal(size=(16, *shape[1:])).astype(np.float32)
    network = analyse(model.onnx, "net")
    monkeypatch.setattr("tapc.flow.decide.layer_distortion", None)
    options = Options(wbits=(4,))
    evidence = Evidence(model, network, calibrate(model, x, seed=0), x, options)
    decision = decide(evidence, load_board("stm32h7"), load_target("cortex-m7"), options)
    assert set(decision.allocation.bits.weights.values()) == {4}
    assert decision.sensitivity == {}
    assert decision.specs


def test_scores_are_raised_to_the_exponent() -> None:
    model = residual()
    shape = [d.dim_value for d in model.onnx.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).normal(size=(16, *shape[1:])).astype(np.float32)
    network, calibration = analyse(model.onnx, "net"), calibrate(model, x, seed=0)

    def losses(exponent: float) -> dict[str, float]:
        options = Options(proxy="weight_norm", score_exponent=exponent, target_bits=4.0)
        evidence = Evidence(model, network, calibration, x, options)
        problem = decide(evidence, load_board("stm32h7"), load_target("cortex-m7"), options).problem
        assert problem is not None
        return {layer.name: layer.choices[0].loss for layer in problem.layers}

    scores = losses(1.0)
    assert len(set(scores.values())) == len(scores) > 2
    assert losses(0.5) == pytest.approx({layer: score**0.5 for layer, score in scores.items()})
    assert set(losses(0.0).values()) == {1.0}
