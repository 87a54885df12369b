"""QDQ ONNX -> integer program: the scales and zero points of the model decide every number."""

import numpy as np
import onnx

import tapc.operators  # noqa: F401 - they register themselves
from tapc.base.arithmetic import Mode
from tapc.base.detector import detector
from tapc.base.errors import DataError, UnsupportedError
from tapc.base.isa import Isa
from tapc.graph.interface import input_ports
from tapc.graph.state import states
from tapc.ir.decoding import decoding
from tapc.ir.keeping import keeping
from tapc.ir.lowering import Lowering, handlers
from tapc.ir.program import Op, Program, Tensor


def program_from_onnx(model: onnx.ModelProto, name: str, mode: Mode, isa: Isa, *, detections: bool = True) -> Program:
    """Lower a mixed-precision QDQ model.

    Parameters
    ----------
    model : ModelProto
        As `tapc.quantize` exports it: every activation and constant behind a Q/DQ pair.
    name : str
        Name of the program.
    mode : Mode
        Requantization of the target core.
    isa : {"dsp", "mve", "scalar"}
        Instruction set family of the target core.
    detections : bool
        A detector's maps become detections; without it they are the outputs alone.

    Raises
    ------
    UnsupportedError
        For an operator without integer form, an activation that is not quantized, or a possible int32 overflow.
    """
    lowering, known = Lowering(model, mode), handlers()
    tokens = {port.name: port for port in input_ports(model) if port.tokens}
    for port in tokens.values():
        lowering.tensors[port.name] = Tensor(port.name, (1, port.size, 1), 32, 1.0, 0, port.tokens)
    for node in lowering.graph.nodes:
        if node.op_type == "DequantizeLinear":
            continue
        handler = known.get(node.op_type)
        if handler is None:
            raise UnsupportedError(
                f"node {node.name!r}: operator {node.op_type} has no integer form; supported: {', '.join(known)}"
            )
        with np.errstate(over="ignore"):  # infinite ratios are refused below
            handler(lowering, node)
    graph = lowering.graph
    names = [str(value.name) for value in model.graph.input]
    sources = tuple(name if name in tokens else str(graph.consumers[name][0].output[0]) for name in names)
    targets = tuple(graph.quantized(value.name) for value in model.graph.output)
    for value, key in zip(model.graph.output, targets, strict=True):
        if value.name in lowering.exact.wide and lowering.tensors[key].bits != 32:
            raise DataError(f"the metadata of the graph tell of an output {value.name!r} of 32 bits, which it has not")
    for op in lowering.ops:
        _check_scales(op, lowering.tensors, mode)
    outputs = [str(value.name) for value in model.graph.output]
    program = Program(name, mode, lowering.tensors, tuple(lowering.ops), sources, targets, isa,
                      input_names=tuple(names), output_names=tuple(outputs))  # fmt: skip
    keys = dict(zip((*names, *outputs), (*sources, *targets), strict=True))
    return decoding(keeping(program, states(model), keys), detector(model) if detections else None, keys)


def _check_scales(op: Op, tensors: dict[str, Tensor], mode: Mode) -> None:
    """Raise UnsupportedError where integer arithmetic cannot express the ratio of an operator's scales."""
    y = tensors[op.output]
    try:
        op.check(tensors, mode)
    except ValueError as error:
        raise UnsupportedError(
            f"node {op.name!r} cannot be computed in integers: {error}. Its output reaches from "
            f"{y.scale * (y.low - y.zero):.4g} to {y.scale * (y.high - y.zero):.4g}; scale the weights before it, or "
            "move the bound of the Clip behind it, so that its inputs and its output have ranges of similar size"
        ) from error
