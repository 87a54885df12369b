"""What an interpreter of a build's model.tflite needs."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from operators.examples import Instance, case
from tapc.base.errors import DataError
from tapc.cli import main
from tapc.flow.tflite import FILE, operators_of, write_tflite

METHODS = {
    "ABS": "AddAbs", "ADD": "AddAdd", "ARG_MAX": "AddArgMax", "AVERAGE_POOL_2D": "AddAveragePool2D",
    "BATCH_MATMUL": "AddBatchMatMul", "CAST": "AddCast", "CONCATENATION": "AddConcatenation", "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D", "ELU": "AddElu", "GATHER": "AddGather", "HARD_SWISH": "AddHardSwish",
    "L2_NORMALIZATION": "AddL2Normalization", "LEAKY_RELU": "AddLeakyRelu", "LOGISTIC": "AddLogistic",
    "LOG_SOFTMAX": "AddLogSoftmax", "MAXIMUM": "AddMaximum", "MAX_POOL_2D": "AddMaxPool2D", "MEAN": "AddMean",
    "MINIMUM": "AddMinimum", "MUL": "AddMul", "PAD": "AddPad", "PADV2": "AddPadV2", "PRELU": "AddPrelu",
    "QUANTIZE": "AddQuantize", "RELU": "AddRelu", "RESHAPE": "AddReshape", "RESIZE_BILINEAR": "AddResizeBilinear",
    "RESIZE_NEAREST_NEIGHBOR": "AddResizeNearestNeighbor", "SOFTMAX": "AddSoftmax",
    "STRIDED_SLICE": "AddStridedSlice", "SUB": "AddSub", "TANH": "AddTanh", "TRANSPOSE": "AddTranspose",
}  # fmt: skip
"""From TFLite-Micro's micro_mutable_op_resolver.h."""
OPERATORS = (
    "Abs", "Add", "ArgMax", "AveragePool", "Concat", "Conv", "Elu", "Gelu", "HardSwish", "LeakyRelu", "LogSoftmax",
    "MatMul", "Max", "MaxPool", "Min", "Mul", "PRelu", "Pad", "Resize", "Sigmoid", "Slice", "Softmax", "Sub", "Tanh",
)  # fmt: skip


def test_the_operators_of_a_network_are_registered(tmp_path: Path) -> None:
    seen = set()
    for name in OPERATORS:
        for number in range(4):
            made = case([Instance(name, number)], abits=(8,))
            if write_tflite(made.quantized.onnx, "example", tmp_path):
                continue
            text = operators_of(tmp_path)
            counted = re.search(r"^// (\d+ [A-Z0-9_]+(?:, \d+ [A-Z0-9_]+)*)$", text, re.MULTILINE)
            assert counted is not None
            kinds = [one.split()[1] for one in counted[1].split(", ")]
            registered = re.findall(r"resolver\.(\w+)\(\)", text)
            assert registered == [METHODS[kind] for kind in kinds]
            assert f"MicroMutableOpResolver<{len(kinds)}>" in text
            seen |= set(kinds)
    assert len(seen) > 20


def test_ends_are_told_with_their_points(tmp_path: Path) -> None:
    made = case([Instance("Softmax", 0)], abits=(8,))
    assert not write_tflite(made.quantized.onnx, "example", tmp_path)
    shown = CliRunner().invoke(main, ["show", str(tmp_path), "--stage", "tflite"])
    assert shown.exit_code == 0
    assert re.search(r'^// output 0 ".*": int8 1x\d+x\d+x\d+, value = 0.00390625 \* \(code \+128\)$', shown.stdout,
                     re.MULTILINE)  # fmt: skip


def test_folders_without_a_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no model\.tflite"):
        operators_of(tmp_path)
    (tmp_path / FILE).write_bytes(b"TFL3 is no network")
    with pytest.raises(DataError, match="is damaged"):
        operators_of(tmp_path)
