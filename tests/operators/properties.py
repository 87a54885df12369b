"""What holds for every instance of every operator, in floats and in integers.

Each function returns a line for every tensor that breaks it. How often results lie a step beside onnxruntime's is
counted, and judged over many instances.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from operators.examples import Case, owner, values
from operators.recurrent_oracle import stepwise
from tapc.base.arithmetic import Ints, Mode, arithmetics
from tapc.graph.analysis import Graph
from tapc.ir.program import Op, Program, Tensor
from tapc.lower.bounds import bounds
from tapc.lower.codes import apart, input_codes
from tapc.lower.from_onnx import program_from_onnx
from tapc.lower.prune import prune
from tapc.lower.reference import execute
from tapc.operators.attention import Attention
from tapc.operators.recurrent import Recurrent
from tapc.operators.resize import Resize
from tapc.operators.wide import Wide
from tapc.operators.wide_table import WideTable
from tapc.quantize.reach import reaches

MODES = tuple(arithmetic.name for arithmetic in arithmetics())
FLOATS, FAR = 2e-5, 1e-2
"""Of a tensor's largest value: what sums of float32 lose, and what is left where operands cancel or a logarithm of
nearly one is taken, which few tensors may be beyond the first for."""
TIES = {"torch": 0.15, "float": 0.02, "fixed": 0.05, "tflite": 0.25}
"""Codes that differ, of all instances of an operator; of torch, tensors. Halves are rare. TFLite rounds twice:
of ratios below a half first to halves of a code, every second of which lies on one and was rounded up as often as down.
"""
GATE = 13
"""Steps of 2^-15: what a sigmoid or tanh of codes that end at 8 is beside one of all numbers."""
HALVES = {"Resize": 0.125, "GRU": 0.06, "LSTM": 0.06, "RNN": 0.06}
"""Of quarters of a code one in four is a half: rounded to even or, where float32 left it beside, as often not. Gates of
recurrent layers are rounded to 16 bits, and what is a code beside is fed back."""


@dataclass(frozen=True)
class Steps:
    """How many codes differ from onnxruntime's: (operator, mode) -> elements, and those that do."""

    elements: Counter[tuple[str, Mode]] = field(default_factory=Counter)
    different: Counter[tuple[str, Mode]] = field(default_factory=Counter)

    def add(self, other: "Steps") -> None:
        self.elements.update(other.elements)
        self.different.update(other.different)


def codes_of(t: Tensor, value: NDArray[np.float32]) -> Ints:
    """Return codes (N, H, W, C) of a dequantized tensor."""
    nhwc = value.transpose(0, 2, 3, 1) if value.ndim == 4 else value
    codes: Ints = np.rint(nhwc.reshape(len(value), *t.shape) / np.float32(t.scale)).astype(np.int64) + t.zero
    return codes


def of_onnxruntime(given: Case, program: Program) -> dict[str, Ints]:
    """Return the codes of every tensor of the program as onnxruntime computes the QDQ model."""
    known = given.dequantized
    found = dict(zip(program.inputs, apart(program, program.inputs, input_codes(program, given.x)), strict=True))
    return found | {key: codes_of(t, known[key]) for key, t in program.tensors.items() if key in known}


def torch_and_intervals(given: Case, steps: Steps) -> list[str]:
    """Compare the network in torch, and what its tensors can reach, with onnxruntime."""
    from tapc.quantize.torch_graph import TorchGraph, torch

    graph, failures = Graph(given.float_model), []
    whole = [str(node.output[0]) for node in graph.nodes if node.op_type == "ArgMax"]  # whole numbers have no codes
    names = [str(node.output[0]) for node in graph.nodes if node.output[0] not in whole]
    expected = values(given.float_model, names, given.x)
    with torch.no_grad():
        found = TorchGraph(graph).tensors(torch.from_numpy(given.x), names)
    reach = reaches(graph)
    for name in names:
        value, bound = expected[name], reach[name]
        largest = max(float(np.abs(value).max()), 1e-6)
        distance = float(np.abs(found[name].numpy() - value).max()) / largest
        key = str(graph.producer[name].op_type), "torch"
        steps.elements[key] += 1
        steps.different[key] += not distance <= FLOATS
        if not distance <= FAR:
            failures.append(f"{owner(name)}: torch gives {name} {distance:.1e} of its range beside onnxruntime")
        axes = (0, *range(2, value.ndim))
        if np.any(bound.low > value.min(axis=axes) + 1e-4 * largest):
            failures.append(f"{owner(name)}: {name} goes below what it can reach")
        if np.any(bound.high < value.max(axis=axes) - 1e-4 * largest):
            failures.append(f"{owner(name)}: {name} goes above what it can reach")
    return failures


