"""Random networks that the NPU takes, and what is compared of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from graph_builder import Model
from operators.examples import Case, Instance, case
from tapc.base.errors import UnsupportedError
from tapc.device.verify import Verification
from tapc.flow.npu_divided import lowered_of
from tapc.flow.npu_image import run_divided
from tapc.graph.analysis import analyse
from tapc.graph.interface import input_ports
from tapc.hardware.board import load_board
from tapc.hardware.npu import Npu
from tapc.ir.lowering import QdqGraph
from tapc.ir.program import Program
from tapc.ir.tflite import TfliteNetwork, tflite_of, without_form
from tapc.lower.codes import input_codes, random_codes
from tapc.lower.facts import Facts
from tapc.lower.from_onnx import program_from_onnx
from tapc.npu.library import divided_files
from tapc.npu.optimized import Optimized, read
from tapc.npu.parts import Divided, divide
from tapc.npu.vela import Compiled, compile_file
from tapc.quantize import calibrate, quantize, uniform_bits

OPERATORS = (
    "Add", "AveragePool", "Clip", "Concat", "Conv", "Flatten", "Gemm", "GlobalAveragePool", "HardSigmoid",
    "HardSwish", "LeakyRelu", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "PRelu", "Pad", "ReduceMean", "Relu",
    "Sigmoid", "Softmax", "Sub", "Tanh",
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
    """Whether TFLite has it, and not as what vela leaves to the CPU."""
    try:
        _, network = _written(case([instance], abits=(8,)))
    except UnsupportedError:
        return False
    model = schema.Model.GetRootAs(network.blob, 0)
    kinds = {model.OperatorCodes(i).BuiltinCode() for i in range(model.OperatorCodesLength())}
    if schema.BuiltinOperator.PRELU in kinds:
        return not compile_file(network.blob, accelerator()).on_cpu
    return schema.BuiltinOperator.CAST not in kinds


@dataclass(frozen=True, eq=False)
class Quantized:
    """A float network in integers, and samples of its inputs."""

    model: onnx.ModelProto
    x: NDArray[np.float32]


def quantized(network: Model, bits: int = 8, samples: int = 16) -> Quantized:
    """Quantize a network of `graph_builder`, with samples that are distributed normally."""
    size = sum(port.size for port in input_ports(network.onnx))
    shape = network.onnx.graph.input[0].type.tensor_type.shape.dim
    x = np.random.default_rng(0).normal(0, 1, (samples, size)).astype(np.float32)
    if len(network.onnx.graph.input) == 1:
        x = x.reshape(samples, *(d.dim_value for d in shape[1:]))
    analysed = analyse(network.onnx, "example")
    calibration = calibrate(network, x, seed=0)
    made = quantize(network, analysed, uniform_bits(analysed, bits, 8), calibration, x=x, rounding="nearest")
    return Quantized(made.onnx, x)


def divided(given: Quantized | Case, cpu: Iterable[str] = (), npu: Npu | None = None) -> Divided:
    """Divide a network between an NPU and a Cortex-M55; `cpu` are operators that stay, beside those that must."""
    model = given.model if isinstance(given, Quantized) else given.quantized.onnx
    program, weights = program_from_onnx(model, "example", "tflite", "mve"), QdqGraph(model)
    reasons = without_form(program, weights) | dict.fromkeys(cpu, "a test keeps it")
    return divide(program, weights, npu or accelerator(), reasons)


def in_image(made: Divided, codes: NDArray[np.int64], folder: Path, npu: Npu | None = None) -> tuple[Verification, int]:
    """Run samples in an image; returns what was compared, and how many registers were written."""
    lowered = lowered_of(made)
    for name, text in divided_files(lowered, npu or accelerator(), Facts()).items():
        (folder / name).write_text(text)
    return run_divided(folder, lowered, npu or accelerator(), codes)
