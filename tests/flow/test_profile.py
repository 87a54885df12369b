"""`tapc profile` on a real build, and the cycles of its report."""

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import onnx
import pytest
from click.testing import CliRunner, Result

import tapc
from graph_builder import dead, residual
from tapc.cli import main
from tapc.cycles import flash_stalls, mca
from tapc.flow.rerun import open_build
from tapc.hardware.board import load_board

needs_mca = pytest.mark.skipif(
    not mca.available("cortex-m7"), reason="llvm-mca is not installed: apt-get install llvm-19"
)


def profile(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["profile", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def compiled(board: str, folder: Path, network: object = residual) -> Path:
    onnx.save(network().onnx, folder / "net.onnx")
    options = tapc.Options(wbits=(8,), calibration=8, eval=1)
    tapc.compile(folder / "net.onnx", board=board, data="random", output=folder / "build", options=options)
    return folder / "build"


@pytest.fixture(scope="module", params=["nucleo-l4r5zi", "pico", "stm32h7"])
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "stm32h7" and not mca.available("cortex-m7"):
        pytest.skip("llvm-mca is not installed: apt-get install llvm-19")
    return compiled(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def no_mca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide llvm-mca, and nothing else."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for file in Path(folder).iterdir() if Path(folder).is_dir() else ():
            if not file.name.startswith("llvm-mca") and not (tools / file.name).exists():
                (tools / file.name).symlink_to(file)
    monkeypatch.setenv("PATH", str(tools))


def test_totals_add_up_and_equal_the_report(build: Path) -> None:
    found = json.loads(profile(build, "--json", "--blocks", 2).stdout)
    report = open_build(build).report
    assert (found["model"], found["board"], found["core"]) == (report["model"], report["board"], report["core"])
    layers = found["layers"]
    assert found["instructions"] == sum(layer["instructions"] for layer in layers)
    assert found["macs"] == sum(layer["macs"] for layer in layers) == report["live_macs"]
    assert found["cycles"] == pytest.approx(sum(layer["cycles"] for layer in layers))
    assert sum(layer["share"] for layer in layers) == pytest.approx(1)
    assert found["cycles"] == pytest.approx(report["cycles_estimated"], rel=0.02)
    assert [layer["name"] for layer in layers] == [layer["name"] for layer in report["layers"]]
    for own, reported in zip(layers, report["layers"], strict=True):
        # A core without FPU and SIMD branches on data, and the report's input is another one.
        exact = report["core"] != "cortex-m0plus"
        assert own["instructions"] == pytest.approx(reported["instructions"], rel=0 if exact else 0.03), own["name"]
        assert own["cycles"] > 0.5 * own["instructions"]
        if own["macs"]:
            assert own["macs_per_cycle"] == pytest.approx(own["macs"] / own["cycles"])


def test_hottest_blocks_are_of_kernels_and_in_order(build: Path) -> None:
    found = json.loads(profile(build, "--json", "--blocks", 4).stdout)
    totals = [b["executions"] * len(b["instructions"]) for b in found["hottest"]]
    assert len(totals) == 4
    assert totals == sorted(totals, reverse=True)
    assert {b["function"] for b in found["hottest"]} <= {layer["function"] for layer in found["layers"]}
    assert sum(totals) < found["instructions"]


def test_cycles_are_at_least_reading_the_constants(build: Path) -> None:
    report = open_build(build).report
    constants = sum(layer["flash_bytes"] for layer in report["layers"])
    board = load_board(report["board"])
    assert report["cycles_estimated"] > flash_stalls(constants, board)
    # 1.95 MB/s at 125 MHz, 1.33 and 3.2 bytes a cycle: boards/*.toml.
    per_byte = {"pico": 125 / 1.95, "nucleo-l4r5zi": 1 / 1.33, "stm32h7": 1 / 3.2}[board.name]
    assert flash_stalls(1000, board) == pytest.approx(1000 * per_byte)


def test_table_and_picture(build: Path, tmp_path: Path) -> None:
    result = profile(build, "--blocks", 1, "--plot", tmp_path / "p.svg")
    assert result.exit_code == 0, result.output
    report = open_build(build).report
    assert f"{report['live_macs']:,}" in result.stdout
    assert "100.0%" in result.stdout
    source = (
        f"llvm-mca {mca.version()}'s model of cortex-m7" if report["core"] == "cortex-m7" else "the core manual's table"
    )
    assert source in " ".join(result.stdout.split())
    assert source in report["provenance"]["cycles"]
    assert ElementTree.parse(tmp_path / "p.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_pruned_network_counts_what_runs(tmp_path: Path) -> None:
    build = compiled("nucleo-l4r5zi", tmp_path, dead)
    found, report = json.loads(profile(build, "--json").stdout), open_build(build).report
    assert found["macs"] == report["live_macs"] < report["macs"]


def test_without_llvm_mca_there_are_instructions_but_no_cycles(tmp_path: Path, no_mca: None) -> None:
    build = compiled("stm32h7", tmp_path)
    report = open_build(build).report
    assert report["cycles_estimated"] is None
    assert report["instructions"] > 0
    assert "apt-get install llvm-19" in report["provenance"]["cycles"]
    found = json.loads(profile(build, "--json").stdout)
    assert found["cycles"] is None
    assert [layer["cycles"] for layer in found["layers"]] == [None] * len(found["layers"])
    assert sum(layer["share"] for layer in found["layers"]) == pytest.approx(1)
    assert "apt-get install llvm-19" in " ".join(profile(build, "--blocks", 0).stdout.split())
    checks = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
    (check,) = (c for c in checks if c["name"] == "llvm-mca")
    assert check["version"] is None
    assert not check["needed"]
    assert check["install"] == "apt-get install llvm-19"


@needs_mca
def test_doctor_names_llvm_mca() -> None:
    checks = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
    (check,) = (c for c in checks if c["name"] == "llvm-mca")
    assert "LLVM" in check["version"]
    assert "cycles" in check["purpose"]


def test_what_is_no_build_is_refused(tmp_path: Path) -> None:
    result = profile(tmp_path)
    assert result.exit_code == 4
    assert "tapc compile" in result.output
    assert profile(tmp_path / "nowhere").exit_code == 4


def test_a_build_without_its_twin_is_refused(tmp_path: Path) -> None:
    build = compiled("pico", tmp_path)
    (build / "twin.elf").unlink()
    result = profile(build)
    assert result.exit_code == 4
    assert "twin.elf" in result.output


def test_picture_of_unknown_kind_is_refused(tmp_path: Path) -> None:
    assert profile(tmp_path, "--plot", tmp_path / "p.jpeg").exit_code == 2
