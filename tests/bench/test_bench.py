"""`tapc bench kernels`: real runs of one small layer, wrong arguments, pictures."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tapc.base.errors import UsageError
from tapc.bench import LAYERS, _program, bench_kernels
from tapc.bench.plot import plot_kernels
from tapc.cli import main
from tapc.hardware.board import load_board
from tapc.hardware.target import load_target
from tapc.operators.weighted import Conv
from thorough import thorough

SMALL = "conv 1x1, 16->32, 24x24"
MACS = 24 * 24 * 16 * 32


def bench(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["bench", "kernels", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def rows(*arguments: object) -> list[dict[str, Any]]:
    result = bench(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout)["kernels"])


@pytest.mark.parametrize("board", ["stm32h7", thorough("nucleo-l4r5zi"), "pico"])
def test_one_layer_at_all_widths(board: str) -> None:
    found = rows("--board", board, "--layer", "1x1, 16->32")
    assert [(row["layer"], row["w_bits"], row["a_bits"]) for row in found] == [(SMALL, bits, 8) for bits in (8, 4, 2)]
    for row in found:
        assert row["operations"] == MACS
        assert isinstance(row["instructions"], int)
        assert row["instructions_per_operation"] == row["instructions"] / MACS
        assert 0.5 < row["instructions_per_operation"] < 12
        assert row["code_bytes"] > 50
    # What others measured is instructions of M4 and M7.
    assert (found[0]["peer"] is None) == (board == "pico")
    assert found[1]["peer"] is None


def test_cycles_hold_instructions_and_reading_the_weights() -> None:
    """On `pico` a byte of flash takes 125e6 / 1.95e6 cycles; weights alone are 512 bytes."""
    (row,) = rows("--board", "pico", "--layer", "1x1, 16->32", "--weights", "8")
    flash = 16 * 32 * 125 / 1.95
    assert row["instructions"] + flash < row["cycles"] < 2 * row["instructions"] + 3 * flash
    assert row["cycles_estimated_per_operation"] == row["cycles"] / MACS


def test_a_figure_does_not_depend_on_the_other_widths() -> None:
    """But for the instructions that load a call's arguments."""
    arguments = ("--board", "nucleo-l4r5zi", "--layer", "1x1, 16->32", "--weights")
    (alone,), (same,) = rows(*arguments, "4"), rows(*arguments, "4")
    (together,) = (row for row in rows(*arguments, "4,8") if row["w_bits"] == 4)
    assert alone == same
    assert together["schedule"] == alone["schedule"]
    assert together["instructions"] == pytest.approx(alone["instructions"], abs=10)
    target = load_target("cortex-m4")
    (one,), (_, other) = (_program(target, LAYERS[0], widths, 8, 0).ops for widths in ((4,), (8, 4)))
    assert isinstance(one, Conv)
    assert isinstance(other, Conv)
    np.testing.assert_array_equal(one.weights, other.weights)


def test_algorithms() -> None:
    given = ("--layer", "64->64, 8x8", "--weights", "8")
    (direct,), (fast,) = rows("--board", "pico", *given), rows("--board", "pico", *given, "--algorithm", "f4")
    assert (fast["schedule"], fast["operations"]) == ("f4", direct["operations"])
    assert fast["instructions"] < direct["instructions"] / 3
    refused = bench("--board", "mps3-an547", *given, "--algorithm", "f4")
    assert refused.exit_code == 2
    assert "computes none of these layers on cortex-m55" in " ".join(refused.output.split())


def test_narrow_activations_have_no_peer() -> None:
    (row,) = rows("--board", "stm32h7", "--layer", "1x1, 16->32", "--weights", "8", "--activations", "4")
    assert row["a_bits"] == 4
    assert row["peer"] is None


def test_table_and_addition() -> None:
    result = bench("--board", "stm32h7", "--layer", "add")
    assert result.exit_code == 0, result.output
    assert "81.50 CMSIS-NN" in result.stdout
    assert "TinyEngine of" in result.stdout


