"""Any float ONNX graph of supported operators -> the canonical graph that the rest of tapc reads."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
from onnx import checker, inliner, shape_inference

from tapc.base.errors import DataError, UnsupportedError
from tapc.base.ports import Ports
from tapc.base.strides import strided, visited
from tapc.frontend.boundary import check_elements, first_line
from tapc.frontend.canonical import translate  # noqa: F401 - its operators register themselves
from tapc.frontend.canonical.affine import fold_affine
from tapc.frontend.canonical.branches import check_branches, inline_branches
from tapc.frontend.canonical.constants import check_finite, fold_constants
from tapc.frontend.canonical.edit import shape, unsupported
from tapc.frontend.canonical.embedding import check_tokens, is_tokens, is_whole, token_elements
from tapc.frontend.canonical.gelu import fuse_gelu
from tapc.frontend.canonical.guards import fuse_guards
from tapc.frontend.canonical.interface import arrangement, describe, layouts, place_input, place_output
from tapc.frontend.canonical.names import name_nodes, name_outputs, unique_names
from tapc.frontend.canonical.norms import fuse_norms
from tapc.frontend.canonical.one_hot import fuse_one_hot
from tapc.frontend.canonical.placed import Index
from tapc.frontend.canonical.slices import split_layers
from tapc.frontend.canonical.spatial import fold_pads
from tapc.frontend.canonical.translate.batched import attention
from tapc.frontend.canonical.translator import Translator, translated
from tapc.frontend.onnx_checks import check_sizes
from tapc.graph.opset import OPSET
from tapc.graph.rules import opset_of, rules

_MOST_INDICES = 1 << 16
_SHAPELESS = ("GroupNormalization",)
"""Operators whose shape inference onnx leaves to their function's body; they keep the shape."""
_NOTHING = ("Identity", "Dropout", "Cast")
IR_VERSION = 10
_MOST_TRIES = 3
_ROUNDS = 4
_MOST_BRANCHES = 64
"""Of branches within branches."""


@dataclass(frozen=True, eq=False)
class Canonical:
    """A canonical graph and how it hangs together with its source.

    Attributes
    ----------
    onnx : onnx.ModelProto
        See `canonicalize`.
    inputs, outputs : tuple of Port
    sources : dict of str to str
        Canonical tensor -> the source tensor whose elements it holds, all of them.
    rows : dict of str to (str, ndarray of int64)
        Canonical weights or bias -> the source's constant, and the row of it for each of their rows.
    """

    onnx: onnx.ModelProto
    inputs: Ports
    outputs: Ports
    sources: dict[str, str] = field(default_factory=dict)
    rows: dict[str, tuple[str, Index]] = field(default_factory=dict)


def canonicalize(model: onnx.ModelProto) -> onnx.ModelProto:
    """Bring a float ONNX graph to canonical form; see `canonical_form`."""
    return canonical_form(model).onnx


def canonical_form(
    model: onnx.ModelProto, *, channels_last: bool = False, pairs: Mapping[str, str] | None = None
) -> Canonical:
    """Bring a float ONNX graph to canonical form; the argument is left as it is.

    Canonical: batch 1, static shapes, opset 21 and IR 10; what is quantized, inputs and outputs included, has the shape
    (1, C, H, W) or (1, F) and is float32, between such tensors there may be moves of any rank; only operators that
    have a rule, BatchNormalization folded, every layer with a bias, unique names derived from the source's.

    Parameters
    ----------
    model : onnx.ModelProto
        Checked model with static input shape, any opset from 7.
    channels_last : bool
        Inputs and outputs of four axes are (1, H, W, C).
    pairs : mapping of str to str, optional
        Input -> output that it is in the next call: both are arranged alike.

    Returns
    -------
    Canonical
        The same for the same argument.

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
    check_finite(graph)
    fuse_one_hot(graph)
    fuse_guards(graph)
    _remove_unused(graph)
    _check_operators(graph)
    fuse_gelu(graph)
    fuse_norms(graph)
    _remove_unused(graph)
    plain = ir.to_proto(work)
    usual = [
        token_elements(shape(value)) if is_tokens(value) else arrangement(shape(value), channels_last=channels_last)
        for value in graph.inputs
    ]
    found, demanded = _translate(work, opset, usual, channels_last=channels_last)
    if any(wanted is not None for wanted in demanded):
        # An input is arranged as the first that reads all of it needs it.
        asked = [_asked(*pair) for pair in zip(usual, demanded, strict=True)]
        if any(a.shape != b.shape or not np.array_equal(a, b) for a, b in zip(asked, usual, strict=True)):
            found, _ = _translate(_decode(plain), opset, asked, channels_last=channels_last)
            usual = asked
    for _ in range(_MOST_TRIES if pairs else 0):
        alike = _as_outputs(found, usual, pairs or {})
        if alike is None:
            break
        usual = alike
        found, _ = _translate(_decode(plain), opset, usual, channels_last=channels_last)
    return found


def _as_outputs(found: Canonical, elements: list[Index], pairs: Mapping[str, str]) -> list[Index] | None:
    """Return the inputs' elements, those of states as their outputs have them; None where they are so already."""
    outputs, changed = {port.name: port for port in found.outputs}, list(elements)
    for position, port in enumerate(found.inputs):
        after = outputs.get(pairs.get(port.name, ""))
        if after is None or math.prod(after.source or after.shape) != elements[position].size:
            continue  # that they differ in shape is told elsewhere
        order = np.asarray(visited(after.loops)) if after.source else np.arange(after.size)
        wanted = order.reshape(after.shape[1:]).astype(np.int64)
        if wanted.shape != elements[position].shape or not np.array_equal(wanted, elements[position]):
            changed[position] = wanted
    return None if all(a is b for a, b in zip(changed, elements, strict=True)) else changed


