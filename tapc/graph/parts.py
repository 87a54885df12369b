"""Names of layers in parts, by which what joins them again is known."""

from collections.abc import Iterable

import onnx

JOIN = "Concat"
_JOINED = "_join"


def part_name(name: str, index: int) -> str:
    """Return the name of a part of a node or tensor."""
    return f"{name}_part{index}"


def join_name(layer: str) -> str:
    """Return the name of the node that joins a layer's parts."""
    return f"{layer}{_JOINED}"


def joins(nodes: Iterable[onnx.NodeProto]) -> dict[str, tuple[str, ...]]:
    """Return tensors that are parts of one layer, joined -> these parts."""
    return {str(node.output[0]): tuple(map(str, node.input)) for node in nodes if is_join(node)}


def is_join(node: onnx.NodeProto) -> bool:
    """Whether a node joins the parts of one layer."""
    named = node.op_type == JOIN and node.name.endswith(_JOINED)
    return named and all(name.endswith(part_name("", index)) for index, name in enumerate(node.input))


def layers_in_parts(nodes: Iterable[onnx.NodeProto]) -> dict[str, tuple[str, ...]]:
    """Return layers in parts -> the layers that these are."""
    return {
        node.name.removesuffix(_JOINED): tuple(
            part_name(node.name.removesuffix(_JOINED), index) for index in range(len(node.input))
        )
        for node in nodes
        if is_join(node)
    }
