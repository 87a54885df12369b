"""The Python interface: what a notebook completes, options as keyword arguments, errors that say what is wrong."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tapc
from tapc.base.errors import UsageError
from tapc.base.options import Options, with_settings


def test_the_interface_is_listed_and_completes() -> None:
    names = dir(tapc)
    assert set(tapc.__all__) <= set(names)
    assert {"compile", "Options", "Report", "Result", "load_board", "TapcError"} <= set(names)
    assert not {"Any", "TYPE_CHECKING", "os"} & set(names)
    for name in names:
        assert getattr(tapc, name) is not None


def test_listing_imports_nothing_heavy() -> None:
    code = "import sys, tapc; dir(tapc); print(sorted({'torch', 'numpy', 'onnx', 'tvm'} & set(sys.modules)))"
    root = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout == "[]\n"


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("wbits", (3,), "2, 4 and 8"), ("wbits", "4", "2, 4 and 8"), ("wbits", (), "2, 4 and 8"), ("wbits", None, "2, 4"),
    ("abits", (2,), "4 and 8"), ("allocator", "milp", "'ilp'"), ("flash", -1, "bytes"), ("flash", "64K", "bytes"),
    ("score_exponent", -1, "0 to 4"), ("ram", 1.5, "bytes"), ("latency", 0, "instructions"),
    ("target_bits", 9, "2 to 8"), ("target_bits", "3", "2 to 8"),
    ("target_bits", float("nan"), "2 to 8"), ("eval", 0, "at least 1"), ("calibration", True, "samples"),
    ("seed", -1, "at least 0"), ("proxy", 3, "name or file"), ("equalize", "yes", "True or False"),
])  # fmt: skip
def test_wrong_values_say_what_would_be_right(name: str, value: object, expected: str) -> None:
    with pytest.raises(UsageError, match=f"option {name}: .*{expected}"):
        Options(**{name: value})  # type: ignore[arg-type]


def test_values_are_brought_to_one_form() -> None:
    options = Options(wbits=[8, 4], abits=8, flash=np.int64(65536), target_bits=3, overrides="bits.toml")  # type: ignore[arg-type]
    assert options == Options(wbits=(4, 8), abits=(8,), flash=65536, target_bits=3.0, overrides=Path("bits.toml"))
    assert type(options.flash) is int
    assert Options(arithmetic="auto") == Options()


def test_options_are_keyword_arguments() -> None:
    assert with_settings(Options(seed=3), {"wbits": (4,)}) == Options(seed=3, wbits=(4,))
    assert with_settings(None, {}) == Options()
    with pytest.raises(UsageError, match="no option wbit; did you mean wbits"):
        with_settings(None, {"wbit": 4})
    with pytest.raises(UsageError, match="no option epochs"):
        tapc.compile("resnet8", board="pico", epochs=3)
    with pytest.raises(UsageError, match="option wbits"):
        tapc.compile("resnet8", board="pico", wbits=(5,))


def test_a_compilation_loads_torch_in_a_process_of_its_own() -> None:
    """Where it is used: imported with the pipeline it would take every command seconds to start."""
    code = "import sys, tapc.flow.pipeline, tapc.flow.npu; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
