"""Quantized ONNX -> the float graph of its real values, with marks, and what it gives.

QuantizeLinear and DequantizeLinear pairs, the operators of integers (QLinearConv and its kin), a Clip between a pair
as Brevitas writes it, and QONNX's Quant and BipolarQuant. Integers between operators become the real values that they
stand for; constants are dequantized.
"""

import onnx

import tapc.frontend.quantized_operators  # noqa: F401 - they register themselves
from tapc.frontend.quantized_ordinary import ordinary
from tapc.frontend.quantized_reader import INTEGERS, Reader, known
from tapc.graph.given import Given


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether a graph has quantizers, or inputs or outputs in 8-bit integers."""
    ends = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    own = {kind for kind in known() if kind != "Clip"}  # a clamp on its own shows nothing
    return any(node.op_type in own for node in model.graph.node) or any(kind in INTEGERS for kind in ends)


def real_graph(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Given]:
    """Read a quantized ONNX graph.

    Parameters
    ----------
    model : onnx.ModelProto
        Left as it is.

    Returns
    -------
    onnx.ModelProto
        The graph of real values, with marks; see `tapc.frontend.given`.
    Given

    Raises
    ------
    UnsupportedError
        Scales that are computed, more than 8 bits, or integers in an operator that is not known.
    """
    reader = Reader(model)
    kinds = set()
    for node in model.graph.node:
        if node.op_type in known():
            if node.op_type != "Clip":
                kinds.add(_family(node))
            known()[node.op_type](reader, node)
        else:
            ordinary(reader, node)
    return reader.finish(), Given(
        " and ".join(sorted(kinds)) or "ONNX with integer inputs",
        "",
        reader.points,
        reader.layers,
        tuple(reader.operands),
    )


def _family(node: onnx.NodeProto) -> str:
    if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Clip"):
        return "QDQ ONNX"
    return "QONNX" if node.op_type in ("Quant", "BipolarQuant", "Trunc") else "QOperator ONNX"
