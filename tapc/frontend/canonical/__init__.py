"""Any float ONNX graph of supported operators -> the canonical graph that the rest of tapc reads."""

import onnx
import onnx_ir as ir
from onnx import checker, inliner, shape_inference

from tapc.base.errors import DataError, UnsupportedError
from tapc.frontend.boundary import check_elements, first_line
from tapc.frontend.canonical.affine import fold_affine
from tapc.frontend.canonical.constants import check_finite, fold_constants
from tapc.frontend.canonical.edit import shape, unsupported
from tapc.frontend.canonical.elementwise import canonical_elementwise
from tapc.frontend.canonical.gelu import fuse_gelu
from tapc.frontend.canonical.linear import canonical_layers
from tapc.frontend.canonical.moves import fold_moves
from tapc.frontend.canonical.names import name_nodes, name_outputs, unique_names
from tapc.frontend.canonical.reshaping import canonical_reshapes, remove_identities
from tapc.frontend.canonical.spatial import canonical_pools, fold_pads
from tapc.frontend.canonical.tokens import canonical_tokens
from tapc.frontend.onnx_checks import check_sizes
from tapc.graph.rules import rules

_MOST_INDICES = 1 << 16
OPSET = 21
IR_VERSION = 10
FOLDED = (
    "BatchNormalization",
    "Cast",
    "Div",
    "Dropout",
    "Erf",
    "Expand",
    "Gather",
    "Identity",
    "Mul",
    "ReduceMean",
    "Slice",
    "Split",
    "Squeeze",
    "Sub",
    "Unsqueeze",
)
"""Operators that canonicalization turns into others or removes, where that is possible."""


def canonicalize(model: onnx.ModelProto) -> onnx.ModelProto:
    """Bring a float ONNX graph to canonical form; the argument is left as it is.

    Canonical: batch 1, static shapes, opset 21 and IR 10, float32 inputs and outputs of rank 2 or 4 (NCHW),
    only operators that have a rule, BatchNormalization folded, every layer with a bias, unique names derived from the
    source's.

    Parameters
    ----------
    model : onnx.ModelProto
        Checked model with static input shape, any opset from 7.

    Returns
    -------
    onnx.ModelProto
        The canonical model; the same bytes for the same argument.

    Raises
    ------
    UnsupportedError
        Operator, attribute or dynamic shape that tapc does not lower; names the node.
    DataError
        NaN or infinite weights, or a graph whose shapes contradict each other.
    """
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), OPSET)
    work = _with_static_shapes(model, opset)
    graph = work.graph
    _check_interface(graph)
    outputs = [str(value.name) for value in graph.outputs]
    check_finite(graph)
    _check_operators(graph)
    remove_identities(graph)
    fuse_gelu(graph)
    canonical_tokens(graph, opset)
    canonical_layers(graph)
    fold_moves(graph, opset)
    canonical_reshapes(graph)
    fold_affine(graph)
    fold_pads(graph)
    canonical_pools(graph)
    canonical_elementwise(graph, opset)
    canonical_reshapes(graph)
    return _finish(work, outputs)


def _with_static_shapes(model: onnx.ModelProto, opset: int) -> ir.Model:
    """Alternate shape inference and constant folding until every tensor has a static shape."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    # Up to IR version 3 initializers had to be inputs as well; without these they would not be known to be constant.
    proto.ir_version = max(proto.ir_version, IR_VERSION)
    check_sizes(proto)
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    for node in proto.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise _unknown(node.name or node.output[0], f"{node.domain}.{node.op_type}")
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    # Stated shapes may hold the symbolic batch that has just been fixed: infer them anew.
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    for _ in range(4):
        work = _decode(_infer(proto))
        fold_constants(work.graph, opset)
        _remove_unused(work.graph)
        if all(value.shape is not None and value.shape.is_static() for node in work.graph for value in node.outputs):
            break
        proto = ir.to_proto(work)
    name_nodes(work.graph)
    return work


def _decode(proto: onnx.ModelProto) -> ir.Model:
    try:
        work: ir.Model = ir.from_proto(proto)
        ir.to_proto(work)
    except (ir.serde.SerdeError, ValueError, TypeError) as error:
        raise DataError(f"the ONNX graph cannot be decoded: {error}") from error
    return work


def _infer(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        # Shapes alone first: the contents of index tensors are followed only where they are few.
        _check_extents(shape_inference.infer_shapes(proto))
        return _check_extents(shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True))
    except shape_inference.InferenceError as error:
        raise DataError(f"the graph's shapes do not fit together: {first_line(error)}") from error


def _check_extents(proto: onnx.ModelProto) -> onnx.ModelProto:
    for value in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output):
        tensor = value.type.tensor_type
        extents = [dim.dim_value for dim in tensor.shape.dim]
        check_elements(value.name, extents)
        indices = tensor.elem_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32) and len(extents) == 1
        if indices and extents[0] > _MOST_INDICES:
            raise DataError(f"index tensor {value.name!r} has {extents[0]} elements; up to {_MOST_INDICES} are read")
    return proto


def _remove_unused(graph: ir.Graph) -> None:
    for node in reversed(list(graph)):
        if not any(output.uses() or output.is_graph_output() for output in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            graph.initializers.pop(name)


def _check_interface(graph: ir.Graph) -> None:
    for values, role in ((graph.inputs, "input"), (graph.outputs, "output")):
        if not values:
            raise UnsupportedError(f"the network has no {role}; there is nothing to compile")
        for value in values:
            if value.dtype != ir.DataType.FLOAT:
                raise UnsupportedError(f"{role} {value.name!r} is {value.dtype}; pass the float32 network")


def _check_operators(graph: ir.Graph) -> None:
    for node in graph:
        if node.op_type not in rules() and node.op_type not in FOLDED:
            raise _unknown(node.name or str(node.outputs[0].name), node.op_type)


def _unknown(node: str, operator: str) -> UnsupportedError:
    hint = "; pass the float network, tapc quantizes it itself" if "Linear" in operator else ""
    folded = [name for name in FOLDED if name not in rules()]
    return UnsupportedError(
        f"node {node!r}: operator {operator} is not supported{hint}; "
        f"supported: {', '.join(rules())}; folded where possible: {', '.join(folded)}"
    )


def _finish(work: ir.Model, outputs: list[str]) -> onnx.ModelProto:
    graph = work.graph
    name_outputs(graph, outputs)
    _remove_unused(graph)
    for node in graph:
        if node.op_type not in rules():
            raise unsupported(node, "could not be folded")
        _check_result(node)
        node.doc_string = None
        node.metadata_props.clear()
    unique_names(graph)
    check_finite(graph)
    proto = ir.to_proto(work)
    result = onnx.helper.make_model(
        proto.graph,
        producer_name="tapc",
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    result.graph.doc_string = ""
    del result.graph.value_info[:]
    del result.graph.metadata_props[:]
    try:
        checker.check_model(result, full_check=True)
        return shape_inference.infer_shapes(result, strict_mode=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        raise DataError(f"the graph's shapes do not fit together: {error}") from error


def _check_result(node: ir.Node) -> None:
    output = node.outputs[0]
    extents = shape(output)
    if len(extents) not in (2, 4) or extents[0] != 1:
        raise unsupported(
            node, f"its output has shape {list(extents)}; only (1, C, H, W) and (1, features) are supported"
        )
    if output.dtype != ir.DataType.FLOAT:
        raise unsupported(node, f"its output is {output.dtype}; use float32 throughout")
