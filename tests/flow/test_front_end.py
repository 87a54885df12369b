"""Front ends on simulated cores, beside a library, and in packages."""

import json
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest

import tapc
from graph_builder import Builder
from tapc.audio import PRESETS, FrontEnd, Quantization, front_end
from tapc.base.errors import MismatchError, UsageError
from tapc.flow import front_end as flow
from tapc.hardware.target import load_target
from tapc.ir.program import Program, Tensor
from tapc.lower.facts import Facts
from tapc.lower.names import Names
from thorough import thorough

KWS01 = PRESETS["kws01"]
CODES = Quantization(0.5847029089927673, 83)
POWER = FrontEnd(kind="log-mel", spectrum="power", floored="max", hop=480, log="db")
CORES = ["cortex-m0plus", thorough("cortex-m4"), thorough("cortex-m7"), thorough("cortex-m3"), thorough("rv32imc")]


@pytest.mark.parametrize("core", CORES)
def test_columns_of_a_core_equal_the_reference(core: str) -> None:
    figures = flow.measured(KWS01, CODES, load_target(core))
    assert figures.columns == 12
    assert figures.flash < 4700  # RISC-V: 4,602
    assert figures.ram < 3200
    assert 50_000 < figures.instructions < 160_000
    assert figures.first < 5_000


@pytest.mark.parametrize("core", [thorough("cortex-m0plus"), thorough("cortex-m4")])
@pytest.mark.parametrize("spec", [POWER, front_end("log-mel:kws01")], ids=("power", "log-mel"))
def test_other_front_ends_on_a_core(core: str, spec: FrontEnd) -> None:
    assert flow.measured(spec, Quantization(0.5, -3), load_target(core)).columns == 12


def test_another_column_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def off_by_one(self: flow.Reference, samples: object, peak: int = 1) -> object:
        return -1 - columns(self, samples, peak)  # type: ignore[arg-type]

    columns = flow.Reference.columns
    monkeypatch.setattr(flow.Reference, "columns", off_by_one)
    with pytest.raises(MismatchError, match="front end: column 0 of cortex-m3"):
        flow.measured(FrontEnd(window=64, hop=64, fft=64, filters=4, coefficients=2), CODES, load_target("cortex-m3"))


def input_of(*shape: int, bits: int = 8) -> Program:
    tensor = Tensor("x", shape, bits, 0.25, -7)  # type: ignore[arg-type]
    return Program("spotter", "float", {"x": tensor}, (), ("x",), ("x",), "dsp")


@pytest.mark.parametrize(
    ("shape", "columns"), [((49, 10, 1), 49), ((1, 49, 10), 49), ((1, 1, 490), 49), ((1, 1, 10), 1)]
)
def test_columns_are_those_of_the_input(shape: tuple[int, int, int], columns: int) -> None:
    assert flow.fitted(KWS01, input_of(*shape)) == (Quantization(0.25, -7), columns)


@pytest.mark.parametrize(("shape", "bits"), [((10, 49, 1), 8), ((49, 12, 1), 8), ((49, 10, 1), 4)])
def test_other_inputs_are_refused(shape: tuple[int, int, int], bits: int) -> None:
    with pytest.raises(UsageError, match=r"front end: columns of 10 values do not make .*, \d+ x \d+ x 1"):
        flow.fitted(KWS01, input_of(*shape, bits=bits))


def test_files_lie_beside_the_library_and_are_told(tmp_path: Path) -> None:
    network = SimpleNamespace(program=input_of(49, 10, 1), names=Names("spot"))
    facts, report = flow.add_front_end(
        tmp_path, "mfcc:kws01", network, load_target("cortex-m4"), Facts(remarks=("first",)), simulate=False,
    )  # type: ignore[arg-type]  # fmt: skip
    assert report.flash is None
    assert str(report) == "mfcc:kws01, 10 values for every 320 samples at 16000 Hz; not run"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spot_frontend.c", "spot_frontend.h"]
    assert facts.sources == ("spot_frontend.c",)
    assert facts.remarks[0] == "first"
    assert "`spot_frontend.c` makes the input of samples of audio: mfcc, 10 values" in facts.remarks[1]
    header = (tmp_path / "spot_frontend.h").read_text()
    assert "#define SPOT_FRONTEND_COLUMNS 49 " in header
    assert "#define SPOT_FRONTEND_CLIP_SAMPLES 15840 " in header


def test_the_report_and_an_early_word(tmp_path: Path) -> None:
    """A dense layer over ten columns: figures in the report, its page and README; other inputs end at once."""
    network, path = Builder((1, 100), seed=3), tmp_path / "spotter.onnx"
    onnx.save(network.build(network.gemm("x", "dense", 100, 4)).onnx, path)

    def compiled(front_end: str, folder: str) -> tapc.Result:
        options = tapc.Options(wbits=(8,), calibration=8, eval=1, rounding="nearest", front_end=front_end)
        return tapc.compile(path, board="pico", data="random", output=tmp_path / folder, options=options)

    result = compiled("mfcc:kws01", "build")
    own = json.loads((tmp_path / "build" / "report.json").read_text())["front_end"]
    assert result.report.front_end is not None
    assert own["flash"] == result.report.front_end.flash < 4700
    assert (own["name"], own["features"], own["columns"]) == ("mfcc:kws01", 10, 12)
    assert "mfcc:kws01, 10 values for every 320 samples" in (tmp_path / "build" / "report.html").read_text()
    assert f"{own['instructions']:,} instructions a column" in (tmp_path / "build" / "lib" / "README.md").read_text()
    with pytest.raises(UsageError, match=r"columns of 40 values do not make the network's input, 100"):
        compiled("log-mel:kws01", "other")
    assert not (tmp_path / "other").exists()
