"""Which networks a search names, how it measures those without a table, and what the others say at the end."""

import json
from dataclasses import replace

import onnxruntime
import pytest
from click.testing import CliRunner
from scipy.stats import spearmanr

from search.inline import InlineWorkers
from search.made import loss, make_up
from search.tiny import narrowed, tiny_setup
from tapc.base.cache import Store
from tapc.base.errors import DataError, UsageError
from tapc.base.progress import Stages
from tapc.cli import main
from tapc.flow.losses import load_losses, loss_names, save_losses
from tapc.flow.losses.identities import identities
from tapc.search import given
from tapc.search.given import Named, Tables, default_names, given_network, measured_table
from tapc.search.measurements import Measurements
from tapc.search.networks import identity_of
from tapc.search.options import SearchOptions

PLAIN = SearchOptions(beta=0)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Two more tables: they tell other things of the same layers, so a fitness on them differs."""
    folder = tmp_path_factory.mktemp("tables")
    for name, content, step in (("kin", "1" * 64, 2), ("far", "2" * 64, 3)):
        save_losses(narrowed(load_losses("resnet8"), name, content, step), folder / f"{name}.json.gz")
    return folder


def test_a_search_from_tables_needs_no_network_and_no_data(others, tmp_path, monkeypatch):
    """The whole command where no network can be loaded or run."""
    for place, name in ((given, "open_model"), (given, "find_data"), (onnxruntime, "InferenceSession")):
        monkeypatch.setattr(place, name, None)
    arguments = ["search", "resnet8", "--hold-out", "kin", "--table", str(others), "--llm", "offline", "--generations",
                 "1", "--population", "4", "--finalists", "2", "-o", str(tmp_path / "run"), "--json", "-q"]  # fmt: skip
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["measured"] == found["cached"] == 0
    assert found["held_out"] == "kin"
    valid = sorted((c for c in found["all"] if c["status"] == "ok"), key=lambda c: -c["fitness"]["phi"])
    elsewhere = found["elsewhere"]
    best = max(valid[:2], key=lambda c: elsewhere[c["key"]]["kin"]["phi"])
    assert elsewhere[found["winner"]]["kin"]["phi"] == elsewhere[best["key"]]["kin"]["phi"]
    assert {"kin", "far"} <= set(elsewhere["sqnr"])
    unseen = set(found["unseen"]) - {found["winner"]}
    assert found["beats_every_built_in"] is (found["above_every_built_in"] and all(
        found["unseen"][found["winner"]]["phi"] > found["unseen"][name]["phi"] for name in unseen - {"error"}
    ))  # fmt: skip
    names = list(elsewhere[valid[0]["key"]])
    means = [sum(elsewhere[c["key"]][n]["rho"] for n in names) / len(names) for c in valid]
    agreement = spearmanr([c["fitness"]["phi"] for c in valid], means).statistic
    assert found["agreement"]["rho"] == pytest.approx(agreement)
    events = (tmp_path / "run" / "events.jsonl").read_text()
    assert "unseen" in events


def test_the_table_is_readable_at_80_columns(others, tmp_path):
    arguments = ["search", "resnet8", "--table", str(others), "--llm", "offline", "--generations", "0"]
    result = CliRunner().invoke(
        main, [*arguments, "--population", "2", "-o", str(tmp_path / "run")], env={"COLUMNS": "80"}
    )
    assert result.exit_code == 0, result.output
    tables = [line for line in result.stdout.splitlines() if line[:1] in "┃│┏┡└"]
    assert max(map(len, tables)) <= 80
    assert not any(mark in line for line in tables for mark in ("…", "..."))
    assert any("hawq_v2" in line and "0." in line for line in tables)
    assert any("far" in line and "unseen" in line for line in tables)


def test_networks_are_told_apart_by_content(others, tmp_path):
    tables = Tables((str(others),))
    shipped = tables.by_name["resnet8"]
    assert identity_of(shipped) == identities()["resnet8"]
    assert identity_of(tables.by_name["kin"]) == "1" * 64
    run = str(tmp_path / "run")
    twice = ["search", "resnet8", "kin", "--hold-out", "kin", "--table", str(others), "--llm", "offline", "-o", run]
    assert "kin is named twice" in CliRunner().invoke(main, twice).output
    names, held = default_names(tables)
    assert held == "inverted"
    assert held not in names
    assert not {*names, held} & {*loss_names(), "kin"}  # the benchmark stays unseen
    old = replace(shipped, network="old", statistics=tuple({"name": row["name"]} for row in shipped.statistics))
    save_losses(old, tmp_path / "old.json.gz")
    refused = CliRunner().invoke(main, ["search", str(tmp_path / "old.json.gz"), "--llm", "offline", "-o", run])
    assert refused.exit_code == 4
    assert "of an older tapc: its statistics lack" in " ".join(refused.output.split())
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"holds no \*\.json\.gz"):
        Tables((str(tmp_path / "none"),))


def test_what_is_refused_without_a_board(tmp_path):
    base = ["search", "resnet8", "--llm", "offline", "-o", str(tmp_path / "run")]
    for arguments in (["--beta", "0.1", "--cost", "flash"], ["--ram", "64K"]):
        refused = CliRunner().invoke(main, [*base, *arguments])
        assert refused.exit_code == 2
        assert "give --board" in refused.output
    nothing = CliRunner().invoke(main, ["search"])
    assert nothing.exit_code == 2
    assert "--llm" in nothing.output
    with pytest.raises(UsageError, match=r"name the file kws_ref_model_float32\.tflite in place of its table"):
        given_network(Named("dscnn"), Tables(), None, PLAIN.model_copy(update={"allocator": "proxy"}), None, Stages())


def test_a_killed_measurement_goes_on_and_ends_like_a_whole_one(tmp_path, monkeypatch):
    make_up(monkeypatch.setattr)
    monkeypatch.setattr("search.made.PAUSE", 0)
    setup = tiny_setup(tmp_path)
    whole = measured_table(setup, 60, Measurements(InlineWorkers(), Store(tmp_path / "a")), Stages())
    assert len(whole.rows) >= 60
    assert whole.provenance.command == "tapc search"
    asked = []

    def dies(subject, drawn):
        asked.append(drawn.key)
        if len(asked) == 20:
            raise KeyboardInterrupt
        return loss(subject, drawn)

    monkeypatch.setattr(given, "measure_loss", dies)
    monkeypatch.setattr(given, "_AT_ONCE", 1)
    with pytest.raises(KeyboardInterrupt):
        measured_table(setup, 60, Measurements(Raising(), Store(tmp_path / "b")), Stages())
    again = Measurements(InlineWorkers(), Store(tmp_path / "b"))
    assert measured_table(setup, 60, again, Stages()) == whole
    assert again.cached + again.measured == len(whole.rows)
    assert 19 <= again.cached < 25
    assert len(asked) == len(whole.rows) + 1


class Raising(InlineWorkers):
    """Workers through which even an interrupt comes."""

    def submit(self, function, handle, *arguments):
        result = function(handle, *arguments)
        return super().submit(lambda value: value, result)
