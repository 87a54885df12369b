"""What the stages ask of an ONNX operator of the canonical float graph; `tapc.operators` registers the answers.

Stages below the operators find them by name: nothing here imports them.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

import onnx

from tapc.graph.example import Example
from tapc.graph.opset import IR, OPSET
from tapc.graph.reach import Reach

Within = tuple[list[onnx.NodeProto], list[onnx.NodeProto]]
TorchStep = Callable[[list[Any]], Any]
"""From the tensors that a node reads, weights and bias last, to what it gives."""


@dataclass(frozen=True)
class TfliteForm:
    """The TFLite operator of an element-wise ONNX operator: one operand, or two that are broadcast.

    Attributes
    ----------
    kind : str
        Its name in the schema, "LEAKY_RELU".
    leaves : tuple of str
        What TensorFlow calls its result in a scope.
    table : str
        Its options in the schema, "LeakyReluOptions"; empty for none.
    fields : tuple of str
        The options that are read.
    attributes : callable
        From these options by name to the ONNX node's attributes.
    """

    kind: str
    leaves: tuple[str, ...]
    table: str = ""
    fields: tuple[str, ...] = ()
    attributes: Callable[[Mapping[str, Any]], dict[str, Any]] = field(default=lambda options: {})


@dataclass(frozen=True)
class Rule:
    """An ONNX operator.

    Attributes
    ----------
    lower : callable
        (Lowering, node) -> None: brings a node of the QDQ graph into the integer program.
    torch : callable
        (Graph, node, torch.dtype) -> TorchStep: the node in torch, where it is differentiated and trained.
    reach : callable or None
        (Graph, node, operands) -> Reach of its output, given those of its activations and constants in order; None
        where nothing is known.
    weighted : bool
        A layer: its second input holds weights whose bits are chosen, the third a bias.
    table : bool
        A layer whose first input holds weights (rows, channels), of which its second, tokens, chooses rows.
    recurrent : bool
        A layer whose third input holds weights (1, gates, units), by which it takes its own results of the step before.
    activation : bool
        It clamps and does nothing else; the bounds are `Graph.bounds`.
    clamped : bool
        It takes a following activation into the clamp of its own output.
    repeats : bool
        Its output has scale and zero point of its input.
    joins : bool
        Its operands and its output have the same bits.
    only_8_bits : bool
        It has kernels for 8-bit activations alone.
    wide : bool
        It has kernels for 16-bit activations, of 8 bits on the other side, too.
    output : (float, float) or None
        Range of its output where that is fixed; None: calibration finds it.
    distribution : bool
        Its output is a probability for each class.
    chooses : bool
        Its output is the place of the greatest of the channels that it reads, which say more.
    adds : bool
        It adds its operands, of one shape, of which one may be constant.
    maps : bool
        Its kernel reads a constant operand of several values as codes.
    scales : bool
        Positive factors of its input's channels are those of its output's.
    keeps_sign : bool
        What it makes of numbers that are not negative is not negative.
    flattens : bool
        It may join channels and places of a map to features, in this order.
    to_shape : bool
        Its second input is the shape of its output, the batch first.
    arranges : bool
        It moves elements of its first input: in a chain of such nodes the last result alone is stored.
    within : callable or None
        (Graph, node) -> nodes that move elements for this node alone, before and behind it: nothing between is stored.
    elementwise : bool
        It has one input, and makes each element of its output of the element at the same place alone.
    any_size : bool
        It takes maps of any height and width.
    global_pool : bool
        Its output has one pixel, whatever the size of its input.
    pools : {"average", "max", ""}
        What it takes of each window of a map.
    example : callable or None
        (Example, ONNX operator) -> tensor: a random instance of it in a small network; None where it occurs in the
        example of another.
    variant : callable or None
        (Graph, node) -> Rule where some answers depend on the node: `Graph.rule` asks it.
    unoptimized : bool
        onnxruntime's rewrites of quantized graphs break it.
    opset : int
        Version of ONNX that has it, `OPSET` or later.
    check : callable or None
        (Graph, node) -> None: raises UnsupportedError for a node of a canonical graph that has no kernel.
    tflite : TfliteForm or None
        How TFLite spells it; None where the converter knows.
    """

    lower: Callable[[Any, onnx.NodeProto], None]
    torch: Callable[[Any, onnx.NodeProto, Any], TorchStep]
    reach: Callable[[Any, onnx.NodeProto, list[Reach]], Reach] | None = None
    weighted: bool = False
    table: bool = False
    recurrent: bool = False
    activation: bool = False
    clamped: bool = False
    repeats: bool = False
    joins: bool = False
    only_8_bits: bool = False
    wide: bool = False
    output: tuple[float, float] | None = None
    distribution: bool = False
    chooses: bool = False
    adds: bool = False
    maps: bool = False
    scales: bool = False
    keeps_sign: bool = False
    flattens: bool = False
    to_shape: bool = False
    arranges: bool = False
    within: Callable[[Any, onnx.NodeProto], Within] | None = None
    elementwise: bool = False
    any_size: bool = False
    global_pool: bool = False
    pools: Literal["average", "max", ""] = ""
    example: Callable[[Example, str], str] | None = None
    variant: "Callable[[Any, onnx.NodeProto], Rule] | None" = None
    unoptimized: bool = False
    opset: int = OPSET
    check: Callable[[Any, onnx.NodeProto], None] | None = None
    tflite: TfliteForm | None = None

    @property
    def nearest(self) -> bool:
        """Whether it is a layer whose weights are rounded to the nearest, by what it gives: no product of its input."""
        return self.table or self.recurrent


_known: dict[str, Rule] = {}


def register(rule: Rule, *types: str) -> None:
    """Let nodes of these ONNX operators follow a rule."""
    _known.update(dict.fromkeys(types, rule))


@functools.cache
def rules() -> Mapping[str, Rule]:
    """Return ONNX operator -> its rule, of all operators that there are, by name."""
    import_module("tapc.operators")
    return dict(sorted(_known.items()))


def opset_of(nodes: Iterable[onnx.NodeProto], least: int = OPSET) -> tuple[int, int]:
    """Return the version of ONNX that a graph of these nodes needs, and that of its file format."""
    known = (rules().get(node.op_type) for node in nodes)
    opset = max([least, *(rule.opset for rule in known if rule is not None)])
    return opset, IR[opset]


def nodes_where(nodes: Iterable[onnx.NodeProto], asked: Callable[[Rule], bool]) -> list[onnx.NodeProto]:
    """Return the nodes, of any graph, whose rule answers yes; others, as QuantizeLinear, have none."""
    return [node for node in nodes if (known := rules().get(node.op_type)) is not None and asked(known)]


def rule(node: onnx.NodeProto) -> Rule:
    """Return the rule of a node of a canonical graph."""
    return rules()[node.op_type]
