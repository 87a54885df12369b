"""Random instances of every operator, several of them in one small quantized network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from zlib import crc32

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from graph_builder import Model
from tapc.base.ports import split, typed
from tapc.graph.analysis import analyse
from tapc.graph.example import Example, network
from tapc.graph.interface import input_ports
from tapc.graph.network import Bits, Group
from tapc.graph.rules import rules
from tapc.ir.program import Op
from tapc.quantize.activations import activation_parameters
from tapc.quantize.calibration import Calibration, TensorStatistics, calibrate
from tapc.quantize.model import QuantizedModel, quantize
from tapc.quantize.runtime import batched, session

OPERATORS = tuple(name for name, rule in rules().items() if rule.example is not None)
SAMPLES = 16
WIDE = 3
"""Of so many numbers one has activations of 16 bits, where there are kernels for them."""
_OF_TFLITE = {"LogSoftmax": (1 / 16, 127), "LpNormalization": (1 / 128, 0)}
"""Scales and zero points that TFLite gives results, and has integers for."""
_LEVELS = {8: (-128, 127), 4: (0, 15)}


@dataclass(frozen=True)
class Instance:
    """An instance of an operator; what it is depends on these alone, whatever network it is built into."""

    operator: str
    number: int

    @property
    def prefix(self) -> str:
        return f"{self.operator}_{self.number}_"

    def rng(self, what: int) -> np.random.Generator:
        # Operators of one example draw the same: their kernels, which are alike, are built once.
        example = rules()[self.operator].example
        assert example is not None
        return np.random.default_rng([crc32(example.__module__.encode()), self.number, what])

    def build(self) -> tuple[Example, str]:
        """Return the nodes, and the output."""
        e = Example(self.rng(0), self.prefix)
        example = rules()[self.operator].example
        assert example is not None
        return e, e.end(example(e, self.operator))

    def __str__(self) -> str:
        return f"{self.operator}:{self.number}"


def owner(name: str) -> Instance:
    """Return the instance that a node or tensor belongs to."""
    operator, number, _ = name.split("_", 2)
    return Instance(operator, int(number))


@dataclass(frozen=True, eq=False)
class Case:
    """A float network, the same with random bits, and samples (N, ...) of its inputs."""

    instances: tuple[Instance, ...]
    float_model: onnx.ModelProto
    quantized: QuantizedModel
    x: NDArray[np.float32]

    @cached_property
    def _types(self) -> dict[str, str]:
        return {node.name: node.op_type for node in self.float_model.graph.node}

    @cached_property
    def dequantized(self) -> dict[str, NDArray[np.float32]]:
        """Names of codes in the QDQ model -> their values as onnxruntime computes them."""
        made = {name for node in self.quantized.onnx.graph.node for name in node.output}
        readers = {
            n.input[0]: n.output[0]
            for n in self.quantized.onnx.graph.node
            if n.op_type == "DequantizeLinear" and n.input[0] in made
        }
        found = values(self.quantized.onnx, list(readers.values()), self.x)
        return {key: found[reader] for key, reader in readers.items()}

    def operator(self, op: Op) -> str:
        """Return the ONNX operator of one of the program; that of a change of scale is none."""
        return self._types.get(op.name, "")


def values(model: onnx.ModelProto, names: Sequence[str], x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Run onnxruntime and return the named float tensors."""
    exposed, ports = batched(model), input_ports(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    found = session(exposed, optimized=False).run(names, typed(ports, split(ports, x)))
    return dict(zip(names, found, strict=True))


def case(instances: Sequence[Instance], abits: Sequence[int] = (4, 8, 16)) -> Case:
    """Build instances into one network; bits, ranges and samples are random."""
    built = [instance.build() for instance in instances]
    model = network([e for e, _ in built], [output for _, output in built])
    x = np.concatenate(
        [
            source.draw(SAMPLES, rng)
            for instance, (e, _) in zip(instances, built, strict=True)
            for rng in [instance.rng(1)]
            for source in e.sources
        ],
        axis=1,
    )
    if len(model.graph.input) == 1:
        x = x.reshape(SAMPLES, *(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]))
    net = analyse(model, "example")
    draws, wide = ({instance: instance.rng(what) for instance in instances} for what in (2, 3))

    def width_of(group: Group) -> int:
        own = owner(group.tensors[0])
        usual = 8 if group.interface else int(draws[own].choice([bits for bits in abits if bits < 16]))
        if 16 not in abits or own.number % WIDE < WIDE - 1:
            return usual
        return int(wide[own].choice([8, 16, 16])) if group.wide else 8

    bits = Bits(
        {layer.name: int(draws[owner(layer.name)].choice([2, 4, 8])) for layer in net.layers},
        {i: width_of(group) for i, group in enumerate(net.groups)},
    )
    groups = [replace(g, bits=16, interface=True) if bits.activations[i] == 16 else g for i, g in enumerate(net.groups)]
    net = replace(net, groups=tuple(groups))
    width = {tensor: bits.activations[i] for i, group in enumerate(net.groups) for tensor in group.tensors}
    found = calibrate(Model(model), x, seed=0)
    tensors = {
        name: _ranged(values, width[name], draws[owner(name)]) if values.point.like is None else values
        for name, values in found.tensors.items()
    }
    calibration = Calibration(tensors, found.samples)
    quantized = quantize(Model(model), net, bits, calibration, x=x, rounding="nearest")
    return Case(tuple(instances), model, quantized, x)


def _ranged(values: TensorStatistics, bits: int, rng: np.random.Generator) -> TensorStatistics:
    """Let a range be random about that of the samples: some values are clipped, or many codes unused.

    Kept networks have any range; and to search for that of least error would take most of the time.
    """
    if values.point.fixed is not None or values.low == values.high == 0:
        return values
    if bits == 16:
        largest = max(-values.low, values.high) * float(rng.choice([0.53, 0.91, 1, 1, 1.13, 1.87]))
        return replace(values, point=replace(values.point, fixed=(-largest, largest)))
    first, last = _LEVELS[bits]
    low, high = (end * rng.choice([0.53, 0.91, 1, 1, 1.13, 1.87]) for end in (min(values.low, 0), max(values.high, 0)))
    scale = float(np.float32((high - low) / (last - first)))
    zero = int(np.clip(np.rint(first - low / scale), first, last))
    if values.point.op in _OF_TFLITE and rng.random() < 0.5:
        scale, zero = _OF_TFLITE[values.point.op]
    # Of a fixed range a code lies beyond the end.
    ends = (first - zero) * scale, (last + 1 - zero) * scale
    result = replace(values, point=replace(values.point, fixed=ends))
    own = activation_parameters(Calibration({"": result}, 1), bits)[""]
    assert (own.scale, own.zero_point) == (scale, zero)
    return result