@pytest.mark.parametrize(("arguments", "message"), [
    (("--board", "stm32h7", "--layer", "nothing like it"), "conv 3x3, 3->16, 32x32"),
    (("--board", "stm32h7", "--weights", "3"), "give some of 2, 4, 8"),
    (("--board", "stm32h7", "--weights", ""), "give some of 2, 4, 8"),
    (("--board", "stm32h7", "--activations", "2"), "'4', '8'"),
    (("--board", "stm32h8"), "known: "),
    (("--board", "stm32h7", "--plot", "picture.txt"), ".svg, .png or .pdf"),
    ((), "--board"),
])  # fmt: skip
def test_wrong_arguments_leave_with_2(arguments: tuple[str, ...], message: str) -> None:
    result = bench(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_plot_into_no_folder_leaves_with_8_before_any_work(tmp_path: Path) -> None:
    result = bench("--board", "stm32h7", "--layer", "1x1, 16->32", "--plot", tmp_path / "none" / "p.svg")
    assert result.exit_code == 8
    assert "make it first" in " ".join(result.output.split())
    assert "measure kernels" not in result.output


def test_plot_is_svg_with_a_mark_per_peer_and_the_legend_outside(tmp_path: Path) -> None:
    path = tmp_path / "kernels.svg"
    arguments = ("--board", "stm32h7", "--layer", "24x24", "--weights", "8,4", "--plot", path)
    assert bench(*arguments).exit_code == 0
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    ids = [element.get("id", "") for element in root.iter()]
    peers = sum(bits in layer.peers for layer in LAYERS if "24x24" in layer.name for bits in (8, 4))
    # One line collection for each peer, and one in the legend.
    assert sum(name.startswith("LineCollection") for name in ids) == peers + 1
    legend = next(element for element in root.iter() if element.get("id") == "legend_1")
    axes = next(element for element in root.iter() if element.get("id") == "patch_2")
    assert _lowest(legend) <= _highest(axes)
    first = path.read_bytes()
    assert bench(*arguments).exit_code == 0
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["kernels.svg"]


def _heights(element: ElementTree.Element) -> list[float]:
    """Return the y coordinates of paths' points; they grow downwards."""
    paths = [e.get("d", "").split() for e in element.iter("{http://www.w3.org/2000/svg}path") if e.get("d")]
    return [float(p[i + 2]) for p in paths for i in range(len(p)) if p[i] in ("M", "L")]


def _lowest(element: ElementTree.Element) -> float:
    return max(y for e in element if e.get("id", "").startswith("patch") for y in _heights(e))


def _highest(element: ElementTree.Element) -> float:
    return min(_heights(element))


def test_a_picture_of_additions_only_is_refused(tmp_path: Path) -> None:
    board = load_board("stm32h7")
    figures = bench_kernels(board, load_target(board.core), layers=LAYERS[-1:])
    with pytest.raises(UsageError, match="no MACs"):
        plot_kernels(figures, "additions", tmp_path / "p.svg")


def test_more_flash_bandwidth_means_fewer_cycles() -> None:
    board = load_board("pico")
    fast = board.model_copy(update={"memory": tuple(
        region.model_copy(update={"bandwidth": load_board("stm32h7").flash.bandwidth}) for region in board.memory
    )})  # fmt: skip
    layers = [layer for layer in LAYERS if layer.name == SMALL]
    slow_cycles, fast_cycles = (
        bench_kernels(b, load_target(board.core), layers=layers, w_bits=(8,))[0].cycles for b in (board, fast)
    )
    assert slow_cycles is not None
    assert fast_cycles is not None
    assert fast_cycles < slow_cycles


def test_the_default_is_what_builds_have() -> None:
    """Two weights of 8 bits share a half-word on the Cortex-M7, words of narrow ones are loaded one by one."""
    given = ("--board", "stm32h7", "--layer", "1x1, 16->32", "--weights", "8")
    (built,), (direct,) = rows(*given), rows(*given, "--algorithm", "direct")
    assert built["schedule"] == "nested"
    assert direct["schedule"].startswith("2x2x")
    assert built["cycles_estimated_per_operation"] < 0.8 * direct["cycles_estimated_per_operation"]
    (narrow,) = rows("--board", "stm32h7", "--layer", "64->64, 25x5", "--weights", "4")
    assert narrow["schedule"] == "2x2x8 single"
