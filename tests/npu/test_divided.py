"""`tapc npu` of networks that the NPU does not take whole."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner

import tapc
from graph_builder import Builder, residual
from tapc.cli import main
from tapc.flow import npu_divided
from tapc.flow.npu_divided import costs_of, layer_costs, lowered_of, placed_on
from tapc.flow.npu_image import missing
from tapc.graph.analysis import analyse
from tapc.hardware.board import load_board, shipped
from tapc.hardware.target import load_target
from tapc.npu import parts
from tapc.quantize import calibrate, quantize, uniform_bits

pytest.importorskip("ethosu", reason="needs ethos-u-vela")
Keep = Callable[..., None]


@pytest.fixture
def keep(monkeypatch: pytest.MonkeyPatch) -> Keep:
    """Let operators have no form in TFLite."""

    def patched(*names: str) -> None:
        found = parts.without_form
        monkeypatch.setattr(
            parts, "without_form", lambda *given: found(*given) | dict.fromkeys(names, "a test keeps it")
        )

    return patched


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return two residual blocks in ONNX."""
    path = tmp_path_factory.mktemp("divided") / "blocks.onnx"
    onnx.save(residual().onnx, path)
    return path


def npu(file: Path, *arguments: str) -> tuple[int, str, str]:
    options = ("--board", "mps3-an547", "--data", "random", "--rounding", "nearest", "--calibration", "32")
    done = CliRunner().invoke(main, ["npu", str(file), *options, "--samples", "5", "-q", *arguments])
    return done.exit_code, done.stdout, " ".join(done.output.split())


def test_parts_are_delivered_as_a_library(file: Path, keep: Keep, tmp_path: Path) -> None:
    keep("a1", "fc")
    out = tmp_path / "out"
    code, text, said = npu(file, "--wbits", "8", "-o", str(out), "--json")
    assert code == 0, said
    found = json.loads(text)
    assert json.loads((out / "npu.json").read_text()) == found
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert {name for name, layer in layers.items() if layer["where"] == "cpu"} == {"a1", "fc"}
    assert layers["a1"]["reason"] == "a test keeps it"
    assert found["exact"] is True
    assert found["parts"] == 2
    assert found["file"] == ""
    assert sorted(path.name for path in (out / "parts").iterdir()) == ["000_vela.tflite", "001_vela.tflite"]
    assert not list(out.glob("*.tflite"))
    assert {"blocks.c", "blocks.h", "blocks_kernels.c", "blocks_weights.c", "blocks_npu.c", "blocks_npu.h"} <= {
        path.name for path in (out / "lib").iterdir()
    }
    # Vela estimates each part; the CPU's time is counted at its own clock.
    on_npu = sum(layer["cycles"] for layer in layers.values() if layer["where"] == "npu")
    assert on_npu == pytest.approx(found["cycles"], rel=0.1)
    on_cpu = layers["a1"]["cycles"] + layers["fc"]["cycles"]
    assert on_cpu < found["cpu_cycles"] < 1.2 * on_cpu  # it copies, too
    assert found["cpu_milliseconds"] == pytest.approx(found["cpu_cycles"] / 32e3)
    assert found["milliseconds"] == pytest.approx(found["cycles"] / 500e3 + found["cpu_milliseconds"])
    assert layers["a1"]["weight_bytes"] >= 8 * 8 * 9
    if not missing():
        assert layers["a1"]["compared"] == 3 * 12 * 12 * 8
        assert layers["fc"]["compared"] == 3 * 5
        assert found["image_samples"] == 3
        assert "(28 register writes)" in found["proof"]
        assert "the CPU's kernels were run in the image, compiled for a core without Helium" in found["proof"]


def test_the_table_says_where_and_why(file: Path, keep: Keep, tmp_path: Path) -> None:
    keep("a1")
    code, _, said = npu(file, "--wbits", "8", "-o", str(tmp_path / "out"))
    assert code == 0
    assert "│ a1 │ conv │ cpu │ 8 │" in said
    assert "│ a2 │ conv │ npu │ 8 │" in said
    assert "cycles of the NPU in 2 parts, estimated by vela:" in said
    assert "cycles of the CPU, estimated by the cost model of its core:" in said
    assert "on the CPU: a1: a test keeps it" in said


def test_commands_of_all_parts_are_shown(file: Path, keep: Keep, tmp_path: Path) -> None:
    keep("a1")
    npu(file, "--wbits", "8", "-o", str(tmp_path / "out"))
    shown = CliRunner().invoke(main, ["show", str(tmp_path / "out"), "--stage", "npu"])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("-> STOP") == 2
    assert "input stem_out_quantized" not in shown.stdout.split("001_vela.tflite")[0]
    assert "a1" in shown.stdout.split("001_vela.tflite")[1].split("->")[0]


