"""`tapc npu`: a finished build on an NPU."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner, Result

import tapc
from graph_builder import residual
from tapc.base.errors import MismatchError
from tapc.cli import main
from tapc.flow.npu_image import missing, run_whole
from tapc.hardware.board import load_board, shipped
from tapc.npu import vela
from tapc.npu.optimized import read

pytest.importorskip("ethosu", reason="needs ethos-u-vela")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return ResNet-8 at 4 bits for a microcontroller; it was not run."""
    folder = tmp_path_factory.mktemp("npu") / "resnet8"
    tapc.compile("resnet8", board="stm32h7", output=folder, wbits=(4,), rounding="nearest", calibration=32, eval=4,
                 simulate=False, optimize="size")  # fmt: skip
    return folder


def npu(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["npu", *arguments])


def _board(folder: Path, before: str, after: str) -> Path:
    """Write a board's file with something else in it."""
    text = (shipped("boards") / "mps3-an547.toml").read_text()
    assert before in text
    board = folder / "mps3-an547.toml"
    board.write_text(text.replace(before, after))
    return board


def test_a_build_is_proved_and_delivered(build: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = npu(str(build), "--board", "grove-vision-ai-v2", "--samples", "10", "-o", str(out), "--json", "-q")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["exact"] is True
    assert found["samples"] == 10
    assert found["tflite_micro"] in (None, 100)
    assert sorted(path.name for path in out.iterdir()) == [
        "lib",
        "npu.json",
        "resnet8_vela.tflite",
        "tapc-files.json",
        "vela.ini",
    ]
    assert json.loads((out / "npu.json").read_text()) == found
    model = schema.Model.GetRootAs((out / "resnet8_vela.tflite").read_bytes(), 0)
    assert model.OperatorCodes(0).CustomCode() == b"ethos-u"
    assert f"{out}/resnet8_vela.tflite 0xB7B000" in found["send"]
    assert "OffChipFlash_clock_scale=0.015625" in (out / "vela.ini").read_text()


def test_four_bits_take_half_of_the_bytes(build: Path) -> None:
    """77,360 weights: the coder brings those of 4 bits near half a byte each."""
    done = npu(str(build), "--board", "mps3-an547", "--samples", "2", "--json", "-q")
    found = json.loads(done.stdout)
    assert found["weight_bytes"] < 0.55 * 77_360
    assert sum(layer["weight_bytes"] for layer in found["layers"]) == pytest.approx(found["weight_bytes"], rel=0.03)
    assert sum(layer["cycles"] for layer in found["layers"]) == pytest.approx(found["cycles"], rel=0.05)
    assert {layer["w_bits"] for layer in found["layers"]} == {4, None}


def test_a_table_for_people(build: Path) -> None:
    done = npu(str(build), "--board", "mps3-an547", "--samples", "2", "-q")
    text = " ".join(done.stdout.split())
    assert "resnet8 on mps3-an547 (ethos-u55-128)" in text
    assert "no silicon and no model of Arm's stood behind" in text


@pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")
def test_a_whole_image_runs_with_the_driver(build: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = npu(str(build), "--board", "mps3-an547", "--samples", "4", "-o", str(out), "--json", "-q")
    found = json.loads(done.stdout)
    assert found["image_samples"] == 3
    assert "(14 register writes)" in found["proof"]
    optimized, own = read((out / "resnet8_vela.tflite").read_bytes()), load_board("mps3-an547").npu
    assert own is not None
    codes = {place.name: np.zeros((1, place.bytes), np.int8) for place in optimized.inputs}
    outputs = optimized.run(codes, own.outputs_at_once)
    expected = np.concatenate([outputs[place.name] for place in optimized.outputs], axis=1)
    assert run_whole(out / "lib", optimized, own, "resnet8", codes, expected) == 14
    with pytest.raises(MismatchError, match="the whole image gives other outputs"):
        run_whole(out / "lib", optimized, own, "resnet8", codes, expected + np.int8(1))
    other = own.model_copy(update={"accelerator": "ethos-u55-64"})
    with pytest.raises(MismatchError, match="driver returned 2"):
        run_whole(out / "lib", optimized, other, "resnet8", codes, expected)


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs arm-none-eabi-gcc")
def test_the_library_builds_for_a_cortex_m55_with_caches(build: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    npu(str(build), "--board", "grove-vision-ai-v2", "--samples", "1", "-o", str(out), "-q")
    flags = ["-mcpu=cortex-m55", "-mfloat-abi=hard", "-Os", "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    command = ["arm-none-eabi-gcc", *flags, "-DRESNET8_NPU_DCACHE=1", "-c", "resnet8_npu.c", "-o", "npu.o"]
    bare = subprocess.run(command, cwd=out / "lib", capture_output=True, text=True, check=False)
    assert "give the address of the NPU's registers" in bare.stderr
    command += ["-DRESNET8_NPU_BASE=0x50004000u"]
    based = subprocess.run(command, cwd=out / "lib", capture_output=True, text=True, check=False)
    assert based.returncode == 0, based.stderr


def test_boards_without_an_npu_are_told(build: Path) -> None:
    done = npu(str(build), "--board", "pico", "-q")
    assert done.exit_code == 2
    text = " ".join(done.output.split())
    assert "board pico has no NPU: its file has no [npu]" in text
    assert "boards with one: grove-vision-ai-v2, mps3-an547" in text
    done = npu(str(build), "--board", "pigo", "-q")
    assert done.exit_code == 2
    assert "unknown board 'pigo'; known:" in " ".join(done.output.split())


def test_without_vela_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vela.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(tapc.frontend, "load", lambda *args, **rest: pytest.fail("the network was read"))
    done = npu("resnet8", "--board", "mps3-an547", "-q")
    assert done.exit_code == 6
    assert "vela is not installed: pip install 'tapc[npu]'" in " ".join(done.output.split())


def test_a_board_file_with_an_unknown_accelerator_is_told(build: Path, tmp_path: Path) -> None:
    done = npu(str(build), "--board", str(_board(tmp_path, "ethos-u55-128", "ethos-u55-100")), "-q")
    assert done.exit_code == 4
    text = " ".join(done.output.split())
    assert "npu.accelerator: Input should be 'ethos-u55-32', 'ethos-u55-64', 'ethos-u55-128'" in text


def test_folders_without_a_build_are_told(build: Path, tmp_path: Path) -> None:
    done = npu(str(tmp_path), "--board", "mps3-an547", "-q")
    assert done.exit_code == 4
    assert "holds no tapc build (no report.json)" in " ".join(done.output.split())
    broken = tmp_path / "broken"
    shutil.copytree(build, broken)
    (broken / "model.onnx").write_bytes((build / "model.onnx").read_bytes()[:1000])
    done = npu(str(broken), "--board", "mps3-an547", "-q")
    assert done.exit_code == 4
    assert "model.onnx is damaged" in " ".join(done.output.split())


def test_activations_of_4_bits_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "narrow"
    tapc.compile("resnet8", board="grove-vision-ai-v2", output=folder, wbits=(4,), abits=(4,), rounding="nearest",
                 calibration=16, eval=4, simulate=False)  # fmt: skip
    done = npu(str(folder), "--board", "mps3-an547", "-q")
    assert done.exit_code == 3
    assert "has 4 bits, a TFLite file takes 8: compile the network with --abits 8" in " ".join(done.output.split())


@pytest.mark.parametrize("bits", ["9", "1,2", "x"])
def test_weight_bits_that_there_are_none_of_are_told(bits: str) -> None:
    done = npu("resnet8", "--board", "mps3-an547", "--wbits", bits, "-q")
    assert done.exit_code == 2
    assert "give some of 2, 3, 4, 5, 6, 7, 8" in " ".join(done.output.split())


@pytest.mark.parametrize("given", [("--wbits", "4"), ("--flash", "40K"), ("--weights", "x"), ("--requantize",)])
def test_a_build_takes_no_options_of_networks(build: Path, given: tuple[str, ...]) -> None:
    done = npu(str(build), "--board", "mps3-an547", *given, "-q")
    assert done.exit_code == 2
    assert "for networks" in " ".join(done.output.split())


def test_too_little_sram_is_told(build: Path, tmp_path: Path) -> None:
    board = _board(tmp_path, "arena_bytes = 0x200000", "arena_bytes = 10_000")
    done = npu(str(build), "--board", str(board), "-q")
    assert done.exit_code == 5
    text = " ".join(done.output.split())
    assert "bytes of SRAM on mps3-an547" in text
    least = re.search(r"([\d,]+) is the least that vela", text)
    assert least is not None
    works = _board(tmp_path, "arena_bytes = 0x200000", f"arena_bytes = {least[1].replace(',', '_')}")
    assert npu(str(build), "--board", str(works), "--samples", "2", "-q").exit_code == 0


def test_what_the_executor_does_not_know_is_compiled_alone(build: Path, tmp_path: Path) -> None:
    board = _board(tmp_path, "ethos-u55-128", "ethos-u65-256")
    done = npu(str(build), "--board", str(board), "--json", "-q")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["exact"] is None
    assert found["samples"] == 0
    assert found["proof"].startswith("nothing was executed")


def test_each_layer_gets_two_to_eight_bits(tmp_path: Path) -> None:
    out = tmp_path / "out"
    budget = ("--target-bits", "3", "--rounding", "nearest", "--calibration", "32", "--samples", "2", "-o", str(out))
    done = npu("resnet8", "--board", "grove-vision-ai-v2", *budget, "--json", "-q")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    widths = {layer["name"]: layer["w_bits"] for layer in found["layers"] if layer["w_bits"]}
    assert found["average_bits"] <= 3
    assert set(widths.values()) <= set(range(2, 9))
    assert set(widths.values()) & {3, 5, 6, 7}
    assert found["file_bytes"] == (out / "resnet8_vela.tflite").stat().st_size
    assert found["predicted_bytes"] == pytest.approx(found["file_bytes"], rel=0.005)
    assert found["predicted_cycles"] == pytest.approx(found["cycles"], rel=0.05)
    assert set(found["scores"]) == {"float", "npu"}
    assert {path.name for path in out.iterdir()} >= {"model.onnx", "float.onnx", "model.tflite", "npu.json"}


@pytest.mark.thorough
def test_rounding_by_rate_makes_the_file_as_long_as_predicted(tmp_path: Path) -> None:
    onnx.save(residual().onnx, tmp_path / "blocks.onnx")
    found = {}
    for rounding in ("gptq", "rate"):
        chosen = ("--rounding", rounding, "--wbits", "4", "-o", str(tmp_path / rounding), "--json", "-q")
        sized = ("--data", "random", "--calibration", "64", "--samples", "2")
        done = npu(str(tmp_path / "blocks.onnx"), "--board", "mps3-an547", *sized, *chosen)
        assert done.exit_code == 0, done.output
        found[rounding] = json.loads(done.stdout)
    # Of each layer vela fills up the last 16 bytes.
    assert abs(found["rate"]["predicted_bytes"] - found["rate"]["file_bytes"]) <= 64
    assert found["rate"]["weight_bytes"] < found["gptq"]["weight_bytes"]


def test_a_budget_of_bytes_holds_for_the_file(tmp_path: Path) -> None:
    budget = (
        "--flash",
        "48176",
        "--rounding",
        "nearest",
        "--calibration",
        "32",
        "--samples",
        "2",
        "--wbits",
        "3,4,5",
        "-o",
        str(tmp_path / "out"),
    )
    done = npu("resnet8", "--board", "mps3-an547", *budget, "--json", "-q")
    assert done.exit_code == 0, done.output
    assert 47_000 < json.loads(done.stdout)["file_bytes"] <= 48_176


def test_a_budget_that_nothing_meets_is_told(tmp_path: Path) -> None:
    budget = ("--flash", "9K", "--rounding", "nearest", "--calibration", "16", "--samples", "2", "--wbits", "2,8")
    done = npu("resnet8", "--board", "mps3-an547", *budget, "-o", str(tmp_path / "out"), "-q")
    assert done.exit_code == 5
    text = " ".join(done.output.split())
    assert "flash (the file for ethos-u55-128): the budget is 9216 bytes" in text
    assert not (tmp_path / "out").exists()
    for _ in range(2):  # what works by prediction, and what works as coded
        least = re.search(r"smallest budget that works is ([\d,]+) bytes \(--flash\)", text)
        assert least is not None
        budget = ("--flash", least[1].replace(",", ""), *budget[2:])
        done = npu("resnet8", "--board", "mps3-an547", *budget, "-o", str(tmp_path / "out"), "-q")
        text = " ".join(done.output.split())
        if done.exit_code == 0:
            break
    assert done.exit_code == 0, text
    done = npu("resnet8", "--board", "mps3-an547", "--latency", "9M", "--calibration", "16", "--samples", "2", "-q")
    assert done.exit_code == 2
    assert "an NPU runs no instructions" in " ".join(done.output.split())


def test_the_commands_are_shown(build: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    npu(str(build), "--board", "mps3-an547", "--samples", "1", "-o", str(out), "-q")
    shown = CliRunner().invoke(main, ["show", str(out), "--stage", "npu"])
    assert shown.exit_code == 0, shown.output
    text = shown.stdout.splitlines()
    # Nine convolutions and a dense layer, some by parts of their channels; three additions.
    assert 10 <= sum(line.endswith("-> CONV") for line in text) <= 20
    assert sum(line.endswith("-> ELEMENTWISE add") for line in text) == 3
    assert text[-1].endswith("-> STOP")
    assert any("KERNEL_HEIGHT_M1 = 2" in line for line in text)
    missing = CliRunner().invoke(main, ["show", str(tmp_path), "--stage", "npu"])
    assert missing.exit_code == 4
    assert "holds nothing for an NPU" in " ".join(missing.output.split())


def test_a_compilation_for_a_board_with_an_npu_names_the_command(tmp_path: Path) -> None:
    folder, net = tmp_path / "a build", tmp_path / "blocks.onnx"
    onnx.save(residual().onnx, net)
    quick = (
        "--data",
        "random",
        "--wbits",
        "8",
        "--rounding",
        "nearest",
        "--calibration",
        "16",
        "--eval",
        "1",
        "--no-simulate",
        "-q",
    )
    compiled = ("compile", str(net), "--board", "grove-vision-ai-v2", "-o", str(folder), *quick)
    done = CliRunner().invoke(main, compiled)
    assert done.exit_code == 0, done.output
    said, command = " ".join(done.stdout.split()).rsplit("put it on the board's NPU", 1)[1].split(": ", 1)
    assert said == ""
    program, *words = shlex.split(command)
    assert program == "tapc"
    assert CliRunner().invoke(main, [*words, "--samples", "1", "-q"]).exit_code == 0
    done = CliRunner().invoke(main, [*compiled, "--abits", "4"])
    assert "put it on the board's NPU, but for what that does not take (tensor" in " ".join(done.stdout.split())
    done = CliRunner().invoke(main, ["compile", str(net), "--board", "stm32h7", "-o", str(folder), *quick])
    assert "NPU" not in done.stdout
