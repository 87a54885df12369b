"""What prompts tell of candidates: figures of each network, misranked layers, what was tried."""

from types import SimpleNamespace

from search.test_evolve import Scripted, column, evolve, network  # noqa: F401
from tapc.search.candidate import Background
from tapc.search.feedback import SHOWN, describe, feedback, misranked, rivals, tried
from tapc.search.fitness import BudgetFigure, Fitness, NetworkFitness
from tapc.search.options import SearchOptions


def test_misranked_layers_by_hand():
    table = [{"name": name} for name in "abcde"]
    ground = SimpleNamespace(
        layer_names=[r["name"] for r in table], errors=dict(zip("abcde", (5, 4, 3, 2, 1), strict=True))
    )
    # ranks by error 1 2 3 4 5; by score 5, 2, 2, 2, 4
    lines = misranked(ground, [1.0, 7.0, 7.0, 7.0, 2.0])
    assert lines == [
        "a is scored too low: number 5 of 5 by score, 1 by measured error (5)",
        "d is scored too high: number 2 of 5 by score, 4 by measured error (2)",
        "c is scored too high: number 2 of 5 by score, 3 by measured error (3)",
    ]
    assert misranked(ground, [50.0, 40.0, 30.0, 20.0, 10.0]) == []


def test_networks_are_shown_in_numbers(network):  # noqa: F811
    shown = describe(network, SearchOptions())
    assert shown["header"] == ["layer", *SHOWN, "measured error"]
    assert {len(row) for row in shown["rows"]} == {len(shown["header"])}
    row = dict(zip(shown["header"], shown["rows"][0], strict=True))
    assert row["output_error_2"] == f"{network.table[0]['output_error_2']:.3g}"
    assert row["measured error"] == f"{network.errors['conv1']:.3g}"
    hidden = describe(network, SearchOptions(inputs="metadata"))["header"]
    assert "readers" in hidden
    assert "output_error_2" not in hidden


def test_candidates_are_told_per_network_and_what_failed(network, tmp_path):  # noqa: F811
    names = ("parameters", "macs", "weight_l2", "input_std", "kernel_h", "output_size", "weight_max", "output_std")
    generator = Scripted(*(column(name, power) for power in (1, 0.5, 2) for name in names))
    evolution, _ = evolve(network, tmp_path, generator, generations=2, population=8)
    best = evolution.best
    told = feedback(best, [network])
    (one,) = told["networks"]
    assert one["figures"]["rho"] == f"{best.judged.rho:.3f}"
    assert one["figures"]["accuracy"] == f"{best.judged.accuracy:.3f}"
    first = best.judged.networks[0].budgets[0]
    assert one["budgets"][0] == f"at 2.25 bits {first.weights} loses {first.loss:.3g} (least measured {first.best:.3g})"
    assert [line.split()[1] for line in one["budgets"]] == ["2.25", "2.5", "2.75", "3"]
    fitness = {c.key: c.fitness for c in evolution.candidates}
    backgrounds = dict(generator.backgrounds)
    assert backgrounds["g0s0"].population == backgrounds["g1s0"].tried == ()
    for key, background in generator.backgrounds:
        alive = {c.key for c in background.population}
        for child, parent in background.tried:
            assert child.key[:2] < key[:2]
            assert child.key not in alive
            assert parent == max(fitness[name] for name in child.parents if fitness[name] is not None)
            assert child.fitness <= parent
    assert any(background.tried for background in backgrounds.values())
    assert all(line["loss"] >= 0 and line["name"] for line in tried(backgrounds["g2s0"]))


def test_rivals_come_before_the_ceiling():
    one = NetworkFitness("net", 0.5, 0.75, 0.25, (BudgetFigure(2.5, "24", 0.25, 0.125, 0.9),))
    fitness = Fitness(0.7, 0.5, 0.75, 0.0, (one,))
    baselines = {"error": fitness, "ompq": fitness, "uniform": fitness, "hawq_v2": None, "(layers alone)": fitness}
    found = rivals(baselines)
    assert [(r["name"], r["ceiling"]) for r in found] == [("uniform", False), ("error", True), ("(layers alone)", True)]
    assert found[0]["networks"][0]["figures"] == {"rho": "0.500", "accuracy": "0.750", "cost": "0.250"}
    assert found[0]["networks"][0]["budgets"] == ["at 2.5 bits 24 loses 0.25 (least measured 0.125)"]
    assert tried(Background()) == []
