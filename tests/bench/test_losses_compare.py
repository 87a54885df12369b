"""Proxies on loss tables, against scipy and against figures by hand."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import kendalltau, spearmanr

from bench.tables import layer
from tapc.base.errors import DataError
from tapc.bench.compare import compare
from tapc.cli import main
from tapc.flow.losses import LossProvenance, LossRow, LossTable, Measured, save_losses
from tapc.flow.losses.ranking import MEASURED, alone_loss, groups_of

N = 6
LAYERS = tuple(layer(f"l{i}", 100, i, 1.0, 0.64, 0.04, 0.0) for i in range(N))
PROVENANCE = LossProvenance("by hand", "none", "m", "0" * 64, "d", "0" * 64, 1, 1, 9, 0, "top1", 1.0, "0", "0" * 64)
NARROW = "8" + "4" * (N - 1) + "8"
TRUE = (3.0, 1.0, 2.0, 0.5, 4.0, 1.5)
SCORES = {
    "uniform": (1.0,) * N, "true": TRUE, "twice": tuple(2 * s for s in TRUE), "wrong": tuple(1 / s for s in TRUE),
    "half": (3.0, 1.0, 2.0, 1.0, 1.0, 1.0), "sqnr": (3.0, 1.0, 2.0, 1.0, 1.0, 1.0),
}  # fmt: skip


def loss(weights: str, scores: tuple[float, ...] = TRUE) -> float:
    """Return the sum that tables predict, by hand: 4 bits leave a sixteenth of the error at 2 bits."""
    return sum(s * {"2": 1.0, "4": 0.0625, "8": 0.0}[w] for s, w in zip(scores, weights, strict=True))


def row(weights: str, activations: str, measured: float) -> LossRow:
    bits = sum(map(int, weights)) / N
    gptq, nearest = Measured(measured, 0.5, None, None), Measured(-measured, 0.5, None, None)
    return LossRow("size", bits, weights, activations, round(bits, 6), 75 * bits, nearest, gptq)


def table(name: str = "tiny", shift: float = 0.0) -> LossTable:
    """Return all configurations of 2 and 4 bits with an average of 3 or 4, and some of another size."""
    rows = []
    for activations in ("8" * (N + 1), NARROW):
        for bits in itertools.product("248", repeat=N):
            weights = "".join(bits)
            if sum(map(int, weights)) in (18, 24):
                rows.append(row(weights, activations, round(loss(weights) + shift, 9)))
    rows.append(row("888888", NARROW, 0.0))
    return LossTable(name, PROVENANCE, LAYERS, (0, N), ({"name": "l0"},), dict(SCORES), {}, {}, tuple(rows))


def test_groups_have_one_size_and_one_kind_of_activations() -> None:
    whole = table()
    mixed = [row("444222", f"8{'4' * n}{'8' * (N - n)}", 1.0) for n in range(1, N - 1)]
    assert len(mixed) == 4
    rows = (*whole.rows, *mixed)
    groups = groups_of(replace(whole, rows=rows))
    kinds = [{(r.average_bits, r.activations) for i in group for r in [rows[i]]} for group in groups]
    # Four mixtures are too few for a group.
    assert kinds == [{(3.0, NARROW)}, {(3.0, "8888888")}, {(4.0, NARROW)}, {(4.0, "8888888")}]
    assert [len(group) for group in groups[:2]] == [26, 26]
    rows = (*rows, row("422442", "8848888", 1.0))
    assert {len(g) for g in groups_of(replace(whole, rows=rows))} >= {5, 26}


def test_correlations_are_means_of_groups_and_differences_are_paired() -> None:
    whole = table()
    figures = {f.proxy: f for f in compare([whole], {p: {"tiny": s} for p, s in SCORES.items()}, 0, resamples=200)}
    assert figures["true"].spearman.value == pytest.approx(1)
    assert figures["true"].kendall.value == pytest.approx(1)
    assert figures["true"].configurations == len(whole.rows) - 1
    groups = groups_of(whole)
    for name in ("half", "wrong", "uniform"):
        pairs = [
            [[loss(whole.rows[i].weights, SCORES[name]) for i in g], [whole.rows[i].gptq.loss for i in g]]
            for g in groups
        ]
        # Sums of the same terms in another order are ties.
        pairs = [[np.round(p, 9).tolist(), m] for p, m in pairs]
        spearman, kendall = (float(np.mean([of(p, m).statistic for p, m in pairs])) for of in (spearmanr, kendalltau))
        assert figures[name].spearman.value == pytest.approx(spearman)
        assert figures[name].kendall.value == pytest.approx(kendall)
    assert figures["twice"].over["uniform"] == figures["true"].over["uniform"]
    assert "uniform" not in figures["uniform"].over
    same = figures["half"].over["sqnr"]
    assert (same.low, same.value, same.high) == (0, 0, 0)
    own = figures["half"].over["uniform"]
    assert own.value == pytest.approx(figures["half"].spearman.value - figures["uniform"].spearman.value)
    assert own.low < own.value < own.high
    # The difference of two correlations over the same resamples is steadier than either.
    separate = figures["half"].spearman.high - figures["half"].spearman.low
    separate += figures["uniform"].spearman.high - figures["uniform"].spearman.low
    assert own.high - own.low < separate
    assert figures["wrong"].spearman.value < 0


def test_a_program_is_compared_with_the_best_made_by_hand_that_measures_nothing() -> None:
    by_hand = {"uniform": SCORES["uniform"], "near": (3.0, 1.0, 2.0, 0.5, 2.5, 1.5), "error": TRUE}
    scores = {p: {"tiny": s} for p, s in by_hand.items()} | {"program": {"tiny": SCORES["twice"]}}
    figures = {f.proxy: f for f in compare([replace(table(), scores=by_hand)], scores, 0, resamples=50)}
    assert {f.best for f in figures.values()} == {"near"}
    gain = figures["program"].over["near"]
    assert gain.value == pytest.approx(1 - figures["near"].spearman.value)
    assert gain.low > 0
    assert all("near" not in figures[name].over for name in by_hand)


def test_the_other_rounding_is_compared_on_request() -> None:
    (figure,) = compare([table()], {"true": {"tiny": TRUE}}, 0, rounding="nearest", resamples=20)
    assert figure.spearman.value == pytest.approx(-1)


def test_regret_by_hand() -> None:
    figures = {f.proxy: f for f in compare([table()], {p: {"tiny": s} for p, s in SCORES.items()}, 0, resamples=20)}
    # Of 2.25 .. 3 bits only 3 has configurations. The best by trying all: 4 bits where the score is highest.
    (true,) = figures["true"].regrets
    assert true.budget == 3
    assert true.loss == true.best == min(r.gptq.loss for r in table().rows if r.average_bits == 3)
    assert figures["true"].regret == 0
    (wrong,) = figures["wrong"].regrets
    candidates = [w for w in map("".join, itertools.product("248", repeat=N)) if sum(map(int, w)) == 18]

    def predicted(weights: str) -> float:
        # 4-bit inputs of all layers but the first, which reads the network's input, add 0.5 of 0.64.
        return loss(weights, SCORES["wrong"])

    picked = min(candidates, key=predicted)
    assert wrong.key == f"{picked}/{NARROW}"
    assert figures["wrong"].regret == pytest.approx(loss(picked) - min(map(loss, candidates)))
    assert figures["wrong"].regret > 1


def test_losses_of_layers_alone_are_added() -> None:
    alone = tuple((s, s / 16, 0.0) for s in TRUE)
    whole = replace(table(), alone={"gptq": alone})
    figures = {f.proxy: f for f in compare([whole], {"half": {"tiny": SCORES["half"]}}, 0, resamples=20)}
    assert set(figures) == {"half", MEASURED}
    assert figures[MEASURED].spearman.value == pytest.approx(1)
    found = alone_loss(whole, "gptq")
    for i in (0, len(whole.rows) - 2):
        at = whole.rows[i]
        # A 4-bit input adds 0.5 of 0.64 of the loss at 2 bits, to all layers but the first.
        expected = loss(at.weights) + ("4" in at.activations) * sum(TRUE[1:]) * 0.5 / 0.64
        assert found[i] == pytest.approx(expected)
    (nearest,) = compare([whole], {"half": {"tiny": SCORES["half"]}}, 0, rounding="nearest", resamples=20)
    assert nearest.proxy == "half"


def test_what_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="'p' has no scores for 'tiny'"):
        compare([table()], {"p": {}}, 0)
    with pytest.raises(DataError, match="'p' on tiny: 1 scores for 6 layers"):
        compare([table()], {"p": {"tiny": [1.0]}}, 0)
    with pytest.raises(DataError, match="no 5 configurations have one size"):
        compare([replace(table(), rows=table().rows[:3])], {"p": {"tiny": TRUE}}, 0)


def test_command(tmp_path: Path) -> None:
    for name in ("tiny", "other"):
        save_losses(table(name), tmp_path / f"{name}.json.gz")
    program = tmp_path / "constant.py"
    program.write_text('"""One."""\n\n\ndef score(layers):\n    return [1.0] * 6\n')
    arguments = ["bench", "proxies", "--table", str(tmp_path / "tiny.json.gz")]
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["rounding"] == "gptq"
    assert [f["proxy"] for f in found["proxies"]][:2] == ["true", "twice"]
    assert found["proxies"][0]["over"]["uniform"]["low"] > 0
    assert found["proxies"][0]["regret"] == 0
    shown = CliRunner().invoke(main, [*arguments, "--table", str(tmp_path / "other.json.gz")], env={"COLUMNS": "80"})
    assert shown.exit_code == 0, shown.output
    text = " ".join(shown.stdout.split())
    assert "mean of 2 networks" in text
    assert "m on 9 samples of d" in text
    assert "..." not in text
    assert "…" not in text


@pytest.mark.parametrize(("arguments", "message"), [
    (("--bench", "2", "--network", "nothing"), "no network 'nothing' in the loss tables"),
    (("--table", "TINY", "--table", "COPY"), "two tables are of tiny"),
    (("--table", "TINY", "--network", "huge"), "the tables are of tiny"),
    (("--table", "TINY", "--activations"), "are for --bench 1"),
])  # fmt: skip
def test_wrong_arguments(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    files = {"TINY": tmp_path / "tiny.json.gz", "COPY": tmp_path / "copy.json.gz"}
    for path in files.values():
        save_losses(table(), path)
    given = [str(files.get(argument, argument)) for argument in arguments]
    result = CliRunner().invoke(main, ["bench", "proxies", *given])
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
