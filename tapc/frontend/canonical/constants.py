"""Constant nodes and everything that is computed from constants or static shapes become initializers."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.base.errors import DataError
from tapc.frontend.boundary import check_elements, first_line
from tapc.frontend.canonical.edit import constant, content, replace, unsupported

_NEVER = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "If", "Loop", "Scan")


def fold_constants(graph: ir.Graph, opset: int) -> None:
    """Evaluate Constant, Shape and Size nodes and nodes whose inputs are all constant.

    Parameters
    ----------
    graph : onnx_ir.Graph
        Edited in place; shapes must have been inferred.
    opset : int
        Version of the default domain that the nodes are written in.

    Raises
    ------
    UnsupportedError
        A constant expression that the ONNX reference evaluator cannot compute.
    """
    for node in list(graph):
        if node.domain or node.op_type in _NEVER:
            continue
        extents = _static_shape(node)
        array = _evaluate(node, opset) if extents is None else extents
        if array is not None:
            replace(node, constant(graph, node.outputs[0].name or node.op_type, array))


def check_finite(graph: ir.Graph) -> None:
    """Raise DataError naming the first initializer that holds NaN, or infinity outside a scalar bound."""
    for name, value in graph.initializers.items():
        array = content(value)
        if array is None or array.dtype.kind != "f" or np.isfinite(array).all():
            continue
        bound = array.size == 1 and not np.isnan(array).any()
        if not bound:
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise DataError(
                f"initializer {name!r} holds {array[index]} at index {list(index)}; retrain or repair the model"
            )


def _static_shape(node: ir.Node) -> NDArray[np.int64] | None:
    if node.op_type not in ("Shape", "Size") or node.inputs[0] is None:
        return None
    dims = node.inputs[0].shape
    if dims is None or not dims.is_static():
        return None
    extents = np.array(dims.numpy(), np.int64)
    if node.op_type == "Size":
        return np.array(extents.prod(), np.int64)
    start = node.attributes["start"].as_int() if "start" in node.attributes else 0
    end = node.attributes["end"].as_int() if "end" in node.attributes else None
    return extents[start:end]


def _result_shape(node: ir.Node, feeds: Mapping[str, NDArray[np.generic]]) -> tuple[int, ...]:
    """Return the shape that evaluating a node of constants gives, or a bound of it, before memory is taken for it."""
    arrays = [feeds[str(value.name)] for value in node.inputs if value is not None]
    whole = [int(item) for array in arrays[-1:] if array.dtype.kind in "iu" and array.ndim < 2 for item in array.flat]
    if node.op_type in ("ConstantOfShape", "Expand"):
        return tuple(whole) if node.op_type == "ConstantOfShape" else (*whole, *arrays[0].shape)
    if node.op_type == "Tile":
        return (*arrays[0].shape, *whole)
    if node.op_type == "Range" and len(arrays) == 3:
        start, limit, step = (float(array.reshape(-1)[0]) for array in arrays)
        return (int(abs(limit - start) / abs(step)) + 1 if step else 0,)
    known = node.outputs[0].shape
    if known is not None and known.is_static():
        return tuple(int(extent) for extent in known.numpy())
    return (sum(array.size for array in arrays) * (len(arrays) if node.op_type == "Einsum" else 1),)


def _evaluate(node: ir.Node, opset: int) -> NDArray[np.generic] | None:
    present = [value for value in node.inputs if value is not None]
    feeds = {str(value.name): array for value in present if (array := content(value)) is not None}
    if len(node.outputs) != 1 or any(str(value.name) not in feeds for value in present):
        return None
    if not present and node.op_type != "Constant":
        return None
    check_elements(str(node.outputs[0].name), _result_shape(node, feeds))
    from onnx.reference import ReferenceEvaluator

    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    output = onnx.helper.make_value_info(node.outputs[0].name, onnx.TypeProto())
    model = onnx.helper.make_model(
        onnx.helper.make_graph([ir.to_proto(node)], "constant", inputs, [output]),
        opset_imports=[onnx.helper.make_opsetid("", opset)],
    )
    try:
        (array,) = ReferenceEvaluator(model).run(None, feeds)
    except Exception as error:
        raise unsupported(node, f"the constant expression cannot be evaluated: {first_line(error)}") from error
    return np.asarray(array)
