"""Whole compilations: every layer bit-exact in QEMU, the same bytes twice, figures as promised."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

import tapc
from e2e.settings import BOARD, OPTIONS, few
from graph_builder import dead, everything, pair, pooled, residual, words
from kernels.programs import WARNINGS
from tapc.base.progress import Stages
from tapc.flow.rerun import open_build, rerun
from tapc.flow.showing import describe
from tapc.quantize import evaluate
from thorough import thorough


@pytest.fixture(scope="module")
def everything_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "everything.onnx"
    onnx.save(everything().onnx, path)
    return path


@pytest.mark.parametrize(("bits", "board"), [
    ("w2a8", BOARD), ("w4a4", "nrf52840dk"), ("mixed", "pico"), thorough("mixed", "stm32h7"),
    thorough("mixed", "mps3-an547"),
])  # fmt: skip
def test_every_operator_is_exact_and_the_same_bytes_twice(
    board: str, bits: str, everything_onnx: Path, tmp_path: Path
) -> None:
    options = few(OPTIONS[bits], board, **({} if bits == "mixed" else {"rounding": "nearest"}))
    report = tapc.compile(everything_onnx, board=board, data="random", output=tmp_path / "b", options=options).report
    assert report.exact
    if bits == "mixed":  # the cores differ in their kernels
        again = few(OPTIONS[bits], board, simulate=False)
        tapc.compile(everything_onnx, board=board, data="random", output=tmp_path / "second", options=again)
        for name in ("firmware.elf", "firmware.bin", "firmware.hex", "twin.elf", "model.onnx"):
            assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name
    assert all(layer.exact and layer.instructions for layer in report.layers)
    assert report.instructions == sum(layer.instructions or 0 for layer in report.layers)
    assert report.memory.arena.predicted == report.memory.arena.measured


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    """Three inputs by name, three outputs: one goes on inside, one names classes, one is an input again."""
    onnx.save(pair().onnx, tmp_path / "pair.onnx")
    rng = np.random.default_rng(0)
    arrays = {"x": rng.random((40, 8, 8, 3)), "depth": rng.normal(0, 3, (40, 8, 8)), "numbers": rng.random((40, 3))}
    np.savez(tmp_path / "d.npz", y=rng.integers(0, 4, 40), **arrays)
    result = tapc.compile(
        tmp_path / "pair.onnx", board=BOARD, data=tmp_path / "d.npz", output=tmp_path / "b",
        options=few(OPTIONS["mixed"], rounding="nearest"),
    )  # fmt: skip
    report = result.report
    assert report.exact
    assert report.accuracy.metric == "top1"
    assert [output.name for output in report.accuracy.outputs] == ["sum.relu_out", "scores_out", "numbers.copy_out"]
    assert report.accuracy.sqnr_db == min(output.sqnr_db or 99 for output in report.accuracy.outputs)
    again = rerun(tmp_path / "b", data=None, samples=3, seed=1, all_layers=True, stages=Stages())
    assert all(layer.exact for layer in again.layers)


def test_tokens(tmp_path: Path) -> None:
    onnx.save(words().onnx, tmp_path / "words.onnx")
    given = np.random.default_rng(0).integers(0, 23, (40, 7))
    np.savez(tmp_path / "d.npz", x=given, y=given[:, 0] % 4)
    report = tapc.compile(
        tmp_path / "words.onnx", board="pico", data=tmp_path / "d.npz", output=tmp_path / "b",
        options=few(OPTIONS["mixed"], "pico"),
    ).report  # fmt: skip
    assert report.exact
    assert [layer.op for layer in report.layers][:2] == ["embedding", "conv"]
    assert report.memory.arena.predicted == report.memory.arena.measured
    assert report.accuracy.metric == "top1"


# The nucleo has the nrf52840dk's core.
@pytest.mark.parametrize(("bits", "board"), [
    ("w8a8", "stm32h7"), thorough("mixed", "nrf52840dk"), thorough("w8a8", "pico"), ("mixed", "mps3-an547"),
])  # fmt: skip
def test_pooling_behind_convolutions_goes_line_by_line(board: str, bits: str, tmp_path: Path) -> None:
    onnx.save(pooled().onnx, tmp_path / "net.onnx")
    report = tapc.compile(
        tmp_path / "net.onnx", board=board, data="random", output=tmp_path / "b", options=few(OPTIONS[bits], board)
    ).report
    assert report.exact
    assert [layer.op for layer in report.layers][:2] == ["conv+maxpool"] * 2
    assert report.memory.arena.predicted == report.memory.arena.measured
    if bits == "w8a8":
        assert report.memory.arena.predicted < 14 * 14 * 8
    assert report.layers[0].macs == report.layers[0].live_macs == 14 * 14 * 3 * 8 * 9
    if report.instructions is not None:
        assert report.predicted_instructions == pytest.approx(report.instructions, rel=0.25)


@pytest.mark.parametrize(("bits", "board"), [
    thorough("w8a8", "stm32h7"), ("w4a4", "pico"), thorough("mixed", "pico"),
])  # fmt: skip
def test_dead_channels_do_not_run(board: str, bits: str, tmp_path: Path) -> None:
    onnx.save(dead().onnx, tmp_path / "net.onnx")
    result = tapc.compile(
        tmp_path / "net.onnx", board=board, data="random", output=tmp_path / "b", options=few(OPTIONS[bits], board)
    )
    report = result.report
    assert report.exact
    assert report.memory.arena.predicted == report.memory.arena.measured
    planned = result.allocation.used["ram"].used
    # The allocator plans with 8-bit weights: narrower ones may leave fewer channels alive, and let two pixels share a
    # column on cores without SIMD; rounded ones may rule out a kernel with a word or two more of scratch memory.
    if board != "pico":
        assert planned <= report.memory.ram.predicted + 16
    assert planned >= report.memory.ram.predicted
    assert report.live_macs == sum(layer.live_macs for layer in report.layers) < 0.8 * report.macs
    layers = {layer.name: layer for layer in report.layers}
    assert layers["side"].live_macs < layers["side"].macs == 14 * 14 * 9 * 6 * 6
    assert layers["side"].bops == layers["side"].macs * (layers["side"].w_bits or 0) * layers["side"].a_bits
    again = rerun(tmp_path / "b", data=None, samples=3, seed=1, all_layers=True, stages=tapc.base.progress.Stages())
    assert all(layer.exact for layer in again.layers)


@pytest.mark.parametrize(("bits", "board"), [
    ("mixed", "stm32h7"), thorough("w8a8", "nrf52840dk"), thorough("w8a8", "mps3-an547"), thorough("mixed", "pico"),
])  # fmt: skip
def test_zoo_resnet8_is_exact(board: str, bits: str, tmp_path: Path) -> None:
    options = few(OPTIONS[bits], board)
    report = tapc.compile("resnet8", board=board, data="random", output=tmp_path / "b", options=options).report
    assert report.exact
    flash = report.memory.flash
    assert flash.measured is not None
    assert abs(flash.predicted - flash.measured) <= 0.02 * flash.measured


NETWORKS = {
    "pretrainedResnet": "cifar10-original-subset.npz",
    "kws_ref_model_float32": "kws01-mfcc-dev.npz",
    "vww_96_float": "random",
    "ad01_fp32": "random",
}


@pytest.mark.parametrize(("network", "bits", "board"), [
    ("pretrainedResnet", "mixed", "stm32h7"), ("kws_ref_model_float32", "w4a4", "stm32h7"),
    thorough("vww_96_float", "w2a8", "nucleo-l4r5zi"), thorough("ad01_fp32", "w4a8", "nucleo-l4r5zi"),
])  # fmt: skip
def test_mlperf_tiny_networks_are_exact(board: str, network: str, bits: str, shared_data: Path, tmp_path: Path) -> None:
    data = NETWORKS[network]
    result = tapc.compile(
        shared_data / "mlperf-tiny" / f"{network}.tflite", board=board, output=tmp_path / "build",
        data=data if data == "random" else shared_data / data,
        options=few(OPTIONS[bits], board, eval=2, rounding="nearest"),
    )  # fmt: skip
    assert result.report.exact
    assert all(layer.exact for layer in result.report.layers)


@pytest.fixture(scope="module")
def resnet8(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tapc.Result:
    """Return MLPerf Tiny's ResNet-8 at 8 bits, run on 200 of the 508 development images."""
    return tapc.compile(
        shared_data / "mlperf-tiny" / "pretrainedResnet.tflite", board="stm32h7",
        options=tapc.Options(wbits=(8,), eval=200),
        data=shared_data / "cifar10-original-subset.npz", output=tmp_path_factory.mktemp("resnet8") / "build",
    )  # fmt: skip


