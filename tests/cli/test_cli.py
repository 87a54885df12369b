"""The command line: every user error has its exit code, a helpful message, no traceback, and loses nothing."""

import json
import os
import stat
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from graph_builder import residual
from tapc.base.output import replaced_folder
from tapc.cli import main


def tapc(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=True)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "net.onnx"
    onnx.save(residual().onnx, path)
    return path


def fails(code: int, *arguments: object) -> str:
    result = tapc("compile", *arguments)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def small(path: Path, nodes: list, shape: list, initializers: list | None = None) -> Path:
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b", "c", "d"])], initializers or [],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def test_unknown_board(net: Path) -> None:
    message = fails(2, net, "--board", "stm32h8")
    assert "stm32h8" in message
    assert "nrf52840dk" in message


@pytest.mark.parametrize(("option", "value"), [
    ("--pixel-scale", "0"), ("--pixel-scale", "-1"), ("--pixel-scale", "nan"), ("--pixel-scale", "x"), ("--seed", "-1"),
])  # fmt: skip
def test_numbers_that_make_no_sense(option: str, value: str, net: Path) -> None:
    message = fails(2, net, "--board", "pico", option, value)
    assert option in message
    assert value in message


def test_an_unknown_rounding_is_refused_before_the_work(net: Path) -> None:
    common = (net, "--data", "nowhere", "--rounding", "floor")
    for command in (("compile", *common, "--board", "pico"), ("bench", "accuracy", *common),
                    ("pareto", *common, "--board", "pico")):  # fmt: skip
        result = tapc(*command)
        assert result.exit_code == 2
        assert "known: nearest" in result.output


