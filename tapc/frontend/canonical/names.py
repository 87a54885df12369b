"""Readable, unique node names: `/layer1/conv1/Conv` -> `layer1.conv1`; `conv_0` where the source has none."""

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from tapc.base.errors import UnsupportedError
from tapc.frontend.canonical.edit import constant, shape

_PREFIX = {"GlobalAveragePool": "global_average_pool", "AveragePool": "average_pool", "MaxPool": "max_pool"}
_GENERATED = re.compile(r"(node_.*|n?\d+(_\d+)*|val_\d+|.*::.*)", re.IGNORECASE)
_WEIGHTED = ("Conv", "Gemm", "MatMul")


def name_nodes(graph: ir.Graph) -> None:
    """Give nodes the module path that the source's node or weight names tell, or the empty name."""
    nodes = list(graph)
    paths = [_path(node) for node in nodes]
    scopes = {path[:depth] for path in paths for depth in range(1, len(path))}
    for node, path in zip(nodes, paths, strict=True):
        node.name = ".".join(_module(node.op_type, path, scopes) if path else _weight_path(node))


def _module(op_type: str, path: tuple[str, ...], scopes: set[tuple[str, ...]]) -> tuple[str, ...]:
    """Drop the operator from the end of a path, unless the scope holds other modules and is not the node's own."""
    operator = path[-1].lower()
    if re.fullmatch(rf"{op_type.lower()}(_\d+)?", operator) is None:
        return path
    module = path[:-1]
    shared = any(scope[: len(module)] == module and len(scope) > len(module) for scope in scopes)
    return (*module, operator) if shared or not module else module


def unique_names(graph: ir.Graph) -> None:
    """Make node names unique and non-empty, and derive the names of tensors and initializers from them."""
    counts: dict[str, int] = defaultdict(int)
    taken: set[str] = set()
    for node in graph:
        base = _PREFIX.get(node.op_type, node.op_type.lower())
        name, generated = node.name or "", not node.name
        stem = base if generated else name
        while not name or name in taken:
            name = f"{stem}_{counts[stem] + (not generated)}"
            counts[stem] += 1
        taken.add(name)
        node.name = name
    _name_values(graph)


def name_outputs(graph: ir.Graph, names: Sequence[str]) -> None:
    """Give the graph's outputs their names; one that is an input, or another output, becomes a Reshape of it.

    Raises
    ------
    UnsupportedError
        An output that no input reaches, or nothing is computed at all.
    """
    computed = {value for value in graph.outputs if value.producer() is not None}
    taken: set[ir.Value] = set()
    for index, name in enumerate(names):
        value = graph.outputs[index]
        if not computed or not (value in computed or value.is_graph_input()):
            raise UnsupportedError(f"output {name!r} is not computed from the input; there is nothing to compile")
        if value in taken or value not in computed:
            extents = constant(graph, f"{name}.shape", np.array(shape(value), np.int64))
            copy = ir.Value(shape=value.shape, type=value.type)
            graph.append(ir.node("Reshape", [value, extents], outputs=[copy], name=""))
            graph.outputs[index] = copy
        taken.add(value)
        graph.outputs[index].name = name


def _name_values(graph: ir.Graph) -> None:
    parts = {
        "Conv": ("", "weight", "bias"),
        "Gemm": ("", "weight", "bias"),
        "LayerNormalization": ("", "weight", "bias"),
        "GatherND": ("weight",),
        "Clip": ("", "min", "max"),
        "Pad": ("", "pads", "value"),
        "Reshape": ("", "shape"),
    }
    boundary = {value.name for value in (*graph.inputs, *graph.outputs)}
    values: list[tuple[ir.Value, str]] = []
    for node in graph:
        for value, part in zip(node.inputs, parts.get(node.op_type, ()), strict=False):
            if part and value is not None:
                values.append((value, f"{node.name}.{part}"))
        if not node.outputs[0].is_graph_output():
            values.append((node.outputs[0], f"{node.name}.out"))
    for index, (value, _) in enumerate(values):
        _rename(graph, value, f"\0{index}")
    for value, name in values:
        while name in boundary:
            name += "_"
        _rename(graph, value, name)


def _rename(graph: ir.Graph, value: ir.Value, name: str) -> None:
    if value.name is not None and value.is_initializer():
        graph.initializers.pop(value.name)
        value.name = name
        graph.register_initializer(value)
    else:
        value.name = name


def _path(node: ir.Node) -> tuple[str, ...]:
    name = node.name or ""
    generated = _GENERATED.fullmatch(name) or re.fullmatch(rf"{node.op_type}(_\d+)?", name)
    if not name or generated:
        return ()
    parts: list[str] = []
    for part in name.strip("/").split("/"):
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part
        else:
            parts.append(part)
    return tuple(re.sub(r"[^\w.-]", "_", part) for part in parts)


def _weight_path(node: ir.Node) -> tuple[str, ...]:
    if node.op_type not in _WEIGHTED or len(node.inputs) < 2 or node.inputs[1] is None:
        return ()
    match = re.fullmatch(r"([A-Za-z_][\w./-]*)[._/](weight|kernel)", node.inputs[1].name or "")
    return (*re.split(r"[./]", match[1]),) if match else ()