def test_layers_of_the_cpu_get_bits_of_its_kernels(file: Path, keep: Keep, tmp_path: Path) -> None:
    keep("b1", "b2")
    code, text, said = npu(file, "--wbits", "3,5", "--target-bits", "4.2", "-o", str(tmp_path / "out"), "--json")
    assert code == 0, said
    found = json.loads(text)
    bits = {layer["name"]: layer["w_bits"] for layer in found["layers"] if layer["w_bits"]}
    assert set(bits.values()) >= {3, 5}
    assert {bits[name] for name in ("b1", "b2")} <= {4, 8}
    assert {bits[name] for name in bits if name not in ("b1", "b2")} <= {3, 5}
    assert found["average_bits"] <= 4.2
    assert found["predicted_bytes"] == pytest.approx(found["flash"], rel=0.02)
    # What was predicted counts cycles of the CPU at the NPU's clock.
    whole = found["cycles"] + found["cpu_cycles"] * 500 / 32
    assert found["predicted_cycles"] == pytest.approx(whole, rel=0.05)


@pytest.mark.thorough
def test_a_budget_of_bytes_counts_the_cpus_packed_weights(file: Path, keep: Keep, tmp_path: Path) -> None:
    keep("b1", "b2")
    whole = json.loads(npu(file, "--wbits", "8", "-o", str(tmp_path / "a"), "--json")[1])
    budget = whole["flash"] - 1500  # more than the layers of the NPU have to give
    code, text, said = npu(file, "--wbits", "2,4,8", "--flash", str(budget), "-o", str(tmp_path / "b"), "--json")
    assert code == 0, said
    found = json.loads(text)
    assert found["flash"] <= budget
    assert {layer["w_bits"] for layer in found["layers"] if layer["where"] == "cpu"} - {8}


def test_latency_counts_the_cpu(file: Path, keep: Keep, tmp_path: Path) -> None:
    keep("b1")
    code, _, said = npu(file, "--wbits", "8", "--latency", "0.1ms", "-o", str(tmp_path / "out"))
    assert code == 5
    assert "latency" in said


def test_a_file_of_vela_is_delivered_where_tflite_has_all(tmp_path: Path) -> None:
    b = Builder((1, 3, 6, 6))
    turned = b.node("Transpose", [b.conv("x", "first", 3, 6)], "turned", perm=[0, 3, 1, 2])
    order = b.constant("order", np.array([5, 0, 3, 3, 1, 4, 0], np.int64))
    picked = b.node("Gather", [b.node("Relu", [turned], "relu"), order], "picked", axis=1)
    onnx.save(b.build(b.conv(picked, "last", 7, 4)).onnx, tmp_path / "moved.onnx")
    out = tmp_path / "out"
    code, text, said = npu(tmp_path / "moved.onnx", "--wbits", "8", "-o", str(out), "--json")
    assert code == 0, said
    found = json.loads(text)
    assert "vela leaves it to the CPU" in {layer["reason"] for layer in found["layers"]}
    assert found["file"] == "moved_vela.tflite"
    model = schema.Model.GetRootAs((out / found["file"]).read_bytes(), 0)
    assert model.OperatorCodesLength() == 2
    assert "moved_vela.tflite is vela's own file of the whole network, of which nothing was executed" in found["proof"]
    assert (out / "model.tflite").is_file()