@pytest.mark.parametrize(
    ("tools", "packages", "needed"),
    [
        ((), (), {"arm-none-eabi-gcc", "qemu-system-arm", "cc"}),
        ((), ("ziglang",), {"qemu-system-arm", "cc"}),
        ((), ("unicorn",), {"arm-none-eabi-gcc"}),
        ((), ("ziglang", "unicorn"), set()),
        (("qemu-system-arm",), ("ziglang", "unicorn"), {"cc"}),
    ],
)
def test_doctor_needs_nothing_that_a_package_does(
    tools: tuple[str, ...], packages: tuple[str, ...], needed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tapc.cli.doctor import checks as look

    monkeypatch.setattr("tapc.cli.doctor._tool_version", lambda name: "1" if name in tools else None)
    others = {"ziglang", "unicorn"} - set(packages)
    monkeypatch.setattr("tapc.cli.doctor._package_version", lambda name: None if name in others else "1")
    checks = look()
    assert {check.name for check in checks if check.needed and check.version is None} == needed
    for check in checks:
        if check.name == "arm-none-eabi-gcc":
            assert ("--toolchain zig" in check.purpose) == ("ziglang" in packages)


def test_doctor_prints_commands_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from tapc.cli.doctor import Check

    monkeypatch.setattr("tapc.cli.doctor.checks", lambda: (Check("x", "y", False, None, "pip install 'x[all]'"),))
    assert "[all]" in tapc("doctor").output


def test_unknown_model() -> None:
    assert "resnet8" in fails(2, "resnet9000", "--board", "stm32h7")


def test_unknown_proxy(net: Path, tmp_path: Path) -> None:
    message = fails(2, net, "--board", "pico", "--data", "random", "--proxy", "magic", "-o", tmp_path / "b")
    assert "uniform" in message


def test_unsupported_operator(tmp_path: Path) -> None:
    path = small(tmp_path / "m.onnx", [helper.make_node("Hardmax", ["x"], ["y"], name="the_odd_one")], [1, 3, 4, 4])
    message = fails(3, path, "--board", "pico", "-o", tmp_path / "b")
    assert "Hardmax" in message
    assert "the_odd_one" in message
    assert "Conv" in message


def test_dynamic_shape(tmp_path: Path) -> None:
    path = small(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"], name="r")], [1, 3, "height", 4])
    assert "height" in fails(3, path, "--board", "pico", "-o", tmp_path / "b")


def test_nan_weights(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.full((2, 3, 1, 1), np.nan, np.float32), "the_weights")
    path = small(tmp_path / "m.onnx", [helper.make_node("Conv", ["x", "the_weights"], ["y"])], [1, 3, 4, 4], [weights])
    assert "the_weights" in fails(4, path, "--board", "pico", "-o", tmp_path / "b")


def test_corrupt_onnx(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"this is no protobuf" * 9)
    assert "m.onnx" in fails(4, path, "--board", "pico", "-o", tmp_path / "b")


def test_empty_calibration_set(net: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    message = fails(4, net, "--board", "pico", "--data", tmp_path / "images", "-o", tmp_path / "b")
    assert "images" in message


def test_wrong_image_size(net: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive, archive.open("cat/1.png", "w") as stream:
        Image.new("RGB", (20, 10)).save(stream, "PNG")
    message = fails(4, net, "--board", "pico", "--data", tmp_path / "images.zip", "-o", tmp_path / "b")
    assert "20x10" in message
    assert "12x12" in message


def test_missing_data(net: Path, tmp_path: Path) -> None:
    assert "nowhere" in fails(4, net, "--board", "pico", "--data", tmp_path / "nowhere", "-o", tmp_path / "b")


@pytest.mark.parametrize(("option", "region"), [("--flash", "flash"), ("--ram", "sram")])
def test_budget_too_small_names_the_smallest_that_works(option: str, region: str, net: Path, tmp_path: Path) -> None:
    common = (net, "--board", "pico", "--data", "random", "--no-simulate", "--calibration", "8", "--eval", "1")
    message = fails(5, *common, option, "1K", "-o", tmp_path / "b")
    assert region in message
    smallest = max(
        int(word.replace(",", "")) for word in message.replace(".", " ").split() if word.replace(",", "").isdigit()
    )
    result = tapc("compile", *common, option, smallest, "-o", tmp_path / "b")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(("tool", "package"), [
    ("arm-none-eabi-gcc", "gcc-arm-none-eabi"), ("qemu-system-arm", "qemu-system-arm"),
])  # fmt: skip
def test_missing_tool(tool: str, package: str, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        if not Path(folder).is_dir():
            continue
        for file in Path(folder).iterdir():
            if not file.name.startswith(tool.split("-gcc")[0]) and not (tools / file.name).exists():
                (tools / file.name).symlink_to(file)
    monkeypatch.setenv("PATH", str(tools))
    output = tmp_path / "b"
    with replaced_folder(output) as earlier:
        (earlier / "report.json").write_text("previous")
    message = fails(6, net, "--board", "pico", "--data", "random", "--calibration", "8", "--eval", "1", "-o", output)
    assert f"apt-get install {package}" in message
    assert (output / "report.json").read_text() == "previous"


def test_output_is_a_file(net: Path, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("precious")
    assert "not a folder" in fails(8, net, "--board", "pico", "-o", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "precious"


def test_output_is_somebody_elses_folder(net: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    assert "tapc-files.json" in fails(8, net, "--board", "pico", "-o", tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_unwritable_output(net: Path, tmp_path: Path) -> None:
    """A folder below a file cannot be made, not even by root."""
    (tmp_path / "file").write_text("")
    assert "cannot write" in fails(8, net, "--board", "pico", "-o", tmp_path / "file" / "b")
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir()
        (tmp_path / "locked").chmod(stat.S_IRUSR | stat.S_IXUSR)
        fails(8, net, "--board", "pico", "-o", tmp_path / "locked" / "b")


def test_broken_overrides(net: Path, tmp_path: Path) -> None:
    (tmp_path / "o.toml").write_text('[weights]\n"stemm" = 8\n')
    common = (net, "--board", "pico", "--data", "random", "--overrides", tmp_path / "o.toml", "-o", tmp_path / "b")
    assert "stem" in fails(2, *common)


def test_run_and_show_refuse_what_is_no_build(tmp_path: Path) -> None:
    for command in ("run", "show"):
        result = tapc(command, tmp_path)
        assert result.exit_code == 4
        assert "tapc compile" in result.output


@pytest.mark.parametrize("command", [
    "boards", "boards show pico", "models", "proxies", "doctor",
])  # fmt: skip
def test_tables_and_json(command: str) -> None:
    assert tapc(*command.split()).exit_code == 0
    assert json.loads(tapc(*command.split(), "--json").output)


@pytest.mark.parametrize("command", [
    "compile", "run", "show", "bench", "bench kernels", "profile", "boards", "boards show", "models", "proxies",
    "doctor",
])  # fmt: skip
def test_every_help_has_an_example(command: str) -> None:
    output = tapc(*command.split(), "--help").output
    assert "Example" in output
    assert f"tapc {command.split()[0]}" in output


def test_bad_option_values(net: Path) -> None:
    assert "64K" in fails(2, net, "--board", "pico", "--flash", "lots")
    assert "2, 4, 8" in fails(2, net, "--board", "pico", "--wbits", "3")