@pytest.fixture(scope="module")
def images(shared_data: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(shared_data / "cifar10-original-subset.npz") as archive:
        return archive["test_x"].astype(np.float32), archive["test_y"]


def test_resnet8_w8a8_figures(resnet8: tapc.Result, images: tuple[np.ndarray, np.ndarray]) -> None:
    result = resnet8
    memory, accuracy = result.report.memory, result.report.accuracy
    assert memory.arena.predicted == memory.arena.measured <= 50 * 1024
    assert memory.stack.measured is not None
    assert memory.stack.measured <= 2048
    constants = sum(layer.flash_bytes for layer in result.report.layers)
    assert memory.flash.measured is not None
    assert memory.flash.measured - constants <= 40 * 1024
    assert abs(memory.flash.predicted - memory.flash.measured) <= 0.02 * memory.flash.measured
    assert accuracy.samples == 200
    assert accuracy.device is not None
    assert accuracy.float32 is not None
    assert accuracy.device >= accuracy.float32 - 1.0
    x, y = images
    floats = evaluate(result.model.onnx, x, optimized=True).argmax(axis=1)
    quantized = evaluate(result.quantized.onnx, x, optimized=True).argmax(axis=1)
    assert 100 * np.mean(quantized == y) >= 100 * np.mean(floats == y) - 1.0


def test_reference_equals_onnxruntimes_integer_kernels(
    resnet8: tapc.Result, images: tuple[np.ndarray, np.ndarray]
) -> None:
    """Every layer of every development image, with onnxruntime's QLinear kernels as the independent source."""
    from tapc.lower.codes import input_codes
    from tapc.lower.from_onnx import program_from_onnx
    from tapc.lower.reference import execute
    from tapc.quantize.runtime import batched, session

    program = program_from_onnx(resnet8.quantized.onnx, "resnet8", "float", "dsp")
    exposed = batched(resnet8.quantized.onnx)
    names = [op.output for op in program.ops]
    known = {v.name: v for v in onnx.shape_inference.infer_shapes(exposed).graph.value_info}
    exposed.graph.output.extend(known[name] for name in names)
    runner = session(exposed, optimized=True)
    all_images, _ = images
    for start in range(0, len(all_images), 127):
        x = all_images[start : start + 127]
        theirs = dict(zip(names, runner.run(names, {exposed.graph.input[0].name: x}), strict=True))
        ours: dict[str, np.ndarray] = {}
        execute(
            program, input_codes(program, x), observe=lambda op, values, into=ours: into.update({op.output: values})
        )
        for name in names:
            value = theirs[name].astype(np.int64)
            value = value.transpose(0, 2, 3, 1) if value.ndim == 4 else value.reshape(len(value), 1, 1, -1)
            np.testing.assert_array_equal(ours[name], value, err_msg=name)


def test_keyword_spotting_accuracy_on_the_device(shared_data: Path, tmp_path: Path) -> None:
    data = shared_data / "kws01-mfcc-dev.npz"
    options = tapc.Options(wbits=(8,), eval=200, test_data=data)
    model = shared_data / "mlperf-tiny" / "kws_ref_model_float32.tflite"
    accuracy = tapc.compile(model, board="stm32h7", data=data, output=tmp_path / "b", options=options).report.accuracy
    assert accuracy.samples == 200
    assert accuracy.device is not None
    assert accuracy.float32 is not None
    assert accuracy.device >= accuracy.float32 - 1.0


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    onnx.save(residual().onnx, folder / "net.onnx")
    tapc.compile(
        folder / "net.onnx",
        board="nrf52840dk",
        data="random",
        output=folder / "out",
        options=few(OPTIONS["mixed"], "nrf52840dk"),
    )
    return folder / "out"


def test_report_has_the_stable_keys(build: Path) -> None:
    report = json.loads((build / "report.json").read_text())
    assert {"schema", "model", "board", "exact", "layers", "memory", "accuracy", "instructions", "provenance",
            "seconds"} <= set(report)  # fmt: skip
    assert report["schema"] == 1
    for layer in report["layers"]:
        assert {"name", "op", "w_bits", "a_bits", "macs", "bops", "flash_bytes", "instructions", "exact"} <= set(layer)
    for part in ("flash", "arena", "stack", "ram"):
        assert set(report["memory"][part]) == {"predicted", "measured", "limit"}
    assert {"float", "onnx", "device", "samples"} <= set(report["accuracy"])


def test_run_again_and_show(build: Path) -> None:
    again = rerun(build, data=None, samples=3, seed=5, all_layers=True, stages=tapc.base.progress.Stages())
    first = json.loads((build / "report.json").read_text())
    assert again.samples == 3
    assert again.instructions == pytest.approx(first["instructions"], rel=0.05)
    assert "conv" in describe(build, "integer")
    assert describe(build, "plan").startswith(f"arena {first['memory']['arena']['measured']} bytes")
    assert "t_smlad" in describe(build, "c")


def test_random_data_and_damaged_builds(build: Path, tmp_path: Path) -> None:
    from tapc.base.errors import DataError

    stages = tapc.base.progress.Stages()
    chosen, default = (
        rerun(build, data=data, samples=2, seed=5, all_layers=False, stages=stages) for data in ("random", None)
    )
    assert chosen == default
    assert (build / "lib" / "README.md").read_text().startswith("# ")
    broken = tmp_path / "broken"
    shutil.copytree(build, broken)
    (broken / "twin.elf").unlink()
    next((broken / "lib").glob("*_kernels.c")).unlink()
    with pytest.raises(DataError, match=r"twin\.elf is missing or no file; compile the network again"):
        rerun(broken, data=None, samples=2, seed=0, all_layers=False, stages=stages)
    with pytest.raises(DataError, match=r"lib/\w+_kernels\.c is missing"):
        describe(broken, "c")
    (broken / "report.json").write_text("{")
    with pytest.raises(DataError, match="holds no tapc build"):
        describe(broken, "integer")


def test_a_wrong_weight_is_found_and_named(build: Path, tmp_path: Path) -> None:
    """Change one weight of the exported model: the unchanged firmware must no longer pass."""
    from tapc.base.errors import MismatchError

    broken = tmp_path / "broken"
    shutil.copytree(build, broken)
    model = onnx.load(broken / "model.onnx")
    last = open_build(build).lowered().program.ops[-1].name
    bias = next(t for t in model.graph.initializer if t.name == f"{last}.bias_quantized")
    values = onnx.numpy_helper.to_array(bias).copy()
    values[0] += 2**20
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(model, broken / "model.onnx")
    with pytest.raises(MismatchError, match=rf"layer '{last}', element .* the reference gives -?\d+, the device -?\d+"):
        rerun(broken, data=None, samples=2, seed=0, all_layers=False, stages=tapc.base.progress.Stages())


@pytest.mark.parametrize("compiler", ["gcc", "clang", "arm-none-eabi-gcc"])
def test_library_builds_without_warnings(build: Path, compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    cpu = ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"] if "arm" in compiler else []
    for source in sorted((build / "lib").glob("*.c")):
        command = [compiler, *cpu, "-O2", *WARNINGS, "-c", str(source)]
        subprocess.run([*command, "-o", str(tmp_path / f"{source.stem}.o")], check=True)


def test_library_builds_with_cmake_and_equals_the_reference(build: Path, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    from tapc.device.verify import device_inputs
    from tapc.lower.reference import execute

    subprocess.run(["cmake", "-S", str(build / "lib"), "-B", str(tmp_path)], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", str(tmp_path)], check=True, capture_output=True)
    network = open_build(build).lowered()
    shape = network.program.tensors[network.program.input].shape
    codes = np.random.default_rng(0).integers(-128, 128, (3, *shape))
    data = device_inputs(network, codes).tobytes()
    example = str(next(tmp_path.glob("*_example")))
    output = subprocess.run([example], input=data, stdout=subprocess.PIPE, check=True).stdout
    expected = execute(network.program, codes)
    np.testing.assert_array_equal(np.frombuffer(output, np.int8).reshape(expected.shape), expected)


def test_a_module_object_compiles(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.BatchNorm2d(8), torch.nn.ReLU6(), torch.nn.Flatten(),
        torch.nn.Linear(8 * 5 * 5, 4),
    )  # fmt: skip
    result = tapc.compile(
        module, board="pico", data="random", input_shape=(1, 3, 10, 10), output=tmp_path / "b",
        options=few(OPTIONS["w4a8"], "pico"),
    )  # fmt: skip
    assert result.report.exact
    assert result.report.source_error is not None
    assert result.report.source_error < 1e-4
