"""What whole compilations are tested with."""

from pathlib import Path

import onnx

import tapc
from graph_builder import residual

BOARD = "stm32h7"
"""The board that most is tested on."""
OPTIONS = {
    "w8a8": tapc.Options(wbits=(8,)),
    "w4a8": tapc.Options(wbits=(4,)),
    "w2a8": tapc.Options(wbits=(2,)),
    "w4a4": tapc.Options(wbits=(4,), abits=(4,)),
    "mixed": tapc.Options(target_bits=4, abits=(4, 8)),
}


def few(options: tapc.Options, board: str = BOARD, **changes: object) -> tapc.Options:
    """Return options for few samples; other boards than the first get weights that are rounded in no time."""
    rounding = options.rounding if board == BOARD else "nearest"
    return tapc.Options(**{**vars(options), "calibration": 16, "eval": 4, "rounding": rounding, **changes})


def compiled(
    folder: Path, board: str, name: str, model: onnx.ModelProto | None = None, **changes: object
) -> tapc.Report:
    """Compile a network, by default a small residual one, at 8 bits into `folder/name`, in little time."""
    onnx.save(model or residual().onnx, folder / "net.onnx")
    options = {"wbits": (8,), "calibration": 8, "eval": 2, "rounding": "nearest", "equalize": False} | changes
    return tapc.compile(
        folder / "net.onnx", board=board, data="random", output=folder / name, options=tapc.Options(**options)  # type: ignore[arg-type]
    ).report  # fmt: skip