def test_a_build_is_divided_too(keep: Keep, tmp_path: Path, file: Path) -> None:
    keep("b1")
    build = tmp_path / "build"
    tapc.compile(str(file), board="stm32h7", output=build, wbits=(4,), rounding="nearest", calibration=32, eval=4,
                 data="random", simulate=False)  # fmt: skip
    done = CliRunner().invoke(
        main, ["npu", str(build), "--board", "grove-vision-ai-v2", "--samples", "4", "--json", "-q"]
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [layer["name"] for layer in found["layers"] if layer["where"] == "cpu"] == ["b1"]
    assert found["send"] == ""
    assert (build / "npu" / "grove-vision-ai-v2" / "lib" / "blocks_npu.c").is_file()


def test_a_network_that_the_npu_takes_nothing_of_is_told(file: Path, keep: Keep, tmp_path: Path) -> None:
    names = [node.name for node in residual().onnx.graph.node]
    keep(*names)
    code, _, said = npu(file, "--wbits", "8", "-o", str(tmp_path / "out"))
    assert code == 3
    assert "the NPU takes no operator of blocks: operator 'stem': a test keeps it" in said
    assert "more" in said


def test_too_little_sram_for_the_arena_is_told(file: Path, keep: Keep, tmp_path: Path) -> None:
    keep("a1")
    text = (shipped("boards") / "mps3-an547.toml").read_text().replace("arena_bytes = 0x200000", "arena_bytes = 5_000")
    board = tmp_path / "mps3-an547.toml"
    board.write_text(text)
    code, _, said = npu(file, "--wbits", "8", "--board", str(board), "-o", str(tmp_path / "out"))
    assert code == 5
    assert "is the least that the planner found" in said


def test_parts_are_started_on_a_u55_alone(file: Path, keep: Keep, tmp_path: Path) -> None:
    keep("a1")
    text = (shipped("boards") / "mps3-an547.toml").read_text().replace("ethos-u55-128", "ethos-u65-256")
    board = tmp_path / "mps3-an547.toml"
    board.write_text(text)
    code, _, said = npu(file, "--wbits", "8", "--board", str(board), "-o", str(tmp_path / "out"))
    assert code == 3
    assert "ethos-u65-256 does not take all of blocks, and tapc starts parts on a U55 alone" in said


@pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")
def test_a_wrong_kernel_of_the_cpu_is_seen(
    file: Path, keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight of the CPU's layer is another one in the library: the image tells, at that layer."""
    keep("b1")
    made = npu_divided.divided_files

    def spoilt(*given: object) -> dict[str, str]:
        files = made(*given)  # type: ignore[arg-type]
        text = files["blocks_weights.c"]
        head, _, tail = text.partition("_b1[")
        rows = tail.split("\n")
        rows[1] = " ".join(["  0," if i == 0 else word for i, word in enumerate(rows[1].split())])
        return files | {"blocks_weights.c": head + "_b1[" + "\n".join(rows)}

    monkeypatch.setattr(npu_divided, "divided_files", spoilt)
    code, _, said = npu(file, "--wbits", "8", "-o", str(tmp_path / "out"))
    assert code == 7
    assert "the whole image differs from the reference executor: sample 0, layer 'b1'" in said
    assert not (tmp_path / "out").exists()


def blocks_of(bits: int) -> onnx.ModelProto:
    """Return two residual blocks in integers."""
    network, x = residual(), np.random.default_rng(0).normal(0, 1, (8, 3, 12, 12)).astype(np.float32)
    analysed, calibration = analyse(network.onnx, "blocks"), calibrate(network, x, seed=0)
    return quantize(network, analysed, uniform_bits(analysed, bits, 8), calibration, x=x).onnx


def test_costs_tell_what_the_cpu_computes(keep: Keep) -> None:
    keep("b1")
    board = load_board("mps3-an547")
    costs = [layer_costs(placed_on(board, blocks_of(bits), "blocks"), board) for bits in (8, 4)]
    assert costs[0].cpu == costs[1].cpu == {"b1"}
    saved = costs[0].flash["b1"] - costs[1].flash["b1"]
    assert saved == pytest.approx(8 * 9 * 16 / 2, rel=0.15)  # half a byte for each weight
    assert costs[0].total_flash > sum(costs[0].flash.values())
    # Cycles of the CPU, at 32 MHz, are counted as those of the NPU at 500 MHz.
    made = placed_on(board, blocks_of(8), "blocks")
    assert isinstance(made, parts.Divided)
    own = costs_of(made, lowered_of(made), board, load_target(board.core))
    assert costs[0].cycles["b1"] == round(own.cpu["b1"] * 500 / 32)
    assert costs[0].cycles["a1"] == own.npu["a1"]
    assert costs[0].total_cycles == own.total_npu + round(own.total_cpu * 500 / 32)
    assert own.cpu["b1"] < own.total_cpu


def strided(padded: bool) -> onnx.ModelProto:
    """A layer with strides of 4, of which the NPU knows up to 3, and one that reads it."""
    b = Builder((1, 3, 24, 24))
    w = b.constant("w", b.rng.normal(0, 0.2, (16, 3, 4, 4)).astype(np.float32))
    pads = [1, 1, 2, 2] if padded else [0] * 4
    patches = b.node("Conv", ["x", w], "patches", kernel_shape=[4, 4], strides=[4, 4], pads=pads)
    return b.build(b.conv(patches, "last", 16, 8)).onnx


def test_weights_that_are_read_for_every_place_count_once(tmp_path: Path) -> None:
    # Vela computes the first layer place by place.
    onnx.save(strided(padded=False), tmp_path / "patches.onnx")
    code, text, said = npu(tmp_path / "patches.onnx", "--wbits", "8", "-o", str(tmp_path / "out"), "--json")
    assert code == 0, said
    found = json.loads(text)
    (own,) = (layer["weight_bytes"] for layer in found["layers"] if layer["name"] == "patches")
    assert 3 * 16 * 16 <= own < 2 * 3 * 16 * 16
    assert sum(layer["weight_bytes"] for layer in found["layers"]) < 1.2 * found["weight_bytes"]


def test_an_operator_that_vela_fails_at_stays_on_the_cpu(tmp_path: Path) -> None:
    onnx.save(strided(padded=True), tmp_path / "patches.onnx")
    code, text, said = npu(tmp_path / "patches.onnx", "--wbits", "8", "-o", str(tmp_path / "out"), "--json")
    assert code == 0, said
    where = {layer["name"]: (layer["where"], layer["reason"]) for layer in json.loads(text)["layers"]}
    assert where["patches"] == ("cpu", "vela fails at it")
    assert where["last"][0] == "npu"
