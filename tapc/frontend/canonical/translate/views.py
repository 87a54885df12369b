"""Operators that only move elements: nothing is written, the positions of their elements are followed."""

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from tapc.frontend.boundary import first_line
from tapc.frontend.canonical.edit import AttributeValue, attribute, constant, content, operand, shape, unsupported
from tapc.frontend.canonical.embedding import embed
from tapc.frontend.canonical.placed import Index, Placed
from tapc.frontend.canonical.translator import Translator, translates

_BY_RUNTIME = ("Resize", "Upsample", "Pad")


@translates(
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Split", "Slice", "Gather", "GatherElements", "GatherND",
    "Expand", "Identity", "Dropout", "Tile", "DepthToSpace", "SpaceToDepth", "ReverseSequence", "Compress", "Trilu",
)  # fmt: skip
def move(t: Translator, node: ir.Node) -> None:
    """Follow a node that moves elements of its first input, where the others are constant."""
    if node.op_type == "Trilu":
        raise unsupported(node, "sets elements of an activation to zero; multiply by a constant mask instead")
    if embed(t, node):
        return
    placed = t.of(node)
    for index in range(1, len(node.inputs)):
        if operand(node, index) is not None:
            t.fixed(node, index)
    for output, index_ in enumerate(moved(node, placed.index, t.opset)):
        if output < len(node.outputs):
            _record(t, node, placed, index_, output)


def _record(t: Translator, node: ir.Node, placed: Placed, index: Index, output: int = 0) -> None:
    value = node.outputs[output]
    t.placed[value] = Placed(placed.base, np.asarray(index, np.int64).reshape(shape(value)))


def moved(node: ir.Node, index: Index, opset: int) -> list[Index]:
    """Return what a node makes of an array of positions, one result per output."""
    proto = ir.to_proto(node)
    assert isinstance(proto, onnx.NodeProto)
    constants = [(i, content(operand(node, i))) for i in range(1, len(node.inputs))]
    names, by_runtime = list(proto.input), node.op_type in _BY_RUNTIME
    kind = onnx.TensorProto.INT32 if by_runtime else onnx.TensorProto.INT64
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [proto],
        "move",
        [info(names[0], kind, index.shape)],
        [info(name, kind, None) for name in proto.output if name],
        [onnx.numpy_helper.from_array(array, names[i]) for i, array in constants if array is not None],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    try:
        results = _in_runtime(model, names[0], index) if by_runtime else _by_reference(model, names[0], index)
    except Exception as error:
        raise unsupported(node, f"cannot be followed: {first_line(error)}") from error
    return [np.asarray(result, np.int64) for result in results]


def _by_reference(model: onnx.ModelProto, name: str, index: Index) -> list[NDArray[np.integer]]:
    from onnx.reference import ReferenceEvaluator

    return list(ReferenceEvaluator(model).run(None, {name: index}))


def _in_runtime(model: onnx.ModelProto, name: str, index: Index) -> list[NDArray[np.integer]]:
    """Run in onnxruntime, whose rounding of coordinates is what networks are trained and checked with."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {name: index.astype(np.int32)}))


@translates("Resize", "Upsample")
def resize(t: Translator, node: ir.Node) -> None:
    """Follow resizing to the nearest element; write linear interpolation of the last axes."""
    mode = attribute(node, "mode", "nearest")
    placed = t.of(node)
    extents, target = placed.index.shape, shape(node.outputs[0])
    if extents == target:
        _record(t, node, placed, placed.index)
    elif mode == "nearest":
        _record(t, node, placed, moved(node, placed.index, t.opset)[0])
    elif mode in ("linear", "bilinear"):
        _linear(t, node, placed)
    else:
        raise unsupported(node, f"mode {mode!r}; nearest and linear are supported")


def _linear(t: Translator, node: ir.Node, placed: Placed) -> None:
    extents, target = placed.index.shape, shape(node.outputs[0])
    rank = len(extents)
    resized = [axis for axis in range(rank) if extents[axis] != target[axis]]
    if rank not in (3, 4) or min(resized) < 2 or extents[0] != 1:
        raise unsupported(node, f"interpolates {list(extents)} to {list(target)}; only the last one or two of the axes")
    if attribute(node, "antialias", 0):
        raise unsupported(node, "antialias=1")
    spatial = (1,) * (4 - rank) + extents[2:]
    value = t.arranged(node, placed, placed.index.reshape(extents[1], *spatial))
    wanted = (1, extents[1], *(1,) * (4 - rank), *target[2:])
    default = "asymmetric" if node.op_type == "Upsample" or t.opset < 11 else "half_pixel"
    mode = attribute(node, "coordinate_transformation_mode", default)
    name = node.name or "resize"
    inputs = [value, None, None, constant(t.graph, f"{name}.sizes", np.array(wanted[2:], np.int64))]
    attributes: dict[str, AttributeValue] = {
        "mode": "linear", "coordinate_transformation_mode": mode, "axes": (2, 3),
    }  # fmt: skip
    result = t.emit(node, "Resize", inputs, attributes, wanted)
    t.result(node, result, np.arange(int(np.prod(wanted))))
