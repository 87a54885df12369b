"""Figures of proxies against scipy and against sums done by hand."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import kendalltau, spearmanr

from bench.tables import LAYERS, row, table
from tapc.base.errors import DataError, UsageError
from tapc.bench.configurations import BenchTable, load_table, save_table
from tapc.bench.plot_proxies import plot_proxies
from tapc.bench.proxies import SIZE, evaluate_proxies, kendall_rows, spearman_rows, top_rows
from tapc.cli import main
from tapc.flow.losses.ranking import builtin_scores, predicted_loss, program_scores

WEIGHTS = ("88", "84", "82", "48", "44", "42", "28", "24", "22")


def by_first_layer(correct: dict[str, int]) -> BenchTable:
    """Return a table of three equal rows for each of WEIGHTS; cross-entropy falls as right answers grow.

    Correlations of ranks stay what they are when every row is there as often. One row has 4-bit activations.
    """
    rows = [row(weights, correct[weights], 3 - correct[weights] / 50) for weights in WEIGHTS]
    return table([*rows * 3, row("88", correct["88"] - 1, 1.5, "848")])


def test_predicted_loss_by_hand() -> None:
    rows = [row("22", 0, 0), row("48", 0, 0), row("82", 0, 0, "848")]
    found = predicted_loss(LAYERS, [2.0, 3.0], rows)
    # Layer a: 0.8, 0.2, 0 of 0.8; layer b: 0.4, 0.04, and 0.4 + 0.5 with 4-bit input, of 0.4.
    np.testing.assert_allclose(found, [2 + 3, 2 * 0.25 + 3 * 0.1, 0 + 3 * 2.25])


def test_a_dead_layer_predicts_no_loss() -> None:
    dead = LAYERS[0].model_copy(update={"distortion": dict.fromkeys(LAYERS[0].distortion, 0.0)})
    np.testing.assert_allclose(predicted_loss((dead, LAYERS[1]), [2.0, 3.0], [row("22", 0, 0)]), [3])


@pytest.mark.parametrize(("scores", "message"), [
    ([1.0], "1 scores for 2 layers"), ([1.0, -1.0], "'b' has the score -1"), ([float("nan"), 1.0], "'a' has"),
])  # fmt: skip
def test_scores_that_make_no_sense(scores: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        predicted_loss(LAYERS, scores, [row("22", 0, 0)])


def test_resampled_figures_equal_scipy() -> None:
    """Integers make ties, as right answers do; resampling makes more."""
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 12, 40).astype(float), rng.integers(0, 9, 40).astype(float)
    picks = rng.integers(0, 40, (25, 40))
    np.testing.assert_allclose(spearman_rows(x[picks], y[picks]), [spearmanr(x[p], y[p]).statistic for p in picks])
    np.testing.assert_allclose(kendall_rows(x, y, picks), [kendalltau(x[p], y[p]).statistic for p in picks])


def test_constant_rows_have_no_correlation() -> None:
    constant, other = np.ones((1, 5)), np.arange(5.0)
    assert spearman_rows(constant, other[None]) == [0]
    assert kendall_rows(constant[0], other, np.arange(5)[None]) == [0]


def test_top_by_hand() -> None:
    measured = np.arange(20.0)
    loss = np.arange(20.0)
    loss[[1, 7]] = loss[[7, 1]]
    swapped = np.arange(20.0)[::-1]
    np.testing.assert_array_equal(top_rows(np.stack([loss, swapped]), np.stack([measured, measured])), [0.5, 0])


def test_a_perfect_proxy_and_a_reversed_one() -> None:
    """a matters four times as much as b, so that the predicted losses are in the order of WEIGHTS."""
    correct = {weights: 90 - 9 * i for i, weights in enumerate(WEIGHTS)}
    scores = {"good": {"tiny": [8.0, 1.0]}, "wrong": {"tiny": [1.0, 8.0]}}
    good, wrong = sorted(
        (f for f in evaluate_proxies([by_first_layer(correct)], scores, 0) if f.proxy != SIZE), key=lambda f: f.proxy
    )
    assert good.configurations == 27
    for interval in (good.spearman, good.kendall, good.top, good.cross_entropy):
        assert interval.value == pytest.approx(1)
    assert good.layers == pytest.approx(1)
    assert wrong.layers == pytest.approx(-1)
    # By hand: 88 84 48 44 have losses 0.8 2 1.05 2.25, then 82 8, 42 8.25, 28 1.8, 24 3, 22 9. Their ranks in the
    # order of WEIGHTS are 1 4 7 2 5 8 3 6 9, and with the squares of the differences from 1 .. 9 ...
    squares = 0 + 4 + 16 + 4 + 0 + 4 + 16 + 4 + 0
    assert wrong.spearman.value == pytest.approx(1 - 6 * squares / (9 * 80))
    assert wrong.spearman.value < good.spearman.value


def test_spearman_within_sizes_is_the_mean_of_the_quintiles() -> None:
    """Five sizes of six; the proxy is right within three of them and wrong within two: (3 - 2) / 5."""
    layers = tuple(LAYERS[0].model_copy(update={"name": f"{i}", "parameters": 64, "input_group": 0}) for i in range(5))
    rows = []
    for size in range(5):
        sign = 1 if size < 3 else -1
        for n in range(6):
            weights = ["8" if i == n % 5 else "4" for i in range(5)] if n < 5 else ["2", "8", "4", "4", "4"]
            loss = sum({"8": 0, "4": 0.25, "2": 1}[bits] * (i + 1) for i, bits in enumerate(weights))
            filled = row("22", 50 - sign * round(4 * loss) - size, 1.0)
            rows.append(filled.model_copy(update={"weights": "".join(weights), "weight_bytes": 10.0 * (size + 1)}))
    (figure,) = (
        f for f in evaluate_proxies([table(rows, layers)], {"p": {"tiny": [1, 2, 3, 4, 5]}}, 0) if f.proxy == "p"
    )
    assert figure.within_size.value == pytest.approx(0.2)
    assert figure.within_size.low <= 0.2 <= figure.within_size.high


def test_the_bootstrap_depends_on_the_seed_alone() -> None:
    rng = np.random.default_rng(5)
    correct = {weights: int(n) for weights, n in zip(WEIGHTS, rng.permutation(90)[:9], strict=True)}
    scores = {"p": {"tiny": [3.0, 1.0]}}
    first, same, other = (evaluate_proxies([by_first_layer(correct)], scores, seed) for seed in (0, 0, 1))
    assert first == same
    assert [f.spearman.value for f in first] == [f.spearman.value for f in other]
    assert [f.spearman for f in first] != [f.spearman for f in other]
    alone = {f.proxy: f for f in first}
    both = {f.proxy: f for f in evaluate_proxies([by_first_layer(correct)], {"q": {"tiny": [1.0, 1.0]}, **scores}, 0)}
    assert both["p"] == alone["p"]


def test_an_interval_covers_what_resampling_by_hand_covers() -> None:
    rng = np.random.default_rng(7)
    rows = [row(w, int(rng.integers(10, 90)), float(rng.random())) for w in WEIGHTS * 4]
    (figure,) = (f for f in evaluate_proxies([table(rows)], {"p": {"tiny": [3.0, 1.0]}}, 0) if f.proxy == "p")
    loss, error = predicted_loss(LAYERS, [3.0, 1.0], rows), -np.array([r.correct for r in rows])
    drawn = [spearmanr(loss[p], error[p]).statistic for p in rng.integers(0, 36, (2000, 36))]
    assert figure.spearman.low == pytest.approx(np.percentile(drawn, 2.5), abs=0.06)
    assert figure.spearman.high == pytest.approx(np.percentile(drawn, 97.5), abs=0.06)


def test_narrow_activations_are_compared_on_request() -> None:
    whole = by_first_layer({weights: 90 - i for i, weights in enumerate(WEIGHTS)})
    assert {f.configurations for f in evaluate_proxies([whole], {}, 0)} == {27}
    assert {f.configurations for f in evaluate_proxies([whole], {}, 0, activations=True)} == {28}


def test_missing_scores_and_too_few_configurations() -> None:
    whole = by_first_layer(dict.fromkeys(WEIGHTS, 50))
    with pytest.raises(DataError, match="'p' has no scores for 'tiny'"):
        evaluate_proxies([whole], {"p": {"huge": [1.0, 1.0]}}, 0)
    with pytest.raises(DataError, match="'p' on tiny: 1 scores for 2 layers"):
        evaluate_proxies([whole], {"p": {"tiny": [1.0]}}, 0)
    with pytest.raises(DataError, match="at least 10"):
        evaluate_proxies([table([row("88", 1, 1)])], {}, 0)
    ten = [row("88", 50, 1.0).model_copy(update={"weight_bytes": float(i)}) for i in range(10)]
    with pytest.raises(DataError, match="no quintile of sizes holds 3 of the 10"):
        evaluate_proxies([table(ten)], {}, 0)


def test_built_in_scores_are_those_of_all_tables() -> None:
    one = table([]).model_copy(update={"scores": {"uniform": (1.0, 1.0), "tap": (1.5, 0.5)}})
    other = table([], name="other").model_copy(update={"scores": {"uniform": (1.0, 1.0)}})
    assert builtin_scores([one, other]) == {"uniform": {"tiny": (1.0, 1.0), "other": (1.0, 1.0)}}
    assert builtin_scores([]) == {}


def test_a_built_in_proxy_is_no_file() -> None:
    with pytest.raises(UsageError, match="not a proxy program"):
        program_scores(Path("uniform"), [table([])])


def test_a_program_scores_the_stored_statistics(tmp_path: Path) -> None:
    path = tmp_path / "rounding.py"
    path.write_text('"""Weights."""\n\n\ndef score(layers):\n    return [row["output_error_2"] for row in layers]\n')
    tables = [load_table(name) for name in ("resnet8", "dscnn")]
    found = program_scores(path, tables)
    for item in tables:
        assert found[item.network] == pytest.approx([layer.distortion["w2a8"] for layer in item.layers])
    with pytest.raises(DataError, match="the table of tiny has no statistics"):
        program_scores(path, [table([])])


def test_tables_are_written_and_read_back(tmp_path: Path) -> None:
    whole = by_first_layer({weights: 90 - i for i, weights in enumerate(WEIGHTS)})
    path = tmp_path / "tiny.json"
    save_table(whole, path)
    assert load_table(path) == whole
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.json"]
    values = json.loads(path.read_text())
    values["configurations"][0].pop()
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match="no benchmark table"):
        load_table(path)
    with pytest.raises(UsageError, match="no network 'nothing' in the benchmark"):
        load_table("nothing")


def test_plot(tmp_path: Path) -> None:
    whole = by_first_layer({weights: 90 - i for i, weights in enumerate(WEIGHTS)})
    figures = evaluate_proxies([whole], {"p": {"tiny": [3.0, 1.0]}}, 0)
    plot_proxies(figures, tmp_path / "p.svg")
    root = ElementTree.parse(tmp_path / "p.svg").getroot()
    ids = [element.get("id", "") for element in root.iter()]
    # A panel, a legend, and of every figure one collection of error bars.
    assert ids.count("axes_1") == ids.count("legend_1") == 1
    assert "axes_2" not in ids
    first = (tmp_path / "p.svg").read_bytes()
    plot_proxies(figures, tmp_path / "p.svg")
    assert (tmp_path / "p.svg").read_bytes() == first


def test_command(tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(main, ["bench", "proxies", "--network", "resnet8", "--json", "-o", str(tmp_path / "p.svg")])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["proxies"]
    assert {f["network"] for f in found} == {"resnet8"}
    assert {"uniform", "tap", "error", SIZE} <= {f["proxy"] for f in found}
    for f in found:
        assert -1 <= f["spearman"]["low"] <= f["spearman"]["value"] <= f["spearman"]["high"] <= 1
        assert f["configurations"] >= 200
    assert (tmp_path / "p.svg").is_file()
    shown = runner.invoke(main, ["bench", "proxies", "--network", "resnet8"])
    assert shown.exit_code == 0
    assert "508 samples of cifar10-original-subset.npz" in " ".join(shown.stdout.split())


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (("--network", "nothing"), 2, "no network 'nothing' in the benchmark"),
    (("--proxy", "nothing"), 2, "unknown proxy"),
    (("-o", "p.txt"), 2, ".svg, .png or .pdf"),
])  # fmt: skip
def test_wrong_arguments(arguments: tuple[str, ...], code: int, message: str) -> None:
    result = CliRunner().invoke(main, ["bench", "proxies", *arguments])
    assert result.exit_code == code, result.output
    assert message in " ".join(result.output.split())
