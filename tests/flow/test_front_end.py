"""Front ends on simulated cores, beside a library, and in packages."""

import pytest

from tapc.audio import PRESETS, FrontEnd, Quantization, front_end
from tapc.base.errors import MismatchError
from tapc.flow import front_end as flow
from tapc.hardware.target import load_target
from thorough import thorough

KWS01 = PRESETS["kws01"]
CODES = Quantization(0.5847029089927673, 83)
POWER = FrontEnd(kind="log-mel", spectrum="power", floored="max", hop=480, log="db")
CORES = ["cortex-m0plus", thorough("cortex-m4"), thorough("cortex-m7"), thorough("cortex-m3"), thorough("rv32imc")]


@pytest.mark.parametrize("core", CORES)
def test_columns_of_a_core_equal_the_reference(core: str) -> None:
    figures = flow.measured(KWS01, CODES, load_target(core))
    assert figures.columns == 12
    assert figures.flash < 4500
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
