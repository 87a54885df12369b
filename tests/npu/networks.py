"""Random networks that the NPU takes, and what is compared of them."""

from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from operators.examples import Case, Instance, case
from tapc.base.errors import UnsupportedError
from tapc.hardware.board import load_board
from tapc.hardware.npu import Npu
from tapc.ir.lowering import QdqGraph
from tapc.ir.program import Program
from tapc.ir.tflite import TfliteNetwork, tflite_of
from tapc.lower.codes import input_codes, random_codes
from tapc.lower.from_onnx import program_from_onnx
from tapc.npu.optimized import Optimized, read
from tapc.npu.vela import Compiled, compile_file

OPERATORS = (
    "Add", "AveragePool", "Clip", "Concat", "Conv", "Flatten", "Gemm", "GlobalAveragePool", "HardSwish", "LeakyRelu",
    "MatMul", "Max", "MaxPool", "Min", "Mul", "PRelu", "Pad", "ReduceMean", "Relu", "Sigmoid", "Softmax", "Sub", "Tanh",
)  # fmt: skip
"""Operators whose instances vela leaves to the NPU."""


def accelerator(configuration: str = "ethos-u55-128") -> Npu:
    """Return an NPU at 500 MHz with SRAM and a slow flash, as Arm's own example of a high-end system has them."""
    own = load_board("mps3-an547").npu
    assert own is not None
    return own.model_copy(update={"accelerator": configuration})


@dataclass(frozen=True, eq=False)
class OnNpu:
    """A network for the NPU."""

    given: Case
    program: Program
    network: TfliteNetwork
    compiled: Compiled
    optimized: Optimized

    def samples(self, drawn: int = 20) -> NDArray[np.int64]:
        """Return codes that the network is made for, extreme ones, and any."""
        own, random = input_codes(self.program, self.given.x), random_codes(self.program, drawn, 0)
        random = random.reshape(-1, *own.shape[1:])
        random[0], random[1] = -128, 127
        return np.concatenate([own, random])


def on_npu(instances: list[Instance], target: Npu) -> OnNpu:
    """Build those of the instances that TFLite has, each with 8-bit activations and weights of 2, 4 or 8 bits."""
    kept = [instance for instance in instances if _is_taken(instance)]
    given = case(kept, abits=(8,))
    program, network = _written(given)
    compiled = compile_file(network.blob, target)
    return OnNpu(given, program, network, compiled, read(compiled.blob))


def _written(given: Case) -> tuple[Program, TfliteNetwork]:
    program = program_from_onnx(given.quantized.onnx, "example", "tflite", "scalar")
    return program, tflite_of(program, QdqGraph(given.quantized.onnx), "a test")


def _is_taken(instance: Instance) -> bool:
    """Whether TFLite has it, and not as a table, which vela leaves to the CPU."""
    try:
        _, network = _written(case([instance], abits=(8,)))
    except UnsupportedError:
        return False
    model = schema.Model.GetRootAs(network.blob, 0)
    kinds = {model.OperatorCodes(i).BuiltinCode() for i in range(model.OperatorCodesLength())}
    return schema.BuiltinOperator.CAST not in kinds
