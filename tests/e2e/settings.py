"""What whole compilations are tested with."""

from pathlib import Path

import onnx

import tapc
from graph_builder import Builder, Model, residual

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


def separable_maps() -> Model:
    """Return a network like MobileNetV1 of visual wake words: depthwise and 1x1 layers whose maps halve."""
    b = Builder((1, 3, 32, 32))
    y, inputs = b.node("Relu", [b.conv("x", "stem", 3, 8, stride=2)], "stem.relu"), 8
    for name, outputs, stride in (("a", 16, 1), ("b", 32, 2), ("c", 32, 1)):
        y = b.node("Relu", [b.conv(y, f"{name}.dw", inputs, inputs, stride=stride, groups=inputs)], f"{name}.relu1")
        y = b.node("Relu", [b.conv(y, f"{name}.pw", inputs, outputs, kernel=1)], f"{name}.relu2")
        inputs = outputs
    y = b.node("Flatten", [b.node("GlobalAveragePool", [y], "pool")], "flatten", axis=1)
    return b.build(b.gemm(y, "fc", 32, 3))


def compiled(
    folder: Path, board: str, name: str, model: onnx.ModelProto | None = None, **changes: object
) -> tapc.Report:
    """Compile a network, by default a small residual one, at 8 bits into `folder/name`, in little time."""
    onnx.save(model or residual().onnx, folder / "net.onnx")
    options = {"wbits": (8,), "calibration": 8, "eval": 2, "rounding": "nearest", "equalize": False} | changes
    return tapc.compile(
        folder / "net.onnx", board=board, data="random", output=folder / name, options=tapc.Options(**options)  # type: ignore[arg-type]
    ).report  # fmt: skip