def _asked(elements: Index, wanted: Index | None) -> Index:
    """Return an input's elements in the arrangement that was asked for, where it may be arranged so."""
    if wanted is None or wanted.ndim != elements.ndim:
        return elements
    found = elements.reshape(-1)[wanted]
    # Loops tell an arrangement from the source's first element on.
    return elements if found.flat[0] or strided(found.reshape(-1)) is None else found


def _translate(
    work: ir.Model, opset: int, elements: list[Index], *, channels_last: bool
) -> tuple[Canonical, list[Index | None]]:
    """Write the canonical graph with inputs of these elements; return it, and what was asked of the inputs."""
    graph = work.graph
    t = Translator(graph, opset)
    inlets = list(graph.inputs)
    bases = [place_input(t, value, each) for value, each in zip(inlets, elements, strict=True)]
    for value, base in zip(inlets, bases, strict=True):
        if is_tokens(value):
            base.type = ir.TensorType(ir.DataType.INT64)
    known = translated()
    last, source_nodes = None, list(graph)
    for node in source_nodes:
        last = node
        if node in t.deferred:
            attention(t, node)
        else:
            known[node.op_type](t, node)
    inputs = tuple(describe(str(value.name), shape(value), each) for value, each in zip(inlets, elements, strict=True))
    outputs, t.asks = [], False
    for position, value in enumerate(list(graph.outputs)):
        placed = t.placed.get(value)
        if placed is None or last is None:
            raise UnsupportedError(f"output {value.name!r} is not computed from the input; there is nothing to compile")
        base, order = place_output(t, last, placed, channels_last=channels_last)
        outputs.append(describe(str(value.name), shape(value), order))
        if base in bases and all(node.op_type in _NOTHING for node in source_nodes):
            raise UnsupportedError(f"output {value.name!r} is not computed from the input; there is nothing to compile")
        graph.outputs[position] = base
    graph.inputs[:] = bases
    _remove_unused(graph)
    check_tokens(graph)
    fold_affine(graph, layers_only=True)
    split_layers(graph)
    fold_affine(graph)
    fold_pads(graph)
    proto, names = _finish(work, [outlet.name for outlet in outputs])
    onnx.helper.set_model_props(proto, layouts((*inputs, *outputs)))
    sources = {str(value.name): name for value, name in t.sources.items() if value.name in names}
    rows = {str(value.name): found for value, found in t.rows.items() if value.name in names}
    return Canonical(proto, inputs, tuple(outputs), sources, rows), [t.demanded.get(base) for base in bases]


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
    rounds, chosen = 0, True
    while rounds < _ROUNDS or (chosen and rounds < _MOST_BRANCHES):
        rounds += 1
        work = _decode(_infer(proto))
        for node in work.graph:
            value = node.inputs[0] if node.op_type in _SHAPELESS else None
            if value is not None and value.shape is not None:
                node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
        fold_constants(work.graph, opset)
        chosen = inline_branches(work.graph)
        _remove_unused(work.graph)
        if not chosen and all(
            value.shape is not None and value.shape.is_static() for node in work.graph for value in node.outputs
        ):
            break
        proto = ir.to_proto(work)
    check_branches(work.graph)
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
            if value.dtype != ir.DataType.FLOAT and not (is_tokens(value) if role == "input" else is_whole(value)):
                raise UnsupportedError(f"{role} {value.name!r} is {value.dtype}; pass the float32 network")


def _check_operators(graph: ir.Graph) -> None:
    for node in graph:
        if node.op_type not in translated():
            raise _unknown(node.name or str(node.outputs[0].name), node.op_type)


def _unknown(node: str, operator: str) -> UnsupportedError:
    hint = "; pass the float network, tapc quantizes it itself" if "Linear" in operator else ""
    return UnsupportedError(
        f"node {node!r}: operator {operator} is not supported{hint}; supported: {', '.join(sorted(translated()))}"
    )


def _finish(work: ir.Model, outputs: list[str]) -> tuple[onnx.ModelProto, set[str]]:
    graph = work.graph
    name_outputs(graph, outputs)
    _remove_unused(graph)
    for node in graph:
        if node.op_type not in rules():
            raise unsupported(node, "has no kernel in this form")
        node.doc_string = None
        node.metadata_props.clear()
    unique_names(graph)
    check_finite(graph)
    proto = ir.to_proto(work)
    opset, ir_version = opset_of(proto.graph.node)
    result = onnx.helper.make_model(
        proto.graph,
        producer_name="tapc",
        opset_imports=[onnx.helper.make_opsetid("", opset)],
        ir_version=ir_version,
    )
    result.graph.doc_string = ""
    del result.graph.value_info[:]
    del result.graph.metadata_props[:]
    try:
        checker.check_model(result, full_check=True)
        inferred = shape_inference.infer_shapes(result, strict_mode=True)
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        raise DataError(f"the graph's shapes do not fit together: {error}") from error
    names = {str(value.name) for node in graph for value in (*node.inputs, *node.outputs) if value is not None}
    return inferred, names
