"""What is printed: tables lose nothing at any width, nothing steers the terminal, logs have no bars."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from tapc.base.terminal import Column, Lines, Table, columns, output_width, visible, wrapped
from tapc.cli import main
from tapc.report.schema import LayerReport, Memory, Quantity, Report
from tapc.report.table import layers_table, totals_table

WIDTHS = (None, 200, 120, 80, 40)
PROSE = "Nothing that a person reads is lost; /a/path/that/is/much/longer/than/forty/columns/of/a/terminal stays whole"


def layer(name: str, macs: int) -> LayerReport:
    return LayerReport(
        name=name, op="conv+maxpool", w_bits=4, a_bits=8, out_bits=8, macs=macs, live_macs=macs - 1, bops=32 * macs,
        flash_bytes=1_234_567, arena_bytes=65_676, predicted_instructions=141_249_042, instructions=141_249_043,
        exact=True, region="qspi_flash",
    )  # fmt: skip


def report() -> Report:
    size = Quantity(predicted=11_231_020, measured=11_231_021, limit=134_217_728)
    return Report.model_construct(
        model="a network", board="stm32h7", core="cortex-m7", layers=(layer("layer4.downsample.0", 115_605_504),),
        memory=Memory(flash=size, arena=size, stack=size, ram=size, arena_region="axi_sram", external={"qspi": size}),
        macs=555_000_000, live_macs=554_000_000, bops=17_728_000_000, average_weight_bits=2.99,
        instructions=141_249_042, predicted_instructions=141_249_055, exact=True,
    )  # fmt: skip


def prose_table() -> Table:
    table = Table("t", columns("name", "bytes", "description", right=("bytes",), prose=("description",)))
    table.add("a-name-of-some-length", f"{134_217_728:,}", PROSE)
    table.add("[red]b[/]", None, "short")
    return table


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "table", [layers_table(report()), totals_table(report()), prose_table()], ids=["layers", "memory", "prose"]
)
def test_no_cell_is_cut_or_broken_at_any_width(table: Table, width: int | None) -> None:
    lines = [line.plain for line in table.lines(width)]
    text = "\n".join(lines)
    headers = [column.name for column in table.columns]
    for cells in (headers, *(row[0] for row in table.rows if row is not None)):
        for column, cell in zip(table.columns, cells, strict=True):
            for part in cell.split() if column.prose else [cell]:
                assert part in text
    assert "…" not in text
    longest = max(len(part) for row in table.rows if row for cell in row[0] for part in [cell, *cell.split()]
                  if cell != PROSE or " " not in part)  # fmt: skip
    assert all(len(line) <= max(width, longest + 2) for line in lines if width is not None)


def test_a_layer_takes_two_lines_at_80_columns() -> None:
    plain = [line.plain for line in layers_table(report()).lines(80)]
    assert plain[0].split()[:5] == ["layer", "op", "in", "w", "a"]
    assert not any("┃" in line for line in plain)
    assert any("┃" in line.plain for line in layers_table(report()).lines(200))


def test_columns_of_rows_of_several_lines_are_above_each_other() -> None:
    table = Table("t", (Column("name"), Column("first", right=True), Column("second", right=True, starts=True)))
    table.add("short", "1", "22")
    table.add("rather longer", "1,000", "333,333")
    lines = [line.plain for line in table.lines(24)]
    assert lines == [
        "name           first",
        "   second",
        "-" * 24,
        "short              1",
        "       22",
        "rather longer  1,000",
        "  333,333",
    ]


@pytest.mark.parametrize("columns_given", [None, "80", "40"])
@pytest.mark.parametrize("command", ["boards", "models", "doctor", "proxies", "boards show stm32h7"])
def test_lists_keep_names_and_numbers_whole(command: str, columns_given: str | None) -> None:
    """In a pipe, and at 80 and 40 columns."""
    output = CliRunner(env={"COLUMNS": columns_given}).invoke(main, command.split()).output
    data = json.loads(CliRunner().invoke(main, [*command.split(), "--json"]).output)
    rows = data if isinstance(data, list) else data["memory"]
    for row in rows:
        assert row["name"] in output
        for word in str(row.get("description", row.get("summary", ""))).split():
            assert word in output
        if "size" in row:
            assert f"{row['size']:,}" in output
    assert "…" not in output
    if columns_given == "80":
        assert all(len(line) <= 80 for line in output.splitlines())


def test_width_of_a_pipe_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    read, write = os.pipe()
    with os.fdopen(read), os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert output_width() is None
        monkeypatch.setenv("COLUMNS", "80")
        assert output_width() == 80


def test_prose_is_broken_between_words_only() -> None:
    parts = wrapped(PROSE, 40)
    assert " ".join(parts) == PROSE
    assert len(parts) > 2
    assert wrapped("one\n\ntwo", None) == ["one", "", "two"]


def test_control_characters_are_shown() -> None:
    assert visible("\x1b[31mred\x1b]0;title\x07") == r"\x1b[31mred\x1b]0;title\x07"
    assert visible("left\u202eright") == r"left\u202eright"
    assert visible("Grüße 世界 ±\n\tx") == "Grüße 世界 ±\n\tx"
    table = Table("t", columns("name"))
    table.add("a\nb\x1b[2J")
    assert all("\x1b" not in line.plain for line in table.lines(80))


def test_errors_cannot_steer_the_terminal_nor_break_the_printer() -> None:
    for name in ("\x1b[2J.onnx", r"\[/red].onnx", "[bold]x[/].onnx"):
        result = CliRunner().invoke(main, ["compile", name, "--board", "pico"])
        assert result.exit_code in (2, 4)
        assert visible(name) in result.output
        assert "\x1b" not in result.output


def test_progress_in_a_log_is_a_line_per_stage(capsys: pytest.CaptureFixture[str]) -> None:
    stages = Lines()
    for name in ("import", "data"):
        with stages.stage(name) as advance:
            for done in range(100):
                advance(done, 100)
    assert re.fullmatch(r"import: \d+\.\d s\ndata: \d+\.\d s\n", capsys.readouterr().err)


@pytest.mark.parametrize("arguments", [["compile"], ["compile", "x", "--board", "pico", "--seed", "-1"], ["nothing"],
                                       ["compile", "x", "--board", "nothing"], ["boards", "show"]])  # fmt: skip
def test_errors_look_alike(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "Error" not in result.stderr
    assert not result.stdout


def every_command() -> list[list[str]]:
    found: list[list[str]] = [[]]
    for name, command in main.commands.items():
        found += [[name], *([name, inner] for inner in getattr(command, "commands", {}))]
    return found


@pytest.mark.parametrize("command", every_command(), ids=" ".join)
def test_h_is_help_and_quiet_is_everywhere(command: list[str]) -> None:
    short, long = (CliRunner().invoke(main, [*command, flag]) for flag in ("-h", "--help"))
    assert short.exit_code == long.exit_code == 0
    assert short.output == long.output
    if command and not hasattr(main.commands[command[0]], "commands"):
        assert "--quiet" in short.output


@pytest.mark.parametrize(("words", "incomplete", "expected"), [
    (["compile"], "resnet", {"resnet8", "resnet18", "resnet50"}),
    (["compile", "resnet8", "--board"], "p", {"pico", "pico2"}),
    (["boards", "show"], "stm", {"stm32h7", "stm32vldiscovery"}),
    (["compile", "resnet8", "--proxy"], "haw", {"hawq", "hawq_v2"}),
    (["proxies", "score"], "sq", {"sqnr"}),
    (["compile", "resnet8", "--pin"], "b", {"both"}),
])  # fmt: skip
def test_the_shell_completes_names_and_files(words: list[str], incomplete: str, expected: set[str]) -> None:
    found = ShellComplete(main, {}, "tapc", "_TAPC_COMPLETE").get_completions(words, incomplete)
    assert {item.value for item in found if item.type == "plain"} == expected
    assert any(item.type == "file" for item in found) or words[-1] == "--pin"


def test_a_refusal_imports_no_torch() -> None:
    """Nor does --help: checked in a process of its own."""
    code = "import sys\nfrom tapc.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'numpy', 'onnx', 'rich', 'tvm'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    for arguments in (
        ["--help"],
        ["compile", "--help"],
        ["compile", "--board"],
        ["compile", "resnet8", "--board", "x"],
    ):
        run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True,
                             env=os.environ | {"PYTHONPATH": str(root)})  # fmt: skip
        loaded = run.stdout.splitlines()[-1]
        assert "torch" not in loaded
        if "--help" in arguments:
            assert loaded == "[]"


def test_roundings_of_the_command_line_are_those_of_tapc() -> None:
    from tapc.base.errors import UsageError
    from tapc.base.precheck import ROUNDINGS
    from tapc.quantize import check_rounding

    for name in ROUNDINGS:
        check_rounding(name)
    with pytest.raises(UsageError, match=re.escape(", ".join(ROUNDINGS))):
        check_rounding("floor")