def integers(given: Case, mode: Mode, steps: Steps) -> list[str]:
    """Compare each operator's reference, on the codes that onnxruntime gives it, with onnxruntime.

    Then, of the network as a whole: codes lie within their bounds, and pruning changes no output.
    """
    program = program_from_onnx(given.quantized.onnx, "example", mode, "dsp")
    codes, failures = of_onnxruntime(given, program), []
    for op in program.ops:
        read = [codes[key] for key in op.inputs]
        if op.output not in codes:  # what onnxruntime does within an operator
            codes[op.output] = op.reference(program, read)
        expected = codes[op.output]
        if isinstance(op, Recurrent):
            expected = stepwise(op, program, read[0])
        distance = np.abs(op.reference(program, read) - expected)
        key = given.operator(op), mode
        if all(program.tensors[name].bits != 16 for name in (*op.inputs, op.output)):
            steps.elements[key] += distance.size
            steps.different[key] += int(np.count_nonzero(distance))
        if distance.max() > farthest(op, program):
            failures.append(f"{owner(op.name)}: {mode}, {op}: {distance.max()} steps beside onnxruntime")
    return failures + _bounds_and_pruning(given, program)


def farthest(op: Op, program: Program) -> int:
    """Return by how many codes a result may differ: 1, or what a code within the operator is worth."""
    y = program.tensors[op.output]
    if isinstance(op, WideTable):
        return 1 + int(op.table.error)
    if isinstance(op, Wide) and op.work in ("sigmoid", "tanh"):
        return GATE
    if isinstance(op, Attention):
        # A score that is one code beside takes as much from the weights of all others; these are codes, too.
        value, scores = program.tensors[op.inputs[2]], op.scores
        weights = np.tanh(scores.score.scale / 2) + value.shape[0] * value.shape[1] * scores.weight.scale / 2
        return 1 + int(weights * (value.high - value.low) * value.scale / y.scale)
    if isinstance(op, Resize) and program.mode == "tflite":
        # Places have 10 fractional bits: the sum of as many steps is half a step of them beside for each.
        places = (sum(y.shape[:2]) + 2) / 2 / 1024
        return 1 + int(places * (y.high - y.low))
    return 1


def many_steps(steps: Steps) -> list[str]:
    """Return a line for every operator of which too many codes differ from onnxruntime's."""
    lines = []
    for (operator, mode), elements in sorted(steps.elements.items()):
        share, most = steps.different[operator, mode] / elements, max(TIES[mode], HALVES.get(operator, 0))
        if share > most:
            lines.append(f"{operator}: {mode}: {share:.1%} of {elements} differ; at most {most:.1%} should")
    return lines


def _bounds_and_pruning(given: Case, program: Program) -> list[str]:
    x, seen, failures = input_codes(program, given.x), {}, []
    expected = execute(program, x, observe=lambda op, codes: seen.update({op.output: codes}))
    known = bounds(program)
    for op in program.ops:
        bound, codes = known[op.output], seen[op.output]
        if not np.all((bound.low <= codes) & (codes <= bound.high)):
            failures.append(f"{owner(op.name)}: {program.mode}, {op}: beyond its bounds")
    pruned = apart(program, program.outputs, execute(prune(program, known), x))
    for name, own, other in zip(program.outputs, apart(program, program.outputs, expected), pruned, strict=True):
        if not np.array_equal(own, other):
            failures.append(f"{owner(name)}: {program.mode}: pruning changes {name}")
    return failures
