"""What a network loses at the bits that proxies lead to: measured once, as the loss tables are, and resumable."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from search.tiny import tiny_files
from tapc.bench import deployed as module
from tapc.bench.deployed import Transfer, deploy, survives
from tapc.cli import main
from tapc.flow.losses.draw import Drawn
from tapc.flow.losses.measure import Source, measure, prepare
from tapc.flow.losses.table import Measured
from tapc.frontend import load
from tapc.frontend.identity import network_digest
from tapc.proxy import Origin, Program, proxy_names, save_program

CODE = "def score(layers):\n    return [1.0 + layer['depth'] for layer in layers]\n"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Path, Path]:
    folder = tmp_path_factory.mktemp("deployed")
    model, data = tiny_files(folder)
    found = folder / "found.toml"
    digests = (network_digest(load(str(model), keep=False).onnx),)
    save_program(Program(name="depth", code=CODE, origin=Origin(digests=digests)), found)
    return Source("tiny", str(model), data, 16, 16, 16), found, folder / "out"


def run(given: tuple[Source, Path, Path]) -> Transfer:
    source, found, folder = given
    return deploy(prepare(source), {"found": found}, folder=folder, budgets=(2.5,), a_bits=(8,), builtin=proxy_names())


def test_each_configuration_is_measured_once_and_as_in_the_tables(
    given: tuple[Source, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(given)
    assert first.found == {"found": True}
    assert {f.proxy for f in first.figures} >= {"found", "uniform", "sqnr", "hawq_v2", "error"}
    assert {f.budget for f in first.figures} == {2.5}
    assert all(2 <= f.average_bits <= f.budget for f in first.figures)
    assert first.configurations == len({f.key for f in first.figures}) < len(first.figures)
    lines = (given[2] / "tiny.jsonl").read_text().splitlines()
    assert len(lines) == first.configurations + 1
    setup, figure = prepare(given[0]), first.figures[0]
    assert measure(setup, Drawn("chosen", None, *figure.key.split("/"))).gptq == figure.measured
    # Cut short by a kill: that one is measured again, and nothing else.
    (given[2] / "tiny.jsonl").write_text("\n".join(lines)[:-9])
    counted: list[str] = []
    line = module._line
    monkeypatch.setattr(module, "_line", lambda *of: counted.append(of[2].key) or line(*of))
    assert run(given) == first
    assert len(counted) == 1


def test_the_command_prints_tables_and_json(given: tuple[Source, Path, Path]) -> None:
    source, found, folder = given
    arguments = ["bench", "transfer", source.model, "--data", str(source.data), "--calibration", "16", "--seen", "16"]
    arguments += ["--test", "16", "--target-bits", "2.5", "--proxy", str(found), "-o", str(folder), "--abits", "8"]
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 0
    assert "tiny, 8-bit activations" in shown.output
    assert "searched on it" in shown.output
    values = json.loads(CliRunner().invoke(main, [*arguments, "--json", "-q"]).stdout)
    assert values["figures"][0]["measured"]["loss"] >= 0
    skipped = CliRunner().invoke(main, [*arguments, "--skip", "hawk"])
    assert skipped.exit_code == 2
    assert "no built-in proxy; there are:" in skipped.output
    bad = CliRunner().invoke(main, [*arguments, "--target-bits", "1,x"])
    assert bad.exit_code == 2
    assert "averages of 2 to 8 bits" in bad.output


def test_a_network_that_lost_too_much_is_told() -> None:
    assert survives(Measured(0.1, 0.5, None, None), 0.9)
    assert not survives(Measured(2.0, 0.4, None, None), 0.9)
