"""The loss tables that come with tapc: complete, without doubles, and true to what follows from their bits."""

import gzip
import math
from pathlib import Path

import pytest

from tapc.flow.losses import LossTable, load_losses, loss_names, save_losses
from tapc.flow.losses.draw import BUDGETS
from tapc.flow.losses.ranking import groups_of
from tapc.flow.losses.table import FOLDER, ROUNDINGS, SEARCHED, SUFFIX
from tapc.proxy.columns import COLUMNS

SHIPPED = ("autoencoder", "dscnn", "mobilenetv1-0.25", "resnet8", "vit-micro", "vww")
LIMIT = 3_000_000


FOR_SEARCHES = ("bottlenecks", "inverted", "plain", "sounds", "tokens")


@pytest.fixture(scope="module", params=SHIPPED)
def table(request: pytest.FixtureRequest) -> LossTable:
    return load_losses(str(request.param))


def test_the_tables_are_there_and_small() -> None:
    assert loss_names() == SHIPPED
    assert loss_names(SEARCHED) == FOR_SEARCHES
    files = [FOLDER / f"{name}{SUFFIX}" for name in SHIPPED]
    files += [SEARCHED / f"{name}{SUFFIX}" for name in FOR_SEARCHES]
    assert sum(path.stat().st_size for path in files) < LIMIT
    assert all(b"/work" not in gzip.decompress(path.read_bytes()) for path in files)


def test_written_again_a_table_is_the_same(table: LossTable, tmp_path: Path) -> None:
    save_losses(table, tmp_path / f"again{SUFFIX}")
    again = gzip.decompress((tmp_path / f"again{SUFFIX}").read_bytes())
    assert again == gzip.decompress((FOLDER / f"{table.network}{SUFFIX}").read_bytes())


def test_many_configurations_none_twice_and_enough_of_each_size(table: LossTable) -> None:
    keys = {row.key for row in table.rows}
    assert len(keys) == len(table.rows) >= 250
    assert len(groups_of(table)) >= 10
    assert sum(len(group) >= 15 for group in groups_of(table)) >= 8
    assert {row.kind for row in table.rows} == {"uniform", "one-low", "one-high", "size", "chosen"}


def test_what_allocators_choose_is_measured_and_fits(table: LossTable) -> None:
    assert len(table.choices) == len(BUDGETS) * (len(table.scores) + 1)
    for name, key in table.choices.items():
        row = table.row(key)
        assert row is not None
        assert row.average_bits <= float(name.partition("@")[2]) + 1e-5
        assert set(row.activations) == {"4", "8"}


def test_figures_make_sense(table: LossTable) -> None:
    total = sum(layer.parameters for layer in table.layers)
    for row in table.rows:
        weight_bits = sum(layer.parameters * int(b) for layer, b in zip(table.layers, row.weights, strict=True))
        assert row.weight_bytes == weight_bits / 8
        assert row.average_bits == pytest.approx(weight_bits / total, abs=1e-6)
        assert all(row.activations[i] == "8" for i in table.interface)
        for rounding in ROUNDINGS:
            own = row.by(rounding)
            assert own.loss > 0
            assert 0 <= own.metric <= 1
            if table.provenance.metric == "anomaly":
                assert own.divergence is own.cross_entropy is None
                continue
            correct = own.metric * table.provenance.test_samples
            assert correct == pytest.approx(round(correct), abs=0.01)
            assert own.divergence is not None
            assert own.cross_entropy is not None
            assert own.divergence >= 0
            assert math.isfinite(own.cross_entropy)
    best, worst = (next(r for r in table.rows if set(r.weights) == {w} and set(r.activations) == {"8"}) for w in "82")
    assert best.nearest.loss < worst.nearest.loss / 20
    assert best.gptq.loss < worst.gptq.loss / 4
    # Compensation pays where bits are few: of nearly all configurations of 2.25 bits.
    few = [row for row in table.rows if row.average_bits <= 2.25]
    assert sum(row.gptq.loss < row.nearest.loss for row in few) >= 0.95 * len(few)


def test_layers_statistics_and_scores_are_of_all_layers(table: LossTable) -> None:
    names = [layer.name for layer in table.layers]
    assert [row["name"] for row in table.statistics] == names
    assert set(table.statistics[0]) <= {column.name for column in COLUMNS}
    assert {"uniform", "sqnr", "hawq_v2", "error"} <= set(table.scores)
    assert all(len(own) == len(names) for own in table.scores.values())
    assert set(table.alone) == set(ROUNDINGS)
    assert all(len(own) == len(names) for own in table.alone.values())


@pytest.mark.parametrize("name", FOR_SEARCHES)
def test_tables_for_searches_have_what_a_search_needs(name: str) -> None:
    table = load_losses(name)
    assert len({row.key for row in table.rows}) == len(table.rows) >= 100
    assert len(groups_of(table)) >= 5
    assert {column.name for column in COLUMNS} == set(table.statistics[0])
